"""The pictures of an evaluation, as data for `dvc plots` and as PNG: confusion, reliability, precision and recall."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from pipeline.heads import Floats, choose
from training.measures import Judged

CURVE_POINTS = 200
INK, QUIET, WARM = "#22303c", "#9aa7b1", "#d9480f"


def write_plots(folder: Path, heads: Mapping[str, Judged], bins: int) -> None:
    """Write every plot of a split into a folder, from each head's calibrated probabilities beside what holds."""
    folder.mkdir(parents=True, exist_ok=True)
    exact = {name: rows for name, judged in heads.items() if len((rows := judged.exact()).chance)}
    confusion = confusions(exact)
    reliability = flags_and_levels(exact, lambda promised, held: reliability_points(promised, held, bins))
    curves = {name: points for name, points in flags_and_levels(exact, curve_points).items() if points}
    _write_csv(folder / "confusion.csv", ("head", "actual", "predicted"), _named(confusion))
    _write_csv(folder / "reliability.csv", ("label", "promised", "held", "rows"), _flat(reliability))
    _write_csv(folder / "precision_recall.csv", ("label", "recall", "precision"), _flat(curves))
    draw_confusions(folder / "confusion.png", exact, confusion)
    draw_panels(folder / "reliability.png", reliability, "promised probability", "share that held", draw_reliability)
    draw_panels(folder / "precision_recall.png", curves, "recall", "precision", draw_curve)


def write_curves(folder: Path, queue: Iterable[Sequence[object]], foresight: Iterable[Sequence[object]]) -> None:
    """What a queue reaches, and what forecasts foresee at which false alarms, as data."""
    _write_csv(folder / "queue.csv", ("source", "taken", "reached", "ceiling"), queue)
    _write_csv(
        folder / "foresight.csv", ("forecast", "threshold", "false_alarms", "foreseen", "turns_ahead"), foresight
    )


def confusions(heads: Mapping[str, Judged]) -> dict[str, list[tuple[str, str]]]:
    """(actual, predicted) per row, for every exclusive head."""
    result = {}
    for name, judged in heads.items():
        if judged.head.exclusive:
            truth, chosen = judged.target.argmax(axis=1), choose(judged.chance, judged.head)
            values = judged.head.values
            result[name] = [(values[a], values[b]) for a, b in zip(truth, chosen, strict=True)]
    return result


Points = list[tuple[float, ...]]


def flags_and_levels(
    heads: Mapping[str, Judged], points: Callable[[Floats, NDArray[np.bool_]], Points]
) -> dict[str, Points]:
    """Points for each flag, and for each level of an ordinal head taken as "this level or worse"."""
    result: dict[str, Points] = {}
    for name, judged in heads.items():
        kind, chance, target = judged.head.kind, judged.chance, judged.target
        for index, value in enumerate(judged.head.values):
            if kind == "ordinal" and index > 0:
                promised, held = chance[:, index:].sum(axis=1), target[:, index:].sum(axis=1) > 0
                result[f"{name} ≥ {value}"] = points(promised, held)
            elif kind != "ordinal":
                label = value if value == name else f"{name} {value}"
                result[label] = points(chance[:, index], target[:, index] > 0.5)
    return result


def reliability_points(promised: Floats, held: NDArray[np.bool_], bins: int) -> Points:
    """(mean promise, share that held, rows) per non-empty bin of equal width."""
    index = np.minimum((promised * bins).astype(int), bins - 1)
    return [
        (float(promised[index == b].mean()), float(held[index == b].mean()), float((index == b).sum()))
        for b in range(bins)
        if (index == b).any()
    ]


def curve_points(promised: Floats, held: NDArray[np.bool_]) -> Points:
    """(recall, precision) along the curve, thinned; none where the label never holds."""
    if not held.any():
        return []
    precision, recall, _ = precision_recall_curve(held, promised)
    kept = np.unique(np.linspace(0, len(recall) - 1, CURVE_POINTS).astype(int))
    return [(float(recall[i]), float(precision[i])) for i in kept]


def draw_confusions(
    path: Path, heads: Mapping[str, Judged], confusion: Mapping[str, Sequence[tuple[str, str]]]
) -> None:
    """One matrix a head, rows as shares of the actual value, counts written in; empty where no head has any."""
    columns = max(1, len(confusion))
    figure = Figure(figsize=(4.6 * columns, 4.4), layout="constrained")
    for axes, (name, pairs) in zip(np.ravel(figure.subplots(1, columns)), confusion.items(), strict=False):
        values = heads[name].head.values
        counts = np.zeros((len(values), len(values)), dtype=int)
        for actual, predicted in pairs:
            counts[values.index(actual), values.index(predicted)] += 1
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Oranges", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
        words = [value.replace("_", " ") for value in values]
        axes.set(title=name, xlabel="predicted", xticks=range(len(values)), yticks=range(len(values)))
        axes.set_xticklabels(words, rotation=35, ha="right")
        axes.set_yticklabels(words)
    figure.axes[0].set_ylabel("actual")
    figure.savefig(path, dpi=110)


def draw_panels(
    path: Path, panels: Mapping[str, Points], across: str, up: str, draw: Callable[[Axes, Points], Any]
) -> None:
    """One small square plot a label, on a shared 0-1 scale."""
    columns = 6
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(2.3 * columns, 2.5 * rows + 0.4), layout="constrained")
    grid = np.ravel(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    for axes, (label, points) in zip(grid, panels.items(), strict=False):
        draw(axes, points)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_title(label.replace("_", " "), fontsize=8, color=INK)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(across)
    figure.supylabel(up)
    figure.savefig(path, dpi=110)


def draw_reliability(axes: Axes, points: Points) -> None:
    """Promise against outcome, the dot's area growing with the rows behind it; the diagonal is perfect."""
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
    promised, held, rows = np.array(points).T
    axes.plot(promised, held, color=WARM, linewidth=1)
    axes.scatter(promised, held, s=4 + 6 * np.sqrt(rows), color=WARM, zorder=3)


def draw_curve(axes: Axes, points: Points) -> None:
    """Precision over recall."""
    recall, precision = np.array(points).T
    axes.plot(recall, precision, color=WARM, linewidth=1.4)


def _named(confusion: Mapping[str, Sequence[tuple[str, str]]]) -> Iterable[tuple[str, str, str]]:
    """Values bear their head's name, or `dvc plots` would add up what heads call alike."""
    return ((name, f"{name} {a}", f"{name} {b}") for name, pairs in confusion.items() for a, b in pairs)


def _flat(groups: Mapping[str, Points]) -> Iterable[tuple[str | float, ...]]:
    return ((name, *(round(number, 5) for number in point)) for name, points in groups.items() for point in points)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
