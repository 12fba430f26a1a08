"""What is said of a head's probabilities: agreement, F1, ranking quality and calibration.

Evaluation and baselines measure with the same functions. All but calibration error and what is said of a single flag
stand with an interval. A coarse label, which allows several values, counts where it can be judged: in three groups
(negative, neutral, positive), never among five levels. Nor do the exact labels of a corpus that has coarse ones: which
labels are exact depends on the value there (all the neutral ones, say), so they would be a selection by label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads import Floats, choose
from pipeline.scores import expected_calibration_error
from pipeline.vocabulary import Head
from training.bootstrap import Figure, Measures, Resampling, Weights, intervals

THREE = ((0, 1), (2,), (3, 4))  # five values as three: negative, neutral, positive; satisfaction 1-2, 3, 4-5

Bools = NDArray[np.bool_]


class Measuring(Resampling):
    """How figures are made sure of, and the bins of calibration error."""

    ece_bins: int


@dataclass(frozen=True)
class Judged:
    """One head's probabilities beside what holds, in the rows that know it.

    Shapes: chance and target [rows, values], thresholds [values], groups [rows], which are conversations, and fine
    [rows], which says whose corpus has no coarse label: see `fine_rows`.
    """

    head: Head
    chance: Floats
    target: Floats
    thresholds: Floats
    groups: NDArray[np.intp]
    fine: Bools

    def among(self, rows: Bools) -> Judged:
        """Some of the rows."""
        part = self.chance[rows], self.target[rows], self.thresholds, self.groups[rows], self.fine[rows]
        return Judged(self.head, *part)

    def exact(self) -> Judged:
        """The rows of corpora whose every label names one value; of flags all rows."""
        return self.among(self.fine)

    def in_three(self) -> Judged:
        """The rows of a five-valued head whose label falls into one of three groups, with the groups as values."""
        target, chance = (summed(values, THREE) for values in (self.target > 0, self.chance))
        rows = (target > 0).sum(axis=1) == 1
        three = Head(kind="categorical", values=("low", "middle", "high"), numbers=(-1, 0, 1), wording="")
        exact = np.ones(int(rows.sum()), dtype=bool)
        return Judged(three, chance[rows], (target[rows] > 0).astype(float), np.ones(3), self.groups[rows], exact)


def fine_rows(head: Head, target: Floats, sources: NDArray[np.str_]) -> Bools:
    """Rows [rows] of corpora in which no label of a head is coarse; of flags all. `target` is [rows, values]."""
    coarse = (target > 0).sum(axis=1) != 1 if head.exclusive else np.zeros(len(target), dtype=bool)
    return ~np.isin(sources, np.unique(sources[coarse]))


def summed(values: NDArray[Any], groups: Sequence[Sequence[int]]) -> Floats:
    """Columns of values [rows, values] added up by group [rows, groups]."""
    return np.stack([values[:, list(group)].sum(axis=1) for group in groups], axis=1).astype(float)


def head_report(judged: Judged, config: Measuring) -> dict[str, Any]:
    """Rows and every figure of a head; per value its F1, or for flags what `flag_report` says."""
    report: dict[str, Any] = {"rows": len(judged.chance)}
    if not judged.head.exclusive:
        return report | flags_report(judged, config)
    exact = judged.exact()
    if len(exact.chance):
        report |= {"exact_rows": len(exact.chance)} if len(exact.chance) < len(judged.chance) else {}
        report |= intervals(exclusive_measures(exact), exact.groups, config)
        report["ece"] = ece(exact, config)
        report["values"] = value_report(exact, config)
    if len(judged.head.values) == 5:
        three = judged.in_three()
        if len(three.chance):
            report["three_way"] = {"rows": len(three.chance), **three_way(three, config)}
    return report


def by_source(judged: Judged, sources: NDArray[np.str_], config: Measuring) -> dict[str, Any]:
    """The report over all rows, and under `sources` over each corpus's. `sources` [rows] names corpora."""
    parts = {str(name): head_report(judged.among(sources == name), config) for name in np.unique(sources)}
    bins = {"bins": forecast_bins(judged, config.ece_bins)} if judged.head.kind == "probability" else {}
    return {**head_report(judged, config), **bins, "sources": parts}


