"""Taking messages in: answers, replays, contradictions, late messages, two replicas, and what is kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from serving.live.bodies import NewConversation, NewMessage
from serving.live.conversations import Contradiction, NotThere, Said
from serving.store.database import StoreUnavailable
from tests.serving.live.conftest import START, World, build


def message(identifier: str, text: str = "hello", role: str = "customer", minute: float | None = None) -> NewMessage:
    at = None if minute is None else START + timedelta(minutes=minute)
    return NewMessage(id=identifier, text=text, role=role, at=at)  # type: ignore[arg-type]


def post(world: World, *messages: NewMessage, to: str = "c1") -> list[Said]:
    async def run() -> list[Said]:
        return [await world.live.conversations.post(to, one) for one in messages]

    return asyncio.run(run())


def read(world: World, identifier: str = "c1") -> Any:
    return asyncio.run(world.live.read(identifier))[0]


def kinds(world: World) -> list[str]:
    from serving.store.outbox import since

    with world.database.reading.begin() as connection:
        return [event.kind for event in since(connection, 0, 1000)]


def test_a_conversation_begins_with_its_first_message(world: World) -> None:
    said = post(world, message("m1", "I am furious"))[0]
    assert said.message.answer is not None
    assert (said.message.answer["id"], said.message.answer["turn"]) == ("c1", 0)
    assert (said.state.queue, said.state.hot, said.state.status, said.replayed) == ("senior", True, "open", False)
    assert said.state.waiting_since == START
    assert kinds(world) == ["flagged", "escalated"]


def test_the_same_message_again_gets_the_same_answer_and_changes_nothing(world: World) -> None:
    first, _, again = post(world, message("m1", "furious"), message("m2", "hm"), message("m1", "furious"))
    assert again.replayed
    assert again.message == first.message
    assert len(read(world).messages) == 2
    assert len(world.scoring.calls) == 2


def test_the_same_id_with_other_words_is_a_contradiction(world: World) -> None:
    with pytest.raises(Contradiction, match="m1"):
        post(world, message("m1", "one"), message("m1", "another"))
    assert [m.text for m in read(world).messages] == ["one"]


def test_context_is_what_was_said_before(world: World) -> None:
    post(world, message("m1", "first"), message("a1", "reply", "agent"), message("m2", "second"))
    assert [turn.text for turn in world.scoring.calls[-1].turns] == ["first", "reply", "second"]
    assert len(world.scoring.calls) == 2  # an agent's words are not scored


def test_a_person_who_answers_ends_the_wait_and_a_bot_does_not(world: World) -> None:
    said = post(
        world, message("m1", "furious"), message("b1", "I am a bot", "bot"), message("a1", "I am sorry", "agent")
    )
    assert [s.state.waiting_since is None for s in said] == [False, False, True]
    assert said[2].state.rank is None
    answer = said[2].message.answer
    assert answer is not None
    assert answer["abstained"]["reason"] == "not_customer"


def test_an_order_number_does_not_cool_down_a_threat_that_nobody_has_answered(world: World) -> None:
    said = post(world, message("m1", "my lawyer will call"), message("m2", "order 12"), message("m3", "???"))
    assert [s.state.queue for s in said] == ["senior"] * 3
    said = post(world, message("a1", "sorry", "agent"), message("m4", "thanks, all well"))
    assert said[-1].state.queue == "standard"


def test_a_late_message_takes_its_place_and_what_came_after_is_read_again(world: World) -> None:
    post(world, message("m1", "one", minute=0), message("m3", "three", minute=10))
    late = post(world, message("m2", "furious", minute=5))[0]
    record = read(world)
    assert [m.id for m in record.messages] == ["m1", "m2", "m3"]
    assert late.message.answer is not None
    assert late.message.answer["turn"] == 1
    assert [turn.text for turn in world.scoring.calls[-1].turns] == ["one", "furious", "three"]
    assert late.state.latest_message == "m3"
    assert late.state.queue == "senior"  # what was late is not answered either
    replay = post(world, message("m3", "three", minute=10))[0]
    assert replay.message.answer is not None
    assert replay.message.answer["turn"] == 1  # as it was first acknowledged


def test_a_clock_that_goes_back_does_not_change_the_order(world: World) -> None:
    post(world, message("m1"))
    world.clock.move(hours=-3)
    said = post(world, message("m2"))[0]
    assert [m.id for m in read(world).messages] == ["m1", "m2"]
    assert said.state.updated_at >= START


def test_personal_data_is_not_kept(world: World) -> None:
    post(world, message("m1", "write to jane.doe@example.com, card 4111 1111 1111 1111"))
    kept = read(world).messages[0].text
    assert "jane.doe" not in kept
    assert "4111" not in kept


def test_a_conversation_put_twice_is_taken_once(world: World) -> None:
    body = NewConversation(turns=[{"role": "customer", "text": "furious"}, {"role": "agent", "text": "oh"}])

    async def run() -> tuple[Said, Said]:
        put = world.live.conversations.put
        return await put("c1", body), await put("c1", body)

    first, second = asyncio.run(run())
    assert (first.replayed, second.replayed) == (False, True)
    assert first.message == second.message
    assert first.state == second.state


def test_a_conversation_put_late_loses_no_message_that_was_acknowledged(world: World) -> None:
    body = NewConversation(turns=[{"role": "customer", "text": "one", "id": "m1", "at": START}])

    async def run() -> Any:
        await world.live.conversations.put("c1", body)
        await world.live.conversations.post("c1", message("m2", "two"))
        return await world.live.conversations.put("c1", body)

    assert asyncio.run(run()).replayed
    assert [m.id for m in read(world).messages] == ["m1", "m2"]


def test_a_put_that_says_something_else_is_a_contradiction(world: World) -> None:
    post(world, message("m1", "one"))
    body = NewConversation(turns=[{"role": "customer", "text": "another", "id": "m1"}])
    with pytest.raises(Contradiction):
        asyncio.run(world.live.conversations.put("c1", body))


def test_messages_of_one_conversation_that_come_together_are_all_taken(world: World) -> None:
    async def run() -> list[Said]:
        return list(await asyncio.gather(*(world.live.conversations.post("c1", message(f"m{n}")) for n in range(20))))

    said = asyncio.run(run())
    assert sorted(s.state.version for s in said) == list(range(1, 21))
    assert len(read(world).messages) == 20


def test_two_replicas_on_one_store_take_each_message_once(world: World, judge: Any) -> None:
    other = build(world.database, judge)

    async def run() -> list[Said]:
        both = (world.live.conversations, other.live.conversations)
        return list(
            await asyncio.gather(
                *(replica.post("c1", message(f"m{n}", f"say {n}")) for n in range(6) for replica in both)
            )
        )

    said = asyncio.run(run())
    answers: dict[str, list[Any]] = {}
    for one in said:
        answers.setdefault(one.message.id, []).append(one.message.answer)
    assert all(first == second for first, second in answers.values())
    assert sorted(m.id for m in read(world).messages) == [f"m{n}" for n in range(6)]
    assert read(world).state.version == 6


def test_what_cannot_be_scored_is_not_taken(world: World) -> None:
    post(world, message("m1"))
    world.scoring.failure = RuntimeError("engine")
    with pytest.raises(RuntimeError, match="engine"):
        post(world, message("m2"))
    world.scoring.failure = None
    assert [m.id for m in read(world).messages] == ["m1"]
    assert not post(world, message("m2"))[0].replayed


def test_what_the_store_cannot_keep_is_not_acknowledged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    post(world, message("m1"))

    async def unavailable(*_: object, **__: object) -> None:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.live.conversations._writer), "run", unavailable)
        with pytest.raises(StoreUnavailable):
            post(world, message("m2"))
    assert not post(world, message("m2"))[0].replayed


def test_a_resolved_conversation_opens_again_when_the_customer_writes(world: World) -> None:
    post(world, message("m1", "furious"))
    asyncio.run(world.live.handling.resolve("c1", "refunded", "desk"))
    resolved = read(world).state
    assert (resolved.status, resolved.rank, resolved.outcome) == ("resolved", None, "refunded")
    world.clock.move(hours=1)
    said = post(world, message("m2", "it is still broken"))[0]
    assert (said.state.status, said.state.outcome) == ("open", None)
    assert kinds(world)[-1] == "reopened"


def test_what_was_settled_is_not_waited_for_again(world: World) -> None:
    post(world, message("m1", "furious"))
    asyncio.run(world.live.handling.resolve("c1", "called back", "desk"))
    world.clock.move(days=3)
    again = post(world, message("m2", "thank you, one more thing"))[0].state
    assert (again.status, again.waiting_since, again.queue, again.hot) == ("open", world.clock(), "standard", False)


@pytest.mark.parametrize("minutes", [0, -90])
def test_a_clock_that_stands_still_or_goes_back_keeps_nobody_waiting_unseen(world: World, minutes: float) -> None:
    post(world, message("m1", "hello"), message("m2", "hello?"))
    asyncio.run(world.live.handling.resolve("c1", None, "desk"))
    world.clock.move(minutes=minutes)
    again = post(world, message("m3", "it is still broken"))[0].state
    assert (again.status, again.rank is None) == ("open", False)


def test_what_is_erased_is_gone_from_the_files_too(world: World) -> None:
    post(world, message("m1", "furious about zanzibar"))
    asyncio.run(world.live.handling.erase("c1", "desk"))
    asyncio.run(world.live.keeper.clear())
    files = list(Path(str(world.database.writing.url.database)).parent.glob("simmer.db*"))
    assert not any(b"zanzibar" in file.read_bytes() for file in files)
    with pytest.raises(NotThere):
        read(world)
    assert not post(world, message("m1", "furious about zanzibar"))[0].replayed
