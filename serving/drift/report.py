"""What was measured as one page: self-contained, without script, to be read on a screen, in the dark and on paper."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from serving.drift.config import DriftConfig
from serving.drift.shapes import Drift
from serving.drift.verdict import SIDES, WORDED

TEMPLATES = Path(__file__).parent / "templates"
LEVELS = {"too_few": "too few messages", "steady": "steady", "some": "some drift", "much": "much drift"}
_LONGEST = 22  # characters of a bin's name


def page(drift: Drift, config: DriftConfig) -> str:
    """The page, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(moment=_moment, shortened=_shortened, capital=_capital)
    names = {name: words.removeprefix("the ") for name, words in WORDED.items()}
    return environment.get_template("drift.html").render(
        drift=drift, config=config, worded=names, sides=SIDES, levels=LEVELS
    )


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _shortened(name: str) -> str:
    words = name.replace("_", " ")
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
