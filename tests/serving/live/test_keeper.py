"""What is done without being asked: waiting that becomes a reason, old conversations, another policy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update

from serving.live.judging import Judge
from serving.live.lifecycle import decided
from serving.policy import Policy
from serving.store.conversations import Filter
from serving.store.database import Database, open_database
from serving.store.schema import conversations
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


def asking_more(judge: Judge) -> Judge:
    """The policy with a factor more, as after somebody added one to the file."""
    config = judge.policy.config
    again = config.factors["churn_threat"].model_copy(update={"value": "repeat_contact"})
    more = config.model_copy(update={"factors": {**config.factors, "again": again}})
    return Judge(Policy(more, judge.vocabulary), judge.vocabulary)


def test_a_policy_with_another_factor_shows_and_ages_what_it_has_not_decided_yet(
    world: World, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(world, message("m1", "hello"))
    assert decided(read(world).state, asking_more(judge), world.clock()).queue == "standard"
    world.clock.move(hours=5)
    monkeypatch.setattr(world.live.keeper, "_judge", lambda: asking_more(judge))
    assert asyncio.run(world.live.keeper.age()) == 1


def test_a_policy_that_changed_while_nobody_served_decides_anew_at_the_start(world: World, judge: Judge) -> None:
    post(world, message("m1", "hello"))
    config = judge.policy.config
    aging = config.aging.model_copy(update={"points_per_hour": 2 * config.aging.points_per_hour})
    other = Judge(Policy(config.model_copy(update={"aging": aging}), judge.vocabulary), judge.vocabulary)
    before, restarted = read(world).state.rank, build(world.database, other)
    assert [asyncio.run(restarted.live.keeper.catch_up()) for _ in range(2)] == [1, 0]
    assert read(world).state.rank == pytest.approx(2 * before)


def test_clearing_what_was_erased_holds_up_no_commit(world: World) -> None:
    post(world, message("m1"))
    with world.database.reading.begin() as reading:
        reading.exec_driver_sql("SELECT count(*) FROM conversations").scalar()
        post(world, message("m2"))
        world.live.keeper.erased()
        clearing = threading.Thread(target=lambda: asyncio.run(world.live.keeper.clear()))
        clearing.start()
        time.sleep(0.05)
        began = time.monotonic()
        post(world, message("m3"))
        assert time.monotonic() - began < 2
        clearing.join()


@contextmanager
def another_replica_changes(database: Database, **values: object) -> Iterator[None]:
    """Runs the block while a transaction that has changed every conversation is about to commit."""
    changed = threading.Event()

    def work() -> None:
        with database.writing.begin() as connection:
            version = conversations.c.version + 1
            connection.execute(update(conversations).values(version=version, **values))
            changed.set()
            time.sleep(0.3)

    thread = threading.Thread(target=work)
    thread.start()
    changed.wait()
    yield
    thread.join()


def test_a_change_of_another_replica_does_not_stop_the_keeping(postgres_url: str, judge: Judge) -> None:
    database = open_database(postgres_url)
    world = build(database, judge, keep_days=30)
    post(world, message("m1"))
    world.clock.move(hours=5)
    with another_replica_changes(database):
        assert asyncio.run(world.live.keeper.age()) == 1
    world.clock.move(days=40)
    with another_replica_changes(database, updated_at=world.clock()):  # somebody wrote after all
        assert asyncio.run(world.live.keeper.forget()) == 0
    assert read(world).state.queue == "priority"
    database.close()
