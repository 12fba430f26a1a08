"""Differences between two models on the same rows, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from training.bootstrap import Measures, Resampling
from training.paired import paired

CONFIG = Resampling(bootstrap=400, seed=5)
RNG = np.random.default_rng(3)


def mean_of(values: np.ndarray) -> Measures:
    return lambda weights: {"mean": np.asarray(weights @ values / weights.sum(axis=1))}


def test_a_model_differs_from_itself_by_nothing() -> None:
    values = RNG.random(200)
    found = paired(mean_of(values), mean_of(values), np.arange(200), CONFIG)["mean"]
    assert (found.value, found.low, found.high, found.error) == (0, 0, 0, 0)


def test_what_makes_a_row_hard_for_both_leaves_the_difference_sure() -> None:
    """The rows spread by 1, the difference by 0.01: unpaired intervals would drown it."""
    values = RNG.normal(size=300)
    better = values + 0.05 + 0.01 * RNG.normal(size=300)
    found = paired(mean_of(values), mean_of(better), np.arange(300), CONFIG)["mean"]
    assert 0.045 < found.low < found.value < found.high < 0.055
    assert found.value == pytest.approx(found.after - found.before)


def test_the_interval_is_that_of_the_mean() -> None:
    gains = RNG.normal(size=500)
    found = paired(mean_of(np.zeros(500)), mean_of(gains), np.arange(500), Resampling(bootstrap=4000, seed=1))["mean"]
    error = gains.std() / 500**0.5
    assert found.error == pytest.approx(error, rel=0.1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_conversations_are_drawn_whole() -> None:
    gains = np.repeat(RNG.normal(size=25), 20)
    alone = paired(mean_of(np.zeros(500)), mean_of(gains), np.arange(500), CONFIG)["mean"]
    together = paired(mean_of(np.zeros(500)), mean_of(gains), np.repeat(np.arange(25), 20), CONFIG)["mean"]
    assert together.error > 3 * alone.error


def test_a_measure_that_says_nothing_is_left_out() -> None:
    def silent(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": np.ones(len(weights)), "none": np.full(len(weights), np.nan)}

    assert set(paired(silent, silent, np.arange(10), CONFIG)) == {"mean"}
