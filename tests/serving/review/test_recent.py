"""What was read a moment ago."""

from __future__ import annotations

import asyncio

import pytest

from serving.review.recent import MOST, Recent


class Source:
    """Counts how often it is asked; fails when told to."""

    def __init__(self) -> None:
        self.asked, self.failing = 0, False

    async def __call__(self) -> int:
        await asyncio.sleep(0)
        if self.failing:
            raise OSError("the store is away")
        self.asked += 1
        return self.asked


def test_a_value_is_believed_for_its_time_and_then_made_anew() -> None:
    time, source = [0.0], Source()
    recent: Recent[int] = Recent(10, clock=lambda: time[0])

    async def at(moment: float) -> int:
        time[0] = moment
        return await recent.get("k", source)

    async def steps() -> list[int]:
        return [await at(moment) for moment in (0, 9.9, 10, 15, 21)]

    assert asyncio.run(steps()) == [1, 1, 2, 2, 3]


def test_many_who_ask_at_once_are_answered_by_one_reading() -> None:
    source = Source()
    recent: Recent[int] = Recent()

    async def crowd() -> list[int]:
        return await asyncio.gather(*(recent.get("k", source) for _ in range(20)))

    assert asyncio.run(crowd()) == [1] * 20


def test_a_failure_is_not_kept() -> None:
    source = Source()
    recent: Recent[int] = Recent()

    async def steps() -> int:
        source.failing = True
        with pytest.raises(OSError, match="away"):
            await recent.get("k", source)
        source.failing = False
        return await recent.get("k", source)

    assert asyncio.run(steps()) == 1


def test_only_so_many_are_kept() -> None:
    source = Source()
    recent: Recent[int] = Recent()

    async def steps() -> int:
        for number in range(MOST + 1):
            await recent.get(number, source)
        await recent.get(MOST, source)
        return await recent.get(0, source)

    assert asyncio.run(steps()) == MOST + 2
