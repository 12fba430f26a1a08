"""How sure figures are: 95 % intervals from resampling whole conversations, many resamples at once.

A set of measures takes how often each row counts in each resample and gives one number a resample, so that a thousand
resamples are a few matrix products. `pipeline.scores.with_interval` does the same for any function of rows, slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.heads import Floats

Weights: TypeAlias = NDArray[np.float32]
"""How often each row counts in each resample [rounds, rows]."""

Measures: TypeAlias = Callable[[Weights], Mapping[str, Floats]]
"""Named figures, each one number a resample [rounds]; not a number where a resample says nothing of it."""

Figure: TypeAlias = dict[str, float]
"""`value` with the ends of its interval, `low` and `high`."""

_CELLS = 4_000_000  # weights held at once: 16 MB


class Resampling(Config):
    """Bootstrap rounds and their seed."""

    bootstrap: int
    seed: int


def intervals(measures: Measures, groups: NDArray[np.intp], config: Resampling) -> dict[str, Figure]:
    """Every measure over all rows with its interval; one that the rows say nothing of is left out.

    `groups` [rows] tells which conversation each row belongs to; conversations are drawn whole.
    """
    whole = {name: float(value[0]) for name, value in measures(np.ones((1, len(groups)), dtype=np.float32)).items()}
    rounds = [measures(weights) for weights in resamples(groups, config)]
    found = {}
    for name, value in whole.items():
        if np.isfinite(value):
            low, high = np.nanquantile(np.concatenate([drawn[name] for drawn in rounds]), [0.025, 0.975])
            found[name] = {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return found


def resamples(groups: NDArray[np.intp], config: Resampling) -> Iterator[Weights]:
    """The weights of all rounds, as many rounds at a time as memory should hold."""
    members = np.unique(groups, return_inverse=True)[1]
    number = int(members.max()) + 1
    rng = np.random.default_rng(config.seed)
    step = max(1, _CELLS // len(groups))
    for start in range(0, config.bootstrap, step):
        rounds = min(step, config.bootstrap - start)
        drawn = rng.integers(0, number, (rounds, number)) + number * np.arange(rounds)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rounds * number).reshape(rounds, number)
        yield counts.astype(np.float32)[:, members]
