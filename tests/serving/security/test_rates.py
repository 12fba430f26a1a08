"""Rates: no sequence of calls gets more than its due, and whoever waits as told is served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.security.rates import RateConfig, RateLimiter, caller_of, retry_after


class Clock:
    """A monotonic clock that tests move, in seconds."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def limiter(per_second: float = 1.0, burst: int = 3, callers: int = 100) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(RateConfig(per_second=per_second, burst=burst, callers=callers), clock), clock


def test_a_burst_goes_through_and_then_the_rate() -> None:
    rates, clock = limiter()
    assert [rates.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(1)]
    clock.time += 0.25
    assert rates.take("a") == pytest.approx(0.75)
    clock.time += 0.75
    assert rates.take("a") == 0
    assert rates.take("a") == pytest.approx(1)


def test_callers_do_not_feel_each_other() -> None:
    rates, _ = limiter(burst=1)
    assert rates.take("a") == 0
    assert rates.take("a") > 0
    assert rates.take("b") == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    rates, _ = limiter(burst=1)
    assert rates.take("a") == 0
    rates.give_back("a")
    rates.give_back("never seen")
    assert rates.take("a") == 0
    assert rates.take("a") > 0


@given(st.lists(st.text(max_size=3), max_size=60), st.integers(1, 5))
def test_memory_is_bounded(names: list[str], callers: int) -> None:
    rates, _ = limiter(callers=callers)
    for name in names:
        rates.take(name)
        assert len(rates) <= callers


def test_a_waiting_caller_is_not_forgotten_for_one_that_was_silent() -> None:
    rates, _ = limiter(burst=1, callers=2)
    for name in ("silent", "busy", "third"):
        assert rates.take(name) == 0
    assert rates.take("busy") > 0


@given(
    gaps=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=80),
    per_second=st.floats(0.1, 20),
    burst=st.integers(1, 10),
)
def test_no_window_holds_more_than_burst_and_rate(gaps: list[float], per_second: float, burst: int) -> None:
    rates, clock = limiter(per_second, burst)
    served: list[float] = []
    for gap in gaps:
        clock.time += gap
        wait = rates.take("a")
        if wait == 0:
            served.append(clock.time)
        assert wait <= 1 / per_second + 1e-6
    for first, began in enumerate(served):
        for last in range(first, len(served)):
            assert last - first + 1 <= burst + (served[last] - began) * per_second + 1e-6


@given(per_second=st.floats(0.01, 1000), burst=st.integers(1, 10), gaps=st.lists(st.floats(0, 1), max_size=20))
def test_whoever_waits_as_told_is_served(per_second: float, burst: int, gaps: list[float]) -> None:
    rates, clock = limiter(per_second, burst)
    for gap in gaps:
        clock.time += gap
        clock.time += rates.take("a")
    for _ in range(2 * burst):
        wait = rates.take("a")
        clock.time += wait
        assert not wait or rates.take("a") == 0


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.01, "1"), (1.0, "1"), (1.2, "2"), (59.9, "60")])
def test_retry_after_is_whole_seconds(seconds: float, header: str) -> None:
    assert retry_after(seconds) == header


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("203.0.113.9", 1), "203.0.113.9"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (None, ""),
        (("::ffff:203.0.113.9", 1), "203.0.113.9"),
        (("testclient", 1), "testclient"),
    ],
)
def test_a_caller_is_an_address_or_a_network(client: tuple[str, int] | None, caller: str) -> None:
    assert caller_of({"type": "http", "client": client}) == caller
