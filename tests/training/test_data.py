from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import RatedSampler

SOURCES = ["own"] * 60 + ["large"] * 400 + ["rare"] * 10
RATES = {"large": 0.25, "rare": 2.5}


def sampler(epoch: int = 0, seed: int = 1) -> RatedSampler:
    made = RatedSampler(list(range(len(SOURCES))), SOURCES, RATES, batch_rows=8, seed=seed)
    made.set_epoch(epoch)
    return made


def test_a_source_is_drawn_at_its_rate() -> None:
    drawn = Counter(SOURCES[row] for row in sampler())
    assert drawn == {"own": 60, "large": 100, "rare": 25}
    assert len(sampler()) == 185


def test_a_rate_above_one_draws_every_row_about_as_often() -> None:
    times = Counter(row for row in sampler() if SOURCES[row] == "rare")
    assert set(times.values()) == {2, 3}
    assert len(times) == 10


def test_another_epoch_draws_other_rows() -> None:
    assert set(sampler(0)) != set(sampler(1))


def test_the_same_epoch_draws_the_same_rows_in_the_same_order() -> None:
    assert list(sampler(3)) == list(sampler(3))
    assert list(sampler(3)) != list(sampler(3, seed=2))


def test_batches_hold_rows_of_like_length() -> None:
    rows = list(sampler())
    batches = [rows[start : start + 8] for start in range(0, len(rows), 8)]
    spans = [max(batch) - min(batch) for batch in batches]
    assert sum(spans) / len(spans) < 0.1 * len(SOURCES)


@given(counts=st.lists(st.integers(0, 90), min_size=1, max_size=4), rate=st.floats(0.01, 3), rows=st.integers(1, 9))
def test_as_many_rows_come_as_were_promised(counts: list[int], rate: float, rows: int) -> None:
    sources = [str(n) for n, count in enumerate(counts) for _ in range(count)]
    if not sources:
        return
    made = RatedSampler([1] * len(sources), sources, {"0": rate}, rows, seed=0)
    drawn = list(made)
    assert len(drawn) == len(made)
    assert all(0 <= row < len(sources) for row in drawn)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rate_zero_draws_none_and_one_draws_all(rate: float) -> None:
    assert sorted(RatedSampler([1, 1], ["a", "a"], {"a": rate}, 2, seed=0)) == ([0, 1] if rate else [])
