"""What the metrics files say, as rows and sentences: headlines, slices by weakness, what the model is not good at.

Pure functions of the files' contents; `training.report` shows what they give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline.config import Config
from training.bootstrap import Figure
from training.measures import figure_of, leading_name

Metrics: TypeAlias = Mapping[str, Any]

ALL = "all"
MEASURES = {
    "quadratic_kappa": "agreement",
    "macro_f1": "macro-F1",
    "average_precision": "average precision",
    "three_way": "three-way macro-F1",
    "roc_auc": "ROC area",
}


class ReportConfig(Config):
    """What is too small to be shown or spoken of, and what counts as weak."""

    smallest_rows: int
    smallest_positives: int
    weakest_slices: int
    weak: float
    poor_calibration: float


@dataclass(frozen=True)
class Headline:
    """One head on one corpus: its leading figure, and the best baseline's same figure where one was measured.

    `train_rows` is what the baseline learnt the head from; None where its file does not say.
    """

    head: str
    source: str
    rows: int
    measure: str
    figure: Figure
    baseline: str | None
    beside: Figure | None
    train_rows: int | None

    @property
    def verdict(self) -> str:
        """`ahead` of the best baseline or `behind` it where the intervals are apart, else `level`."""
        if self.beside is None:
            return "alone"
        if self.figure["low"] > self.beside["high"]:
            return "ahead"
        return "behind" if self.figure["high"] < self.beside["low"] else "level"

    @property
    def learnt(self) -> str:
        """What the baseline learnt from, in words; empty where there is no baseline or nothing is known of it."""
        if self.train_rows is None:
            return ""
        return f"learnt from {self.train_rows:,} rows" if self.train_rows else "learnt from no rows"


@dataclass(frozen=True)
class Slice:
    """One head in one slice, beside the same figure over all rows."""

    name: str
    head: str
    rows: int
    measure: str
    figure: Figure
    overall: float

    @property
    def gap(self) -> float:
        """How much better (above zero) or worse than over all rows."""
        return self.figure["value"] - self.overall


def headlines(evaluation: Metrics, baselines: Metrics, config: ReportConfig) -> list[Headline]:
    """Every head on every corpus that has enough rows, and on all together where there are several."""
    return [
        row
        for head, source, part in parts(evaluation)
        if (name := leading_name(part)) and (row := headline(head, source, part, name, baselines))
        if row.rows >= config.smallest_rows
    ]


def in_three(evaluation: Metrics, baselines: Metrics, config: ReportConfig) -> list[Headline]:
    """The same of five-valued heads taken as three groups."""
    return [
        row
        for head, source, part in parts(evaluation)
        if "three_way" in part and (row := headline(head, source, part, "three_way", baselines))
        if row.rows >= config.smallest_rows
    ]


def headline(head: str, source: str, part: Metrics, name: str, baselines: Metrics) -> Headline | None:
    """One figure of a head on a corpus, beside the best baseline's; None where it was not measured."""
    figure = figure_of(part, name)
    if figure is None:
        return None
    rows = rows_behind(part, name)
    baseline, beside = best_baseline(baselines, head, source, name, rows)
    learnt = baselines[baseline][head].get("train_rows") if baseline else None
    return Headline(head, source, rows, name, figure, baseline, beside, learnt)


def verdicts(rows: list[Headline]) -> dict[str, int]:
    """How many figures are ahead of the best baseline, level and behind; those of all corpora together not again."""
    counted = [row.verdict for row in rows if row.source != ALL]
    return {name: counted.count(name) for name in ("ahead", "level", "behind")}


def parts(evaluation: Metrics) -> Iterator[tuple[str, str, Metrics]]:
    """(head, corpus, its report) of every head."""
    for head, report in evaluation["heads"].items():
        for source, part in parts_of(report).items():
            yield head, source, part


def rows_behind(report: Metrics, name: str) -> int:
    """How many rows a head's figure of this name stands on."""
    return int(report["three_way"]["rows"] if name == "three_way" else report.get("exact_rows", report["rows"]))


def parts_of(report: Metrics) -> dict[str, Metrics]:
    """A head's report on all corpora together, where there are several, and on each."""
    sources = report.get("sources", {})
    return {**({} if len(sources) == 1 else {ALL: report}), **sources}


def best_baseline(
    baselines: Metrics, head: str, source: str, measure: str, rows: int
) -> tuple[str | None, Figure | None]:
    """Name and figure of the baseline that does best by this measure.

    All corpora together are a mixture, and a sample of the test rows is another one: there a baseline stands beside
    the model only where it was measured on as many rows.
    """
    found = {}
    for name, heads in baselines.items():
        report = heads.get(head, {})
        part = report if source == ALL else report.get("sources", {}).get(source, {})
        figure = figure_of(part, measure)
        if figure and (source != ALL or rows_behind(part, measure) == rows):
            found[name] = figure
    if not found:
        return None, None
    best = max(found, key=lambda name: found[name]["value"])
    return best, found[best]