def forecast_bins(judged: Judged, bins: int) -> list[dict[str, float]]:
    """How often a forecast came true, by how sure it was: rows and positives of bins from `low` to below `high`."""
    chance, held = judged.chance[:, 0], judged.target[:, 0] > 0.5
    index = np.minimum((chance * bins).astype(int), bins - 1)
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "rows": int((index == b).sum()),
            "positives": int(held[index == b].sum()),
        }
        for b in range(bins)
    ]


def figure_of(report: Mapping[str, Any], name: str) -> Figure | None:
    """The figure of this name, as `leading_name` names it, in a head's report; None where it has none."""
    found: Figure | None = report.get(name, {}).get("macro_f1") if name == "three_way" else report.get(name)
    return found


def leading(judged: Judged, config: Resampling) -> tuple[str, Figure, int] | None:
    """Name and interval of the figure that stands for a head, see `leading_name`, and the rows that it stands on.

    None where rows say nothing.
    """
    found: dict[str, Figure] = {}
    rows = judged.exact()
    if len(rows.chance):
        measures = exclusive_measures(rows) if rows.head.exclusive else flag_measures(rows)
        found = intervals(measures, rows.groups, config)
    elif judged.head.exclusive and len(judged.head.values) == 5:
        rows = judged.in_three()
        found = {"three_way": three_way(rows, config)["macro_f1"]} if len(rows.chance) else {}
    name = leading_name(found)
    return (name, found[name], len(rows.chance)) if name else None


def leading_name(report: Mapping[str, Any]) -> str | None:
    """Which figure of a report stands for it: agreement where values have an order, else ranking quality."""
    order = ("quadratic_kappa", "macro_f1", "average_precision", "three_way")
    return next((name for name in order if name in report), None)


def three_way(three: Judged, config: Resampling) -> dict[str, Figure]:
    """Accuracy and macro-F1 of three groups."""
    found = intervals(exclusive_measures(three), three.groups, config)
    return {name: found[name] for name in ("accuracy", "macro_f1")}


def ece(judged: Judged, config: Measuring) -> float:
    """Expected calibration error."""
    error = expected_calibration_error(judged.chance, judged.target, judged.head.exclusive, config.ece_bins)
    return round(error, 4)


def exclusive_measures(judged: Judged) -> Measures:
    """Accuracy, macro-F1 and, where values are more than three or ordered, quadratic kappa, of exact rows."""
    tables = confusion(judged)
    ordered = judged.head.kind == "ordinal" or len(judged.head.values) > 3

    def measures(weights: Weights) -> dict[str, Floats]:
        table = tables(weights)
        found = {
            "accuracy": np.trace(table, axis1=1, axis2=2) / table.sum(axis=(1, 2)),
            "macro_f1": mean_known(f1_of(table)),
        }
        return found | ({"quadratic_kappa": kappa_of(table)} if ordered else {})

    return measures


def value_report(exact: Judged, config: Resampling) -> dict[str, Any]:
    """Per value of an exclusive head: how often it is true, and F1; None for one neither true nor chosen."""
    tables = confusion(exact)

    def measures(weights: Weights) -> dict[str, Floats]:
        return dict(zip(exact.head.values, f1_of(tables(weights)).T, strict=True))

    found = intervals(measures, exact.groups, config)
    given = exact.target.sum(axis=0).astype(int)
    return {
        value: {"positives": int(count), "f1": found.get(value)}
        for value, count in zip(exact.head.values, given, strict=True)
    }


def confusion(judged: Judged) -> Callable[[Weights], Floats]:
    """From weights [rounds, rows] to how often each value was read as which [rounds, actual, chosen]."""
    size = len(judged.head.values)
    cells = np.zeros((len(judged.chance), size * size), dtype=np.float32)
    actual, chosen = judged.target.argmax(axis=1), choose(judged.chance, judged.head)
    cells[np.arange(len(cells)), actual * size + chosen] = 1
    return lambda weights: (weights @ cells).astype(float).reshape(-1, size, size)


def f1_of(table: Floats) -> Floats:
    """F1 per value [rounds, values] of confusion counts; not a number for one neither true nor chosen."""
    both = table.sum(axis=1) + table.sum(axis=2)
    hits = np.diagonal(table, axis1=1, axis2=2)
    return divided(2 * hits, both, np.nan)


