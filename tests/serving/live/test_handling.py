"""Claim, assign, release, resolve, erase: who gets what, one at a time, audited, and told of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.live.handling import NobodyFits, UnknownAgent
from serving.live.lifecycle import NotNow
from serving.routing.agents import Agent
from serving.store import agents
from serving.store.audit import history, verify
from tests.serving.live.conftest import World, build
from tests.serving.live.test_conversations import kinds, message, post, read

NOVICE = Agent(id="novice", languages=frozenset({"en"}), cap=2)
CARRYING = agents.carrying
SENIOR = Agent(id="senior", tier="senior", languages=frozenset({"en"}), cap=1)


def run(world: World, *steps: Any) -> list[Any]:
    async def all_of_them() -> list[Any]:
        return [await step for step in steps]

    return asyncio.run(all_of_them())


@pytest.fixture
def staffed(world: World) -> World:
    handling = world.live.handling
    run(world, handling.put_agent(NOVICE, "desk"), handling.put_agent(SENIOR, "desk"))
    return world


def test_hot_conversations_go_to_who_is_fit_for_them(staffed: World) -> None:
    post(staffed, message("m1", "furious"))
    post(staffed, message("m1", "where is it"), to="c2")
    handling = staffed.live.handling
    hot, calm = run(staffed, handling.assign("c1", "desk"), handling.assign("c2", "desk"))
    assert (hot.state.agent, calm.state.agent) == ("senior", "novice")
    assert hot.state.status == "assigned"
    assert hot.state.rank is None
    assert kinds(staffed)[-2:] == ["assigned", "assigned"]


def test_nobody_gets_more_than_they_can_take(staffed: World) -> None:
    post(staffed, message("m1", "furious"))
    post(staffed, message("m1", "furious"), to="c2")
    handling = staffed.live.handling
    run(staffed, handling.assign("c1", "desk"))
    with pytest.raises(NobodyFits) as stopped:
        run(staffed, handling.assign("c2", "desk"))
    assert stopped.value.rejected == {"novice": "tier", "senior": "full"}


def test_two_replicas_that_assign_at_once_give_one_conversation_to_one_agent(staffed: World, judge: Any) -> None:
    other = build(staffed.database, judge)
    for number in range(4):
        post(staffed, message("m1", "hello"), to=f"c{number}")

    async def both() -> list[Any]:
        replicas = (staffed.live.handling, other.live.handling)
        tasks = [replica.assign(f"c{number}", "desk") for number in range(4) for replica in replicas]
        return await asyncio.gather(*tasks, return_exceptions=True)

    given = asyncio.run(both())
    loads = {one.agent.id: one.load.open for one in asyncio.run(staffed.live.agents())}
    assert loads == {"novice": 2, "senior": 1}  # the caps, and no more
    agents: dict[str, set[str | None]] = {}
    for one in given:
        if not isinstance(one, Exception):
            agents.setdefault(one.state.id, set()).add(one.state.agent)
    assert all(len(names) == 1 for names in agents.values())


def test_the_next_conversation_is_the_hottest_that_the_agent_may_take(staffed: World) -> None:
    post(staffed, message("m1", "hello"))
    post(staffed, message("m1", "furious"), to="c2")
    handling = staffed.live.handling
    novice, senior, nothing = run(
        staffed, handling.next("novice", "desk"), handling.next("senior", "desk"), handling.next("senior", "desk")
    )
    assert (novice.state.id, senior.state.id, nothing) == ("c1", "c2", None)


def test_a_conversation_that_is_taken_is_not_taken_again(staffed: World) -> None:
    post(staffed, message("m1"))
    handling = staffed.live.handling
    run(staffed, handling.claim("c1", "novice", "desk"))
    with pytest.raises(NotNow, match="novice"):
        run(staffed, handling.claim("c1", "senior", "desk"))
    assert run(staffed, handling.claim("c1", "novice", "desk"))[0].why == ("theirs_already",)
    with pytest.raises(UnknownAgent):
        run(staffed, handling.claim("c1", "nobody", "desk"))


def test_released_and_resolved_only_when_it_makes_sense(staffed: World) -> None:
    post(staffed, message("m1"))
    handling = staffed.live.handling
    with pytest.raises(NotNow):
        run(staffed, handling.release("c1", "desk"))
    run(staffed, handling.claim("c1", "novice", "desk"), handling.release("c1", "desk"))
    assert read(staffed).state.rank is not None
    run(staffed, handling.resolve("c1", None, "desk"))
    with pytest.raises(NotNow):
        run(staffed, handling.resolve("c1", None, "desk"))


def test_everything_that_people_do_is_in_the_audit_log_and_stays_after_erasure(staffed: World) -> None:
    post(staffed, message("m1", "furious about my knee"))
    handling = staffed.live.handling
    run(staffed, handling.assign("c1", "lead"), handling.release("c1", "lead"), handling.resolve("c1", "ok", "lead"))
    run(staffed, handling.erase("c1", "lead"))
    with staffed.database.reading.begin() as connection:
        entries = history(connection, "c1")
        assert [entry.action for entry in entries] == ["assigned", "released", "resolved", "erased"]
        assert {entry.actor for entry in entries} == {"lead"}
        assert verify(connection).broken is None


def test_an_answer_of_the_customer_finds_the_agent_they_know(staffed: World) -> None:
    post(staffed, message("m1"))
    handling = staffed.live.handling
    run(staffed, handling.claim("c1", "senior", "desk"), handling.resolve("c1", None, "desk"))
    staffed.clock.move(hours=2)
    post(staffed, message("m2", "one more thing"))
    assert run(staffed, handling.assign("c1", "desk"))[0].why == ("previous_agent",)


def test_a_customer_who_writes_again_is_heard_whatever_the_clocks_say(world: World) -> None:
    post(world, message("m1", "furious"))
    world.clock.move(seconds=2)  # another replica's clock is ahead
    run(world, world.live.handling.resolve("c1", None, "desk"))
    world.clock.move(seconds=-1)
    post(world, message("m2", "furious, that did not help"))
    assert (read(world).state.status, kinds(world)[-1]) == ("open", "reopened")


def test_who_fits_is_asked_of_the_store_once_however_many_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = Agent(id="away", languages=frozenset({"en"}), cap=2, online=False)
    run(world, world.live.handling.put_agent(offline, "desk"))
    for number in range(20):
        post(world, message("m1"), to=f"c{number}")
    asked: list[int] = []
    monkeypatch.setattr(agents, "carrying", lambda connection: asked.append(1) or CARRYING(connection))
    assert run(world, world.live.handling.next("away", "desk")) == [None]
    assert len(asked) <= 2
