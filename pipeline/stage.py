"""What every DVC stage needs: where files lie, metrics written one way, progress shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress, track

from pipeline.config import ROOT
from pipeline.errors import InputError
from pipeline.files import sha256

BUILD = ROOT / "build"
METRICS = ROOT / "metrics"
CORPORA = ROOT / "data" / "corpora"
BUNDLE = BUILD / "bundle"  # what the pipeline made last
MODELS = ROOT / "models"
CURRENT = MODELS / "current"  # what serves

T = TypeVar("T")


def run(main: Callable[[], None]) -> None:
    """Run a stage as a command: what a person can mend, a full disk included, ends it with a line and exit status 1."""
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def data_hash(path: Path) -> str:
    """SHA-256 of a file, as `sha256:…`."""
    return "sha256:" + sha256(path)


@contextmanager
def steps(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar over named steps: call what it gives with the name of each step as the step begins."""
    with Progress() as bar:
        task = bar.add_task(f"{what:<24}", total=total)
        begun = 0

        def begin(step: str) -> None:
            nonlocal begun
            bar.update(task, description=f"{what + ': ' + step:<24}", completed=begun)
            begun += 1

        yield begin
        bar.update(task, description=f"{what:<24}", completed=total)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """The items, with a progress bar while they are gone through."""
    return track(items, description=f"{what:<24}", total=total)
