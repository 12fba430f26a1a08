"""What is drawn: once a day, the same by every replica, with the chance that is kept."""

from __future__ import annotations

import asyncio

import pytest

from serving.review.config import SamplingConfig
from serving.review.sampling import FLAGGED, RANDOM, UNCERTAIN, Sampler, draw
from serving.store.schema import draws, samples
from tests.serving.review.conftest import Bench, run

EVERYTHING = SamplingConfig(flagged=1, random=1, uncertain=1)


@pytest.mark.parametrize(
    ("flagged", "heat", "kinds"),
    [(True, 0.9, {FLAGGED}), (False, 0.0, {RANDOM}), (False, 0.25, {RANDOM, UNCERTAIN})],
)
def test_a_conversation_is_drawn_as_often_as_its_chance_says(flagged: bool, heat: float, kinds: set[str]) -> None:
    config = SamplingConfig(flagged=0.3, random=0.1, uncertain=0.4)
    found = [one for n in range(6000) if (one := draw(f"c{n}", flagged, heat, config))]
    (chance,) = {one.chance for one in found}
    assert chance == pytest.approx(0.3 if flagged else 1 - 0.9 * (1 - 0.4 * 2 * heat))
    assert len(found) / 6000 == pytest.approx(chance, abs=0.025)
    assert {one.kind for one in found} == kinds
    assert sum(one.place for one in found) / len(found) == pytest.approx(0.5, abs=0.05)


def test_another_salt_draws_others() -> None:
    one, other = SamplingConfig(random=0.2, uncertain=0), SamplingConfig(random=0.2, uncertain=0, salt="spring")
    drawn = [{n for n in range(500) if draw(f"c{n}", False, 0.0, config)} for config in (one, other)]
    assert drawn[0] != drawn[1]
    assert drawn[0] == {n for n in range(500) if draw(f"c{n}", False, 0.0, one)}


def sampler(bench: Bench) -> Sampler:
    return Sampler(bench.reader, bench.writer, EVERYTHING, bench.clock)


def test_a_settled_day_is_drawn_from_once(bench: Bench) -> None:
    bench.say("hot", "furious")
    bench.say("calm", "hello")
    bench.clock.move(hours=38)  # the day has ended less than a day ago
    assert run(sampler(bench).catch_up()) == 0
    bench.clock.move(hours=2)
    bench.say("late", "furious")
    assert run(sampler(bench).catch_up()) == 2
    assert run(sampler(bench).catch_up()) == 0
    assert {(row.conversation, row.kind, row.chance, row.day) for row in bench.rows(samples)} == {
        ("hot", "flagged", 1.0, "2026-03-01"),
        ("calm", "random", 1.0, "2026-03-01"),
    }
    assert [(row.day, row.flagged, row.calm) for row in bench.rows(draws)] == [("2026-03-01", 1, 1)]


def test_what_becomes_hot_after_its_day_keeps_the_chance_that_it_had(bench: Bench) -> None:
    bench.say("c1", "hello")
    bench.clock.move(days=3)
    run(sampler(bench).catch_up())
    bench.say("c1", "hello", "furious")
    run(sampler(bench).catch_up())
    assert [(row.conversation, row.kind) for row in bench.rows(samples)] == [("c1", "random")]


def test_two_replicas_draw_a_day_once(desk: Bench) -> None:
    desk.say("c1", "hello")
    desk.clock.move(days=3)
    one, other = sampler(desk), sampler(desk)

    async def both() -> list[int]:
        return list(await asyncio.gather(one.catch_up(), other.catch_up()))

    assert sorted(run(both())) == [0, 1]
    assert len(desk.rows(samples)) == 1
