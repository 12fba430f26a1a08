"""DVC stage `cards`: what a reader must know of the model and of its data, told from what the run measured.

    python -m training.cards             metrics/MODEL_CARD.md, metrics/DATA_CARD.md, metrics/cards.json

The words stand in `templates/`, the figures are those of the metrics files, digit by digit. Knows nothing of how a
figure came about: whatever an evaluation holds is shown, head by head and level by level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors import safe_open

from pipeline.agreement import label_agreement
from pipeline.bundle import LAYOUT, Card, read_card
from pipeline.config import Config, current_profile, load_config
from pipeline.ingest import IngestConfig
from pipeline.sources import SOURCES, Source
from pipeline.sources.exports import Export
from pipeline.sources.signals import SECOND, load_signals, read_labels
from pipeline.stage import BUNDLE, CORPORA, METRICS, read_json, run
from pipeline.vocabulary import Vocabulary
from training.checkpoint import MODEL, WEIGHTS
from training.measures import figure_of, leading_name
from training.tracking import finish_stage

TEMPLATES = Path(__file__).parent / "templates"
MODEL_CARD, DATA_CARD = METRICS / "MODEL_CARD.md", METRICS / "DATA_CARD.md"
MEASURED = ("ingest", "prepare", "train", "calibrate", "evaluate", "export", "abstention", "behaviour")
NOTHING = "–"
EXAMPLE_TEXTS, EXAMPLE_LENGTH = 2, 160  # texts of a failing case, characters of a text


class CardsConfig(Config):
    """How many weak slices a head, of how many rows at least, and how many failing examples a family are shown."""

    weakest_slices: int
    smallest_slice: int
    examples: int


@dataclass(frozen=True)
class Facts:
    """What the cards tell: the bundle's card, the profile's corpora and exports, and each stage's metrics by name."""

    bundle: Card
    sources: tuple[Source, ...]
    exports: tuple[Export, ...]
    metrics: Mapping[str, Any]


def model_card(facts: Facts, config: CardsConfig) -> str:
    """The model card, in Markdown."""
    return render("MODEL_CARD.md.j2", facts, config)


def data_card(facts: Facts, config: CardsConfig) -> str:
    """The data card, in Markdown."""
    return render("DATA_CARD.md.j2", facts, config)


def render(template: str, facts: Facts, config: CardsConfig) -> str:
    """A template filled with the facts. Raises jinja2's UndefinedError for a figure that is not there."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, from figures and names of our own
    )
    environment.filters |= {"shown": shown, "matrix": matrix, "sections": sections}
    metrics = facts.metrics
    return environment.get_template(template).render(
        bundle=facts.bundle,
        sources=facts.sources,
        exports=facts.exports,
        weakest=weakest(metrics["evaluate"].get("slices", {}), config),
        failures=failures(metrics.get("behaviour", {}), config.examples),
        **{name: metrics.get(name, {}) for name in (*MEASURED, "cards")},
    )


def summary(facts: Facts) -> str:
    """A few sentences for the registry."""
    card, cards = facts.bundle, facts.metrics["cards"]
    heads = facts.metrics["evaluate"]["heads"]
    own = [name for name in heads if name in card.labels.heads and not card.labels.heads[name].auxiliary]
    figures = [
        f"{name} {measure} {shown(figure_of(heads[name], measure))}"
        for name in own
        if (measure := leading_name(heads[name]))
    ]
    return (
        f"Simmer, profile {card.profile}: {card.encoder}, {shown(cards['parameters'])} parameters, validated on "
        f"{', '.join(card.languages)}. On test conversations: {'; '.join(figures)}. Orders conversations for people "
        "who decide; not for watching employees, for refusing or delaying service, or for judging a person. "
        "MODEL_CARD.md and DATA_CARD.md lie among the run's artifacts, in cards/."
    )


def shown(value: Any) -> str:
    """A figure as the cards print it: as it was measured, an interval behind it, a dash where there is none."""
    if isinstance(value, Mapping):
        low, high = shown(value["low"]), shown(value["high"])
        return shown(value["value"]) + (f" ({low} to {high})" if NOTHING not in (low, high) else "")
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or NOTHING
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")


def matrix(rows: Mapping[str, Mapping[str, Any]], corner: str = "") -> str:
    """A Markdown table of named rows: a column for every figure that any of them has."""
    columns = list(dict.fromkeys(key for row in rows.values() for key, value in row.items() if is_figure(value)))
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[shown(name), *(shown(row.get(key)) for key in columns)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sections(report: Mapping[str, Any], title: str = "") -> Iterator[tuple[str, str]]:
    """(title, table) for every level of a nested report whose entries have figures, outermost first."""
    nested = {name: value for name, value in report.items() if isinstance(value, Mapping) and not is_figure(value)}
    rows = {name: value for name, value in nested.items() if any(map(is_figure, value.values()))}
    if rows:
        yield title, matrix(rows)
    for name, value in nested.items():
        yield from sections(value, f"{title}, {name}" if title else name)


def is_figure(value: Any) -> bool:
    """Whether a value fits a cell: a number, a word, none at all, or a number with its interval."""
    if isinstance(value, Mapping):
        return {"value", "low", "high"} <= set(value)
    return not isinstance(value, list | tuple)


def weakest(slices: Mapping[str, Any], config: CardsConfig) -> dict[str, dict[str, Any]]:
    """Per head the slices with the lowest figure, of those in which rows enough know the head, as rows of a table."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, heads in slices.items():
        for head, report in heads.items():
            if isinstance(report, Mapping) and report["rows"] >= config.smallest_slice:
                found.setdefault(head, {})[f"{head}: {name}"] = slice_row(report)
    return {
        name: row
        for rows in found.values()
        for name, row in sorted(rows.items(), key=lambda item: item[1]["value"]["value"])[: config.weakest_slices]
    }


