import numpy as np
import pytest

from pipeline.heads import Floats
from pipeline.scores import with_interval
from training.bootstrap import Resampling, Weights, intervals, resamples

CONFIG = Resampling(bootstrap=600, seed=3)


def mean_of(values: Floats):  # type: ignore[no-untyped-def]
    return lambda weights: {"mean": (weights @ values) / weights.sum(axis=1)}


def test_it_says_what_the_slow_way_says() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 80, 400)
    values = (rng.random(400) < 0.2 + 0.5 * (groups % 2)).astype(float)
    fast = intervals(mean_of(values), groups, CONFIG)["mean"]
    slow = with_interval(lambda rows: float(values[rows].mean()), groups, 600, 4)
    assert fast["value"] == slow["value"]
    assert fast["low"] == pytest.approx(slow["low"], abs=0.015)
    assert fast["high"] == pytest.approx(slow["high"], abs=0.015)


def test_rows_of_one_conversation_count_together() -> None:
    groups = np.array([7, 7, 2, 2, 2, 5])
    for weights in resamples(groups, CONFIG):
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 2] == weights[:, 4]).all()
        assert (weights[:, [0, 2, 5]].sum(axis=1) == 3).all()


def test_conversations_drawn_whole_leave_one_less_sure() -> None:
    values = np.repeat(np.random.default_rng(2).random(40) < 0.5, 10).astype(float)
    together = intervals(mean_of(values), np.repeat(np.arange(40), 10), CONFIG)["mean"]
    apart = intervals(mean_of(values), np.arange(400), CONFIG)["mean"]
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])


def test_what_rows_say_nothing_of_is_left_out() -> None:
    def measures(weights: Weights) -> dict[str, Floats]:
        return {"nothing": np.full(len(weights), np.nan), "one": np.ones(len(weights))}

    assert set(intervals(measures, np.arange(5), CONFIG)) == {"one"}
