"""Krippendorff's alpha: how far those who labelled the same things agree beyond what chance would give.

Klaus Krippendorff, Computing Krippendorff's Alpha-Reliability (2011). Any number of labels a unit, any missing. Values
may be anything that compares and hashes; how far two are apart is the metric's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Sequence[Hashable], Floats], Floats]
"""Squared distances [values, values] of distinct values, given how often each occurs [values]."""


def nominal(values: Sequence[Hashable], counts: Floats) -> Floats:
    """Equal or not."""
    return np.asarray(1.0 - np.eye(len(values)))


def ordinal(values: Sequence[Hashable], counts: Floats) -> Floats:
    """How many labels lie between two values, these two half; the values must sort."""
    order = np.argsort(np.array(values, dtype=float))
    before = np.empty(len(values))
    before[order] = np.cumsum(counts[order]) - counts[order] / 2
    return np.asarray((before[:, None] - before[None, :]) ** 2)


def overlap(values: Sequence[Hashable], counts: Floats) -> Floats:
    """Of sets: the share of all in either that is not in both."""
    sets = [frozenset(value) if isinstance(value, tuple) else frozenset((value,)) for value in values]
    return np.array([[1 - len(a & b) / len(a | b) if a | b else 0.0 for b in sets] for a in sets])


def alpha(units: Sequence[Sequence[Hashable]], metric: Metric) -> float | None:
    """Alpha over units, each with the labels that it was given; None where no unit has two.

    1 is agreement throughout, 0 what chance gives. 1 where only one value was ever used.
    """
    paired = [unit for unit in units if len(unit) > 1]
    if not paired:
        return None
    values = list(dict.fromkeys(label for unit in paired for label in unit))
    place = {value: number for number, value in enumerate(values)}
    together = np.zeros((len(values), len(values)))
    for unit in paired:
        given = np.bincount([place[label] for label in unit], minlength=len(values)).astype(float)
        together += (np.outer(given, given) - np.diag(given)) / (len(unit) - 1)
    counts = together.sum(axis=1)
    apart = metric(values, counts)
    by_chance = (np.outer(counts, counts) - np.diag(counts)) / (counts.sum() - 1)
    expected = float((by_chance * apart).sum())
    return 1.0 - float((together * apart).sum()) / expected if expected > 0 else 1.0
