"""Figures as SVG: the heat of a conversation, trends over weeks, shares with their intervals.

Lines are told apart by dash and marker as well as by colour, so that a grey print says the same. Colours are classes
of the stylesheet: a page that allows no inline style draws them too. Knows nothing of pages and of where numbers
are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from serving.explain import Unit
from serving.review.estimates import Estimate
from serving.review.trends import Figures

T = TypeVar("T")

WIDTH = 360.0  # of every figure, in its own units: text is as large as the page's where a figure is this wide
LEFT, RIGHT = 34.0, 8.0
LEVELS, FORECAST = 78.0, 52.0  # heights of the timeline's two panels
MOST_LABELS = 7  # of an x axis
SHARES = (0.1, 0.2, 0.4, 0.6, 1.0)  # where the scale of a share may end
LEAST = 0.02  # of a score: what moves it less is not told


@dataclass(frozen=True)
class Moment:
    """What the model said of one customer turn; None where it abstained. `low` and `high` bound the forecast."""

    label: str
    anchor: str
    frustration: float | None = None
    urgency: float | None = None
    boil_over: float | None = None
    low: float | None = None
    high: float | None = None
    turned: bool = False


@dataclass(frozen=True)
class Series:
    """A line of a chart; a gap where a value is None. `low` and `high` draw a band around it."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class _Panel:
    """A rectangle with a scale: values from 0 to `top` over `count` places from left to right."""

    y: float
    height: float
    top: float
    count: int
    inset: float = 10.0

    def x(self, place: int) -> float:
        room = WIDTH - LEFT - RIGHT - 2 * self.inset
        return LEFT + self.inset + (room / 2 if self.count < 2 else room * place / (self.count - 1))

    def at(self, value: float) -> float:
        return self.y + self.height * (1 - min(max(value / self.top, 0), 1))


def timeline(moments: Sequence[Moment]) -> Markup:
    """Frustration and urgency (levels 0 to 3) above the forecast (0 to 100 %), by customer turn."""
    levels = _Panel(8, LEVELS, 3, len(moments))
    forecast = _Panel(levels.y + LEVELS + 14, FORECAST, 1, len(moments))
    bottom = forecast.y + FORECAST
    svg = _svg(bottom + 18, _told(moments))
    _grid(svg, levels, [(0, "0"), (1, "1"), (2, "2"), (3, "3")])
    _grid(svg, forecast, [(0, "0 %"), (0.5, "50 %"), (1, "100 %")])
    for place, moment in enumerate(moments):
        if moment.turned:
            _turning(svg, levels.x(place), levels.y, bottom)
    _band(svg, forecast, [m.low for m in moments], [m.high for m in moments], 2)
    _line(svg, levels, [m.urgency for m in moments], 1)
    _line(svg, levels, [m.frustration for m in moments], 0)
    _line(svg, forecast, [m.boil_over for m in moments], 2)
    _labels(svg, forecast, [m.label for m in moments])
    for place, moment in enumerate(moments):
        _way(svg, moment, levels.x(place), bottom)
    return _markup(svg)


def lines(labels: Sequence[str], series: Sequence[Series], title: str, unit: str = "") -> Markup:
    """Up to four lines over the same places, on a scale from 0; `unit` % takes shares."""
    values = [v for one in series for v in (*one.values, *one.high) if v is not None]
    share = unit == "%"
    most = max(values, default=1.0)
    top = next(top for top in SHARES if top >= min(most, 1.0)) if share else _nice(most)
    panel = _Panel(8, 104, top, len(labels))
    svg = _svg(panel.height + 28, f"{title}. " + " ".join(_course(one, labels, unit) for one in series))
    _grid(svg, panel, [(top * n / 4, _number(top * n / 4, unit)) for n in (0, 2, 4)])
    for number, one in enumerate(series):
        _band(svg, panel, one.low, one.high, number)
    for number, one in enumerate(series):
        _line(svg, panel, one.values, number)
    _labels(svg, panel, labels)
    if not values:
        _add(svg, "text", "nothing", "nothing yet", x=(LEFT + WIDTH) / 2, y=panel.y + panel.height / 2 - 4)
    return _markup(svg)


