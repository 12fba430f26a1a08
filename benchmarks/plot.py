"""One picture of the HTTP benchmark: throughput, latency against load, and what is left of it beyond saturation."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.findings import rates
from benchmarks.ours import NAME

OURS, THEIRS = "#c2410c", ("#1f2937", "#2563eb", "#0d9488", "#9333ea", "#64748b")
SHOWN = 0.95  # of saturation: what goes beyond is the last picture's


def colours(names: list[str]) -> dict[str, str]:
    """Ours stands out."""
    others = [name for name in names if name != NAME]
    return {NAME: OURS} | {name: THEIRS[place % len(THEIRS)] for place, name in enumerate(others)}


def draw(found: dict[str, Any], target: Path) -> None:
    """Write the picture; its format is the file's ending."""
    names = list(rates(found))
    colour = colours(names)
    figure, (bars, lines, beyond) = pyplot.subplots(1, 3, figsize=(16, 5), layout="constrained")
    throughput(bars, rates(found), colour)
    for name in names:
        latency(lines, name, found["servers"][name], colour[name])
        goodput(beyond, name, found["servers"][name], colour[name])
    _finish(lines, beyond)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    pyplot.close(figure)


def throughput(axes: Axes, found: dict[str, list[float]], colour: dict[str, str]) -> None:
    """Bars of medians over rounds, with the range."""
    names = sorted(found, key=lambda name: statistics.median(found[name]))
    medians = [statistics.median(found[name]) for name in names]
    spans = [
        [median - min(found[name]) for name, median in zip(names, medians, strict=True)],
        [max(found[name]) - median for name, median in zip(names, medians, strict=True)],
    ]
    drawn = axes.barh(names, medians, xerr=spans, color=[colour[name] for name in names], ecolor="#9ca3af", capsize=3)
    axes.bar_label(drawn, [f"{median:.0f}" for median in medians], padding=6)
    axes.margins(x=0.15)
    axes.set_title("sustained messages a second, 2 cores")
    axes.spines[["top", "right"]].set_visible(False)


def latency(axes: Axes, name: str, server: dict[str, Any], colour: str) -> None:
    """Median and 99th percentile against what was offered, every step of every round."""
    most = statistics.median(server["saturation"])
    steps = sorted(server["curve"] + server["at_100"], key=lambda step: step["offered"])
    steps = [step for step in steps if step["sustained"] or step["offered"] <= SHOWN * most]
    offered = [step["offered"] for step in steps]
    axes.plot(offered, [1000 * step["p99"] for step in steps], color=colour, marker=".", label=name)
    axes.plot(offered, [1000 * step["median"] for step in steps], color=colour, linestyle=":", linewidth=1)


def goodput(axes: Axes, name: str, server: dict[str, Any], colour: str) -> None:
    """Answers within a second against what was offered, both as shares of saturation."""
    most = statistics.median(server["saturation"])
    points = [(step["offered"] / most, step["answered"] / most) for step in server["curve"] + server["at_100"]]
    points += [(run["offered"] / most, run["goodput"] / most) for run in server["overload"]]
    points.sort()
    axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=name)


def _finish(lines: Axes, beyond: Axes) -> None:
    lines.set(title="latency from when a request was due", xlabel="messages offered a second", yscale="log")
    lines.set_ylabel("ms: 99th percentile, and the median dotted")
    lines.set_xlim(left=0)
    lines.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lines.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lines.yaxis.set_minor_formatter(NullFormatter())
    lines.legend(frameon=False, loc="lower right")
    beyond.set(title="answered within a second, beyond saturation")
    beyond.set(xlabel="offered, of saturation", ylabel="answered within a second, of saturation")
    for axis in (beyond.xaxis, beyond.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    beyond.set_ylim(bottom=0)
    for axes in (lines, beyond):
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
