"""What stays on record of a conversation when it has cooled down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from serving.live.judging import Judge
from serving.policy import Policy, RoutingConfig
from serving.routing.rules import HoldOut
from serving.store.database import Database, open_database
from serving.store.records import State
from tests.serving.live.conftest import World, build
from tests.serving.live.test_conversations import message, post, read


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = open_database(sqlite_url)
    yield database
    database.close()


def state(world: World, *texts: str) -> State:
    """The state after the customer's messages, `answer` being an agent's."""
    for number, text in enumerate(texts):
        role = "agent" if text == "answer" else "customer"
        post(world, message(f"m{number}", text, role))
    found: State = read(world).state
    return found


def test_the_highest_priority_and_every_reason_stay(world: World) -> None:
    hot = state(world, "I am furious")
    cool = state(world, "I am furious", "answer", "thank you")
    assert (cool.score < hot.score, cool.peak) == (True, hot.score)
    assert (cool.heat, cool.hot, cool.model) == (1.0, False, "1")
    assert set(hot.reasons) <= set(cool.fired)
    assert "frustration_severe" not in cool.reasons


@pytest.mark.parametrize(
    ("texts", "turn", "foreseen"),
    [
        (["hello"], None, False),
        (["furious"], 1, False),
        (["hello", "answer", "furious"], 2, False),
        (["soon", "furious"], 2, True),
        (["soon", "answer", "hello", "furious"], 3, True),
        (["furious, soon", "answer", "hello", "furious"], 1, False),
        (["furious", "answer", "soon"], 1, False),
        (["soon", "hello"], None, True),
    ],
)
def test_when_it_became_hot_and_whether_that_was_foreseen(
    world: World, texts: list[str], turn: int | None, foreseen: bool
) -> None:
    found = state(world, *texts)
    assert (found.hot_turn, found.foreseen_at is not None) == (turn, foreseen)
    assert (found.first_hot_at is None) == (turn is None)


def test_waiting_that_became_a_reason_stays_one_that_fired(world: World) -> None:
    state(world, "where is it")
    world.clock.move(hours=2)
    asyncio.run(world.live.keeper.age())
    assert read(world).state.fired == ["long_wait"]


def test_a_conversation_held_out_from_routing_is_on_record_as_hot_as_it_was(database: Database, judge: Judge) -> None:
    values = judge.policy.config.model_dump() | {"holdout": HoldOut(share=1, salt="x").model_dump()}
    held = Policy(RoutingConfig.model_validate(values), judge.vocabulary)
    found = state(build(database, Judge(held, judge.vocabulary)), "I am furious")
    assert found.held_out
    assert found.reasons == []
    assert "frustration_severe" in found.fired
    assert found.peak > found.score
