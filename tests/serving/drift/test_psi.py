"""The population stability index: never negative, nothing between equals, and no alarm from small numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reference import Histogram
from serving.drift.psi import index, psi

counts = st.lists(st.integers(0, 10_000), min_size=2, max_size=30)


@given(st.integers(2, 30).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 9_999), min_size=n, max_size=n)] * 2)))
def test_it_is_never_negative_and_the_same_both_ways(both: tuple[list[int], list[int]]) -> None:
    first, second = (np.array(side, dtype=float) for side in both)
    assert psi(first, second) >= 0
    assert psi(first, second) == pytest.approx(psi(second, first), abs=1e-12)


@given(counts, st.integers(1, 1_000))
def test_equal_shares_give_nothing_whatever_their_number(shares: list[int], times: int) -> None:
    assert psi(np.array(shares, float), times * np.array(shares, float)) == pytest.approx(0.0, abs=1e-12)


@given(counts)
def test_against_nothing_there_is_nothing_to_say(side: list[int]) -> None:
    assert psi(np.array(side, float), np.zeros(len(side))) == 0


def test_it_is_what_the_formula_says_where_counts_are_large() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    assert psi(p * 1e9, q * 1e9) == pytest.approx(float(((p - q) * np.log(p / q)).sum()), rel=1e-6)


def histogram(of: list[int], effective: float) -> Histogram:
    return Histogram(counts=tuple(of), messages=sum(of), effective=effective)


@pytest.mark.parametrize("size", [20, 200, 2_000])
def test_chance_alone_is_hardly_ever_beyond_chance(size: int) -> None:
    shares, rng = np.array([0.02, 0.08, 0.2, 0.3, 0.4]), np.random.default_rng(3)
    drawn = [[histogram(list(rng.multinomial(n, shares)), n) for n in (size, 1_000)] for _ in range(100)]
    alarms = sum(index(live, other, chance=0.01).beyond_chance for live, other in drawn)
    assert alarms <= 5  # of 100, where 1 is expected


def test_what_is_worth_little_must_move_further() -> None:
    live, other = [40, 60], [50, 50]
    assert not index(histogram(live, 20), histogram(other, 20), 0.01).beyond_chance
    assert index(histogram([400, 600], 1_000), histogram([500, 500], 1_000), 0.01).beyond_chance


def test_the_excess_is_what_chance_leaves_unexplained() -> None:
    found = index(histogram([50, 50], 100), histogram([52, 48], 100), 0.01)
    assert found.value > 0
    assert found.excess < found.value
    assert index(histogram([0, 0], 0), histogram([1, 1], 2), 0.01).excess == 0
