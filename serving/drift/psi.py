"""The population stability index between two counts of the same bins, and what chance alone would make of it.

    PSI = Σ (p − q) · ln(p / q)

Both sides are drawn a little towards each other, so that an empty bin is no infinite surprise. Plain numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.heads import Floats
from pipeline.reference import Histogram

DRAWN = 0.5  # observations a bin that each side takes over from what both have together
ROUNDS = (300, 2_000)  # the more bins, the less an index varies and the fewer will do
DRAWS = 20_000  # of single bins, about


def psi(first: Floats, second: Floats) -> Floats:
    """The index between counts [..., bins]; 0 where both have the same shares, or one counted nothing."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    total_a, total_b = a.sum(axis=-1, keepdims=True), b.sum(axis=-1, keepdims=True)
    both = (a + b) / np.maximum(total_a + total_b, 1e-300)
    drawn = DRAWN * np.maximum((both > 0).sum(axis=-1, keepdims=True), 1)
    p, q = (a + drawn * both) / (total_a + drawn), (b + drawn * both) / (total_b + drawn)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(both > 0, (p - q) * np.log(p / q), 0.0)
    empty = ((total_a == 0) | (total_b == 0))[..., 0]
    return np.where(empty, 0.0, np.maximum(terms.sum(axis=-1), 0.0))


@dataclass(frozen=True)
class Index:
    """A PSI beside what it would be if nothing had changed: on average, and at most (but for a share `chance`)."""

    value: float
    expected: float
    ceiling: float

    @property
    def excess(self) -> float:
        """What chance does not explain on average; 0 at least."""
        return max(0.0, self.value - self.expected)

    @property
    def beyond_chance(self) -> bool:
        """Whether chance alone would hardly give so much."""
        return self.value > self.ceiling


def index(live: Histogram, other: Histogram, chance: float, seed: int = 17) -> Index:
    """The PSI of two histograms of the same bins, each worth its effective number of observations."""
    a, b = _worth(live), _worth(other)
    both = (a + b) / max(1.0, float(a.sum() + b.sum()))
    rng = np.random.default_rng(seed)
    if not (a.sum() and b.sum()):
        return Index(0.0, 0.0, 0.0)
    sizes = [max(1, round(float(side.sum()))) for side in (a, b)]
    rounds = min(max(DRAWS // len(both), ROUNDS[0]), ROUNDS[1])
    drawn = [rng.multinomial(size, both / both.sum(), rounds).astype(float) for size in sizes]
    noise = psi(drawn[0], drawn[1])
    return Index(float(psi(a, b)), float(noise.mean()), float(np.quantile(noise, 1 - chance)))


def _worth(counted: Histogram) -> Floats:
    return np.asarray(counted.shares() * counted.effective)
