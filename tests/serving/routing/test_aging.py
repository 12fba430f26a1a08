"""Waiting ages priority: the order stands still while nothing happens, and nobody starves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.routing.aging import aged_score, rank
from serving.routing.rules import Aging

AGING = Aging(points_per_hour=15)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)

scores = st.integers(0, 100)
minutes = st.integers(0, 100_000)
rates = st.floats(0.1, 1_000).map(lambda rate: Aging(points_per_hour=rate))


def key(score: float, since: datetime, aging: Aging = AGING) -> float:
    found = rank(score, since, aging)
    assert found is not None
    return found


def ago(wait: int) -> datetime:
    return NOON - timedelta(minutes=wait)


@settings(deadline=None)
@given(scores, minutes, scores, minutes, minutes, rates)
def test_the_order_of_two_is_that_of_their_aged_scores_whenever_one_looks(
    one: int, waited: int, other: int, also_waited: int, later: int, aging: Aging
) -> None:
    first, second = ago(waited), ago(also_waited)
    apart = key(one, first, aging) - key(other, second, aging)
    for now in (NOON, NOON + timedelta(minutes=later)):
        seen = aged_score(one, first, now, aging) - aged_score(other, second, now, aging)
        assert seen == pytest.approx(apart, abs=1e-3)


@settings(deadline=None)
@given(scores, st.integers(1, 30), st.floats(1, 100))
def test_a_calm_one_is_first_in_the_end_however_many_hotter_ones_come(score: int, every: int, rate: float) -> None:
    """Hottest conversations come every few minutes and the first in the queue is taken each time."""
    aging, bound = Aging(points_per_hour=rate), (100 - score) / rate * 60
    calm, queue = key(score, NOON, aging), []
    for step in range(int(bound / every) + 3):
        queue.append(key(100, NOON + timedelta(minutes=step * every), aging))
        if calm > max(queue):
            break
        queue.remove(max(queue))
    else:
        pytest.fail("starved")


@settings(deadline=None)
@given(scores, minutes)
def test_a_hotter_one_and_one_that_waits_longer_stand_further_ahead(score: int, waited: int) -> None:
    assert key(score + 1, ago(waited)) > key(score, ago(waited))
    assert key(score, ago(waited + 1)) > key(score, ago(waited))


def test_an_hour_is_worth_what_the_policy_says() -> None:
    assert aged_score(40, ago(90), NOON, AGING) == pytest.approx(62.5)
    assert key(40, ago(60)) == pytest.approx(key(55, NOON))


def test_microseconds_still_tell_who_came_first() -> None:
    assert key(50, NOON) > key(50, NOON + timedelta(milliseconds=1))


def test_who_does_not_wait_has_no_place() -> None:
    assert rank(90, None, AGING) is None
    assert aged_score(90, None, NOON, AGING) == 90


def test_a_clock_that_went_back_adds_nothing() -> None:
    assert aged_score(50, NOON + timedelta(hours=3), NOON, AGING) == 50


def test_time_zones_are_the_same_moment() -> None:
    assert key(50, NOON) == key(50, NOON.astimezone(timezone(timedelta(hours=9))))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        rank(50, datetime(2026, 11, 25), AGING)