def slice_row(report: Mapping[str, Any]) -> dict[str, Any]:
    """A head's rows in a slice, and its one figure with the interval."""
    value = {"value": report[report["measure"]], "low": report["low"], "high": report["high"]}
    return {"rows": report["rows"], "measure": report["measure"], "value": value}


def failures(behaviour: Mapping[str, Any], examples: int) -> list[dict[str, Any]]:
    """Families of the behaviour suite with how many of their cases fail and some that do, the worst first."""
    found = [
        {"name": name, **family, "examples": [as_failure(example) for example in family["examples"][:examples]]}
        for name, family in behaviour.get("families", {}).items()
    ]
    return sorted(found, key=lambda family: -family["failure_rate"])


def as_failure(example: Mapping[str, Any]) -> str:
    """A failing case in one line: its first two texts, how many more there are, and what is wrong."""
    texts = [f"“{shortened(text)}”" for text in example["came_out"]]
    more = [f"{len(texts) - EXAMPLE_TEXTS} more"] if len(texts) > EXAMPLE_TEXTS else []
    return f"{' and '.join(texts[:EXAMPLE_TEXTS] + more)}: {shown('; '.join(example['problems']))}"


def shortened(text: str) -> str:
    """At most so much of a text that it fits a line, cut at words: of turns, the judged one stands last and is kept."""
    line = shown(text)
    return line if len(line) <= EXAMPLE_LENGTH else f"… {line[-EXAMPLE_LENGTH:].partition(' ')[2]}"


def agreements(sources: Sequence[Source], vocabulary: Vocabulary, folder: Path) -> dict[str, dict[str, float]]:
    """Per corpus with second labels by this project's rules how well they agree with the first; turns counted."""
    found = {
        source.name: label_agreement(load_signals(folder, source.name), read_labels(SECOND, source.name), vocabulary)
        for source in sources
        if source.files
    }
    return {name: figures for name, figures in found.items() if figures["turns"]}


def parameters(weights: Path) -> int:
    """How many numbers a safetensors file holds."""
    with safe_open(weights, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def load_facts(profile: str) -> Facts:
    """The facts of the current bundle; a metrics file that is not there is an empty one."""
    bundle = read_card(BUNDLE / LAYOUT.card)
    ingested = load_config(IngestConfig, "data.yaml", "ingest", profile)
    sources = tuple(SOURCES[name] for name in ingested.sources)
    files = {name: METRICS / f"{name}.json" for name in MEASURED}
    metrics = {name: read_json(path) if path.exists() else {} for name, path in files.items()}
    metrics["cards"] = {
        "bundle": metrics["export"]["bundle"],
        "parameters": parameters(MODEL / WEIGHTS),
        "agreement": agreements(sources, bundle.labels, CORPORA),
    }
    return Facts(bundle, sources, ingested.exports, metrics)


def main() -> None:
    """Run the stage for the current profile."""
    profile = current_profile()
    config = load_config(CardsConfig, "train.yaml", "cards", profile)
    facts = load_facts(profile)
    MODEL_CARD.write_text(model_card(facts, config), encoding="utf-8")
    DATA_CARD.write_text(data_card(facts, config), encoding="utf-8")
    finish_stage("cards", config, {**facts.metrics["cards"], "summary": summary(facts)})


if __name__ == "__main__":
    run(main)