def columns(labels: Sequence[str], series: Sequence[Series], title: str) -> Markup:
    """Counts as columns; later series stand in front of the first and are parts of it."""
    values = [v or 0.0 for one in series for v in one.values]
    top = _nice(max(values, default=1.0))
    room = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    panel = _Panel(8, 104, top, len(labels), room / 2)
    svg = _svg(panel.height + 28, f"{title}. " + " ".join(_course(one, labels, "") for one in series))
    _grid(svg, panel, [(top * n / 4, _number(top * n / 4, "")) for n in (0, 2, 4)])
    for number, one in enumerate(series):
        wide = min(24.0, room * 0.7) * (1 if number == 0 else 0.6)
        for place, value in enumerate(one.values):
            if value:
                y = panel.at(value)
                _add(
                    svg,
                    "rect",
                    f"column c{number}",
                    x=panel.x(place) - wide / 2,
                    y=y,
                    width=wide,
                    height=panel.y + panel.height - y,
                )
    _labels(svg, panel, labels)
    return _markup(svg)


def interval(value: float | None, low: float, high: float) -> Markup:
    """A share as a dot on a line from 0 to 100 %, its interval as a bar. Says nothing to a screen reader."""
    svg = Element("svg", {"viewBox": "0 0 120 14", "class": "interval", "aria-hidden": "true"})
    _add(svg, "line", "axis", x1=2, x2=118, y1=7, y2=7)
    if value is not None:
        _add(svg, "rect", "band s0", x=2 + 116 * low, y=3, width=max(1.0, 116 * (high - low)), height=8)
        _add(svg, "circle", "mark s0", cx=2 + 116 * value, cy=7, r=4)
    return _markup(svg)


def pull(delta: float, most: float) -> str:
    """How a word that moved a score is marked: the classes of its direction and weight, none where it hardly did."""
    weight = min(3, int(abs(delta) / most * 4))
    return f"{'up' if delta > 0 else 'down'} w{weight}" if weight else ""


def strongest(deltas: Sequence[float], units: Sequence[Unit], most: int = 3) -> list[tuple[str, float]]:
    """The pieces that moved a score most, the heaviest first."""
    pairs = sorted(zip(units, deltas, strict=True), key=lambda pair: -abs(pair[1]))
    return [(_short(unit.text), delta) for unit, delta in pairs[:most] if abs(delta) >= LEAST]


def estimates(name: str, found: Sequence[Estimate]) -> Series:
    """Estimates as a line with their intervals."""
    known = [one.value is not None for one in found]
    return Series(
        name=name,
        values=[one.value for one in found],
        low=[one.low if there else None for one, there in zip(found, known, strict=True)],
        high=[one.high if there else None for one, there in zip(found, known, strict=True)],
    )


def shares(name: str, found: Sequence[Figures], part: str, whole: Sequence[str]) -> Series:
    """A figure as its share of the sum of others; a gap where that is nothing."""
    sums = [sum(getattr(one, other) for other in whole) for one in found]
    return Series(name, [getattr(one, part) / of if of else None for one, of in zip(found, sums, strict=True)])


def key(number: int) -> Markup:
    """A sample of a line, for a legend that is text."""
    svg = Element("svg", {"viewBox": "0 0 26 10", "class": "key", "aria-hidden": "true"})
    _add(svg, "line", f"line s{number}", x1=1, x2=25, y1=5, y2=5)
    _mark(svg, number, 13, 5)
    return _markup(svg)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _svg(height: float, told: str) -> Element:
    return Element(
        "svg", {"viewBox": f"0 0 {WIDTH:g} {height:g}", "class": "figure", "role": "img", "aria-label": told}
    )


def _add(parent: Element, name: str, classes: str, text: str = "", **numbers: float) -> Element:
    given = {key.replace("_", "-"): f"{value:.4g}" for key, value in numbers.items()}
    made = SubElement(parent, name, {"class": classes, **given})
    made.text = text or None
    return made


