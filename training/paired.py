"""How much better one model is than another on the same rows, and how sure that is: the paired bootstrap.

Both models' measures are taken over the same resampled conversations, so that what makes a resample hard for one makes
it hard for the other, and only their difference varies (Efron and Tibshirani 1993; Koehn 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import Measures, Resampling, resamples


@dataclass(frozen=True)
class Difference:
    """A measure of both models, the second minus the first, its 95 % interval, and its standard error."""

    before: float
    after: float
    low: float
    high: float
    error: float

    @property
    def value(self) -> float:
        """What the second model gains."""
        return self.after - self.before


def paired(before: Measures, after: Measures, groups: NDArray[np.intp], config: Resampling) -> dict[str, Difference]:
    """Every measure that both models have over all rows; one of which the rows say nothing is left out.

    `groups` [rows] tells which conversation each row belongs to; conversations are drawn whole.
    """
    once = np.ones((1, len(groups)), dtype=np.float32)
    whole = {name: (float(value[0]), float(after(once)[name][0])) for name, value in before(once).items()}
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name, pair in whole.items() if np.isfinite(pair).all()}
    for weights in resamples(groups, config) if drawn else ():
        first, second = before(weights), after(weights)
        for name, parts in drawn.items():
            parts.append(second[name] - first[name])
    return {name: _difference(*whole[name], np.concatenate(parts)) for name, parts in drawn.items()}


def _difference(before: float, after: float, drawn: NDArray[np.float64]) -> Difference:
    known = drawn[np.isfinite(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (-np.inf, np.inf)
    return Difference(before, after, float(low), float(high), float(known.std()) if len(known) else np.inf)