def slices_by_weakness(evaluation: Metrics, config: ReportConfig) -> list[Slice]:
    """Slices furthest below the figure over all rows first."""
    found = []
    for name, report in evaluation["slices"].items():
        for head, part in report.items():
            if not isinstance(part, Mapping) or part["rows"] < config.smallest_rows:
                continue
            measure = part["measure"]
            overall = figure_of(evaluation["heads"][head], measure)
            if overall:
                figure = {"value": part[measure], "low": part["low"], "high": part["high"]}
                found.append(Slice(name, head, part["rows"], measure, figure, overall["value"]))
    return sorted(found, key=lambda one: one.gap)


def weaknesses(evaluation: Metrics, baselines: Metrics, config: ReportConfig) -> list[str]:
    """What the model is not good at, in sentences, each from figures."""
    return [
        *against_baselines(headlines(evaluation, baselines, config)),
        *weak_values(evaluation, config),
        *weak_slices(slices_by_weakness(evaluation, config)),
        *poor_calibration(evaluation, config),
        *weak_foresight(evaluation),
    ]


def against_baselines(rows: list[Headline]) -> Iterator[str]:
    """Where the model is not clearly better than the best baseline."""
    for row in rows:
        if row.beside and row.verdict in ("level", "behind"):
            how = "is worse than" if row.verdict == "behind" else "is not clearly better than"
            yield (
                f"{worded(row.head)} on {worded(row.source)} {how} the {row.baseline} baseline: "
                f"{shown(row.figure)} beside {shown(row.beside)} ({MEASURES[row.measure]}, {row.rows:,} rows"
                f"{'; the baseline ' + row.learnt if row.learnt else ''})."
            )


def weak_values(evaluation: Metrics, config: ReportConfig) -> Iterator[str]:
    """Values that are told poorly, and those that are too rare to be judged."""
    rare = []
    for head, report in evaluation["heads"].items():
        for value, figures in report.get("values", {}).items():
            score = (figures["f1"] or {}).get("value") if "f1" in figures else figures.get("average_precision")
            measure = "F1" if "f1" in figures else "average precision"
            label = worded(head) if value == head else f"{worded(head)} “{worded(value)}”"
            if figures["positives"] < config.smallest_positives:
                rare.append(label)
            elif score is not None and score < config.weak:
                yield f"{label} is told poorly: {measure} {score:.2f} over {figures['positives']:,} true ones."
    if rare:
        yield f"Too rare in the test rows to be judged at all: {', '.join(rare)}."


def weak_slices(rows: list[Slice]) -> Iterator[str]:
    """Slices whose interval lies wholly below the figure over all rows, by slice."""
    clear: dict[str, list[Slice]] = {}
    for row in rows:
        if row.figure["high"] < row.overall:
            clear.setdefault(row.name, []).append(row)
    for name, found in clear.items():
        heads = "; ".join(
            f"{worded(row.head)} {row.figure['value']:.2f} beside {row.overall:.2f} ({row.rows:,} rows)"
            for row in found
        )
        yield f"Clearly weaker in the slice “{worded(name)}”: {heads}."


def poor_calibration(evaluation: Metrics, config: ReportConfig) -> Iterator[str]:
    """Heads and corpora whose probabilities do not mean what they say."""
    for head, source, part in parts(evaluation):
        if rows_behind(part, "ece") >= config.smallest_rows and part.get("ece", 0) > config.poor_calibration:
            yield (
                f"Probabilities of {worded(head)} on {worded(source)} are off by {part['ece']:.1%} on average "
                "(expected calibration error)."
            )


def weak_foresight(evaluation: Metrics) -> Iterator[str]:
    """What goes unforeseen, and whether the forecast is worth more than the heat of the turn just read."""
    found = evaluation.get("foresight", {}).get("conversations", {})
    if "forecasts" not in found:
        return
    ours, plain = (found["forecasts"][name]["0.10"]["foreseen"] for name in ("boil_over", "last_turn"))
    yield (
        f"Of {found['boiled_over']} conversations that began calm and boiled over, {1 - ours['value']:.0%} "
        f"go unforeseen when one calm conversation in ten may raise a false alarm."
    )
    if ours["low"] <= plain["value"]:
        yield (
            "By conversation the boil-over forecast is not clearly better than the heat of the turn just read: "
            f"{shown(ours)} foreseen beside {shown(plain)}."
        )


def worded(name: str) -> str:
    """A name as it reads in a sentence."""
    return "all corpora together" if name == ALL else name.replace("_", " ")


def shown(figure: Figure) -> str:
    """A figure with its interval."""
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