def kappa_of(table: Floats) -> Floats:
    """Cohen's kappa with quadratic weights [rounds] of confusion counts; 1 where both are constant and equal."""
    values = np.arange(table.shape[1])
    distance = (values[:, None] - values[None, :]) ** 2
    total = table.sum(axis=(1, 2))
    found = (table * distance).sum(axis=(1, 2)) / total
    margins = table.sum(axis=2)[:, :, None] * table.sum(axis=1)[:, None, :]
    expected = (margins * distance).sum(axis=(1, 2)) / total**2
    return np.asarray(1 - divided(found, expected, 0.0))


def divided(part: Floats, whole: NDArray[Any], otherwise: float) -> Floats:
    """Elementwise share, `otherwise` where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0))


def mean_known(values: Floats) -> Floats:
    """Mean along the last axis of what is a number; not a number where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return divided(total, count, np.nan)


def flag_measures(judged: Judged) -> Measures:
    """Micro-F1 at the thresholds, and mean average precision over the flags that are given at all."""
    truth, given = judged.target > 0.5, judged.chance >= judged.thresholds
    both = (truth & given).sum(axis=1).astype(np.float32)
    either = (truth.astype(int) + given).sum(axis=1).astype(np.float32)
    rankings = [ranking_measures(judged.chance[:, i], truth[:, i]) for i in range(truth.shape[1])]

    def measures(weights: Weights) -> dict[str, Floats]:
        counted = (weights @ either).astype(float)
        hits = 2.0 * (weights @ both)
        return {
            "micro_f1": divided(hits, counted, 1.0),
            "average_precision": mean_known(np.stack([r(weights)["average_precision"] for r in rankings], axis=1)),
        }

    return measures


def flags_report(judged: Judged, config: Measuring) -> dict[str, Any]:
    """Figures of independent flags together, then for each how often it is true and how well it is told."""
    if not len(judged.chance):
        return {}
    report: dict[str, Any] = {**intervals(flag_measures(judged), judged.groups, config), "ece": ece(judged, config)}
    report["values"] = {value: flag_report(judged, index, config) for index, value in enumerate(judged.head.values)}
    return report


def flag_report(judged: Judged, index: int, config: Resampling) -> dict[str, Any]:
    """Of one flag: how often it is true, precision and recall at its threshold, and ranking quality."""
    chance, truth = judged.chance[:, index], judged.target[:, index] > 0.5
    given = chance >= judged.thresholds[index]
    hits = int((truth & given).sum())
    ranked = {name: float(value[0]) for name, value in ranking_measures(chance, truth)(_once(truth)).items()}
    return {
        "positives": int(truth.sum()),
        "precision": _ratio(hits, int(given.sum())),
        "recall": _ratio(hits, int(truth.sum())),
        **{name: round(value, 4) if np.isfinite(value) else None for name, value in ranked.items()},
    }


def ranking_measures(score: Floats, truth: Bools) -> Measures:
    """Average precision and area under the ROC curve of scores [rows], ties taken together."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    true = truth[order].astype(np.float32)

    def measures(weights: Weights) -> dict[str, Floats]:
        sorted_weights = weights[:, order]
        found = np.cumsum(sorted_weights * true, axis=1)[:, ends].astype(float)
        taken = np.cumsum(sorted_weights, axis=1)[:, ends].astype(float)
        return {"average_precision": average_precision(found, taken), "roc_auc": roc_auc(found, taken)}

    return measures


def average_precision(found: Floats, taken: Floats) -> Floats:
    """Mean precision over recall [rounds] from what is found and taken down the ranking [rounds, steps]."""
    precision = divided(found, taken, 0.0)
    gained = (np.diff(found, axis=1, prepend=0.0) * precision).sum(axis=1)
    total = found[:, -1]
    return divided(gained, total, np.nan)


def roc_auc(found: Floats, taken: Floats) -> Floats:
    """Chance that a true row ranks above a false one [rounds], ties counting half."""
    wrong = taken - found
    steps = np.diff(wrong, axis=1, prepend=0.0)
    below = (steps * (found + np.concatenate([np.zeros((len(found), 1)), found[:, :-1]], axis=1)) / 2).sum(axis=1)
    pairs = found[:, -1] * wrong[:, -1]
    return divided(below, pairs, np.nan)


def _once(rows: Bools) -> Weights:
    return np.ones((1, len(rows)), dtype=np.float32)


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
