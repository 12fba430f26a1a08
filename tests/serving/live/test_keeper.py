"""What is done without being asked: waiting that becomes a reason, old conversations, another policy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.live.judging import Judge
from serving.live.lifecycle import decided
from serving.policy import Policy
from serving.store.conversations import Filter
from serving.store.database import open_database
from tests.serving.live.conftest import World, build
from tests.serving.live.test_conversations import kinds, message, post, read


@pytest.fixture
def short(tmp_path: Path, judge: Judge) -> Iterator[World]:
    """A store that keeps conversations for thirty days."""
    database = open_database(f"sqlite:///{tmp_path}/simmer.db")
    yield build(database, judge, keep_days=30)
    database.close()


def queue(world: World, **chosen: str) -> list[str]:
    return [state.id for state in asyncio.run(world.live.queue(Filter(**chosen), 100))[1]]


def test_the_hottest_come_first_and_those_who_wait_move_up(world: World, judge: Judge) -> None:
    post(world, message("m1", "hello"), to="calm")
    world.clock.move(minutes=1)
    post(world, message("m1", "furious, my lawyer calls, urgent"), to="hot")
    post(world, message("m1", "hello"), to="later")
    assert queue(world) == ["hot", "calm", "later"]
    points = judge.policy.config.aging.points_per_hour
    world.clock.move(hours=100 / points)
    post(world, message("m1", "furious, my lawyer calls, urgent"), to="newly hot")
    assert queue(world) == ["hot", "calm", "later", "newly hot"]


def test_a_wait_becomes_a_reason_once(world: World, judge: Judge) -> None:
    post(world, message("m1", "hello"))
    waiting = judge.policy.config.waiting
    world.clock.move(minutes=waiting.fires_at * waiting.full_after_minutes - 1)
    assert asyncio.run(world.live.keeper.age()) == 0
    world.clock.move(minutes=2)
    assert [asyncio.run(world.live.keeper.age()) for _ in range(2)] == [1, 0]
    state = read(world).state
    assert (state.queue, state.reasons) == ("priority", ["long_wait"])
    assert queue(world, queue="priority") == ["c1"]
    assert kinds(world) == ["escalated"]
    assert decided(state, judge, world.clock()).score > state.score  # shown with the wait, ranked by its own rule


def test_what_is_older_than_it_is_kept_is_erased(short: World) -> None:
    post(short, message("m1", "furious"), to="old")
    short.clock.move(days=29)
    post(short, message("m1"), to="young")
    assert asyncio.run(short.live.keeper.forget()) == 0
    short.clock.move(days=2)
    assert asyncio.run(short.live.keeper.forget()) == 1
    assert queue(short) == ["young"]


def test_another_policy_decides_those_who_wait_anew(
    world: World, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(world, message("m1", "furious"))
    assert read(world).state.queue == "senior"
    config = judge.policy.config
    queues = tuple(
        q.model_copy(update={"reasons": (), "score": 0 if q.name == "standard" else 100}) for q in config.queues
    )
    mild = Judge(Policy(config.model_copy(update={"queues": queues}), judge.vocabulary), judge.vocabulary)
    monkeypatch.setattr(world.live.keeper, "_judge", lambda: mild)
    assert asyncio.run(world.live.keeper.adopt()) == 1
    assert read(world).state.queue == "standard"