def _grid(svg: Element, panel: _Panel, ticks: Sequence[tuple[float, str]]) -> None:
    for value, label in ticks:
        y = panel.at(value)
        _add(svg, "line", "axis" if value == 0 else "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        _add(svg, "text", "tick y", label, x=LEFT - 4, y=y + 3.5)


def _labels(svg: Element, panel: _Panel, labels: Sequence[str]) -> None:
    every = max(1, math.ceil(len(labels) / MOST_LABELS))
    for place in range(0, len(labels), every):
        _add(svg, "text", "tick x", labels[place], x=panel.x(place), y=panel.y + panel.height + 13)


def _line(svg: Element, panel: _Panel, values: Sequence[float | None], number: int) -> None:
    for run in _runs(values):
        points = [(panel.x(place), panel.at(value)) for place, value in run]
        if len(points) > 1:
            _add(svg, "polyline", f"line s{number}").set("points", _joined(points))
        if len(values) <= 40 or len(points) == 1:
            for x, y in points:
                _mark(svg, number, x, y)


def _mark(svg: Element, number: int, x: float, y: float) -> None:
    if number % 2 == 0:
        _add(svg, "circle", f"mark s{number}", cx=x, cy=y, r=2.6)
    else:
        _add(svg, "rect", f"mark s{number}", x=x - 2.4, y=y - 2.4, width=4.8, height=4.8)


def _band(svg: Element, panel: _Panel, low: Sequence[float | None], high: Sequence[float | None], number: int) -> None:
    both = [None if a is None or b is None else (a, b) for a, b in zip(low, high, strict=True)]
    for run in _runs(both):
        upper = [(panel.x(place), panel.at(b)) for place, (_, b) in run]
        lower = [(panel.x(place), panel.at(a)) for place, (a, _) in run]
        if len(run) == 1:  # as wide as a mark
            upper, lower = (
                [(upper[0][0] + d, upper[0][1]) for d in (-3, 3)],
                [(lower[0][0] + d, lower[0][1]) for d in (-3, 3)],
            )
        _add(svg, "polygon", f"band s{number}").set("points", _joined([*upper, *lower[::-1]]))


def _turning(svg: Element, x: float, top: float, bottom: float) -> None:
    _add(svg, "line", "turned", x1=x, x2=x, y1=top, y2=bottom)
    end = x > WIDTH / 2
    _add(svg, "text", "turned-label end" if end else "turned-label", "turned hot", x=x - 3 if end else x + 3, y=top + 1)


def _way(svg: Element, moment: Moment, x: float, bottom: float) -> None:
    """What a pointer may press to come to the turn; keys have ways of their own."""
    rect = _add(svg, "rect", "way", x=x - 7, y=0, width=14, height=bottom)
    rect.set("data-to", moment.anchor)
    SubElement(rect, "title").text = _said(moment)


def _runs(values: Sequence[T | None]) -> list[list[tuple[int, T]]]:
    """Stretches without None, each value with its place."""
    found: list[list[tuple[int, T]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((place, value))
    return [run for run in found if run]


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 10 times a power of ten, at least 4."""
    power = 10 ** math.floor(math.log10(max(value, 1)))
    return float(max(4, next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)))


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:g}{unit and ' ' + unit}"


def _course(series: Series, labels: Sequence[str], unit: str) -> str:
    """A line in words."""
    known = [(label, value) for label, value in zip(labels, series.values, strict=True) if value is not None]
    if not known:
        return f"{series.name}: nothing yet."
    (first, began), (last, ended) = known[0], known[-1]
    if len(known) == 1:
        return f"{series.name}: {_number(round(began, 3), unit)} ({first})."
    return (
        f"{series.name}: from {_number(round(began, 3), unit)} ({first}) to {_number(round(ended, 3), unit)} ({last})."
    )


def _said(moment: Moment) -> str:
    if moment.frustration is None or moment.urgency is None or moment.boil_over is None:
        return f"turn {moment.label}: not judged"
    return (
        f"turn {moment.label}: frustration {moment.frustration:.1f} of 3, urgency {moment.urgency:.1f} of 3,"
        f" boil-over {100 * moment.boil_over:.0f} %"
    )


def _told(moments: Sequence[Moment]) -> str:
    """The timeline in words, at most a dozen turns of it."""
    every = max(1, math.ceil(len(moments) / 12))
    turned = next((f" The customer turned hot at turn {m.label}." for m in moments if m.turned), "")
    return "Heat by customer turn." + turned + " " + "; ".join(_said(moment) for moment in moments[::every]) + "."


def _markup(svg: Element) -> Markup:
    return Markup(tostring(svg, encoding="unicode"))
