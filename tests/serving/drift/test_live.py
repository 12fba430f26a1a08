"""Live messages are read from a store or from files: a bounded sample, in its window, counted and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.conversation import Conversation, Turn
from pipeline.encode import Encoder
from pipeline.errors import InputError
from pipeline.vocabulary import load_vocabulary
from serving.answers import Answer
from serving.drift.live import Said, Span, drawn, paired, read_span, seen_of, span_until, split
from serving.examples import ANSWER
from serving.live import lifecycle
from serving.store import conversations
from serving.store.database import Database, open_database
from serving.store.records import Message

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
SPAN = span_until(NOW, 7)
VOCABULARY = load_vocabulary()


def answer(name: str = "a", turn: int = 0, **more: object) -> Answer:
    return Answer.model_validate({**ANSWER, "id": name, "turn": turn, **more})


@pytest.fixture
def store(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/simmer.db")


def keep(store: Database, name: str, at: datetime, texts: Sequence[str], role: str = "customer") -> None:
    """A conversation with messages that came at one moment."""
    said = answer(name).model_dump(mode="json")
    new = [
        Message(f"m{number}", number, at, at, role, text, "", said)  # type: ignore[arg-type]
        for number, text in enumerate(texts)
    ]
    with store.writing.begin() as connection:
        conversations.write(connection, lifecycle.begin(name, "chat", None, {}, at), 0)
        conversations.add_messages(connection, name, new)


def read(store: Database, span: Span = SPAN, most: int = 100) -> list[Said]:
    with store.reading.begin() as connection:
        return read_span(connection, span, most)


def test_customers_messages_of_the_window_are_read(store: Database) -> None:
    keep(store, "now", NOW - timedelta(days=1), ["late", "again"])
    keep(store, "then", NOW - timedelta(days=8), ["before"])
    keep(store, "long ago", NOW - timedelta(days=30), ["gone"])
    keep(store, "agent", NOW - timedelta(days=1), ["hello"], role="agent")
    assert [one.text for one in read(store)] == ["late", "again"]
    assert [one.text for one in read(store, SPAN.before())] == ["before"]


def test_a_conversation_that_goes_on_is_in_both_windows_with_what_came_then(store: Database) -> None:
    keep(store, "a", NOW - timedelta(days=8), ["first"])
    later = Message("m1", 1, NOW - timedelta(hours=1), NOW - timedelta(hours=1), "customer", "second", "", {**ANSWER})
    with store.writing.begin() as connection:
        state = conversations.read(connection, "a").state  # type: ignore[union-attr]
        after = lifecycle.replace(state, updated_at=later.received_at)
        conversations.write(connection, after, 1)
        conversations.add_messages(connection, "a", [later])
    assert [one.text for one in read(store)] == ["second"]
    assert [one.text for one in read(store, SPAN.before())] == ["first"]


def test_the_sample_is_bounded_drawn_at_random_and_the_same_each_time(store: Database) -> None:
    for number in range(40):
        keep(store, f"c{number:02}", NOW - timedelta(minutes=number + 1), ["late"])
    some = {one.conversation for one in read(store, most=10)}
    assert len(some) == 10
    assert some not in ({f"c{n:02}" for n in range(10)}, {f"c{n:02}" for n in range(30, 40)})
    assert some == {one.conversation for one in read(store, most=10)}


def talk(name: str, *texts: str, at: datetime | None = None) -> Conversation:
    return Conversation(id=name, turns=tuple(Turn(role="customer", text=text, at=at) for text in texts))


def test_answers_find_their_messages() -> None:
    talks = {"a": talk("a", "one", "two"), "b": Conversation(id="b", turns=(Turn(role="agent", text="hello"),))}
    found, alone = paired([answer("a", 1), answer("a", 9), answer("b"), answer("c")], talks)
    assert [(one.conversation, one.text) for one in found] == [("a", "two")]
    assert alone == 3


def test_windows_of_files_end_with_their_last_message() -> None:
    said = [Said("a", "chat", "x", {}, NOW - timedelta(days=days)) for days in (0, 6, 8, 20)]
    (live, before), span = split(said, 7)
    assert (len(live), len(before)) == (2, 1)
    assert span is not None
    assert span.holds(NOW)
    assert split(said, None) == ((said, []), None)


def test_without_times_there_are_no_windows() -> None:
    with pytest.raises(InputError, match="leave --since out"):
        split([Said("a", "chat", "x", {})], 7)


def test_a_sample_of_files_keeps_conversations_together() -> None:
    said = [Said(f"c{n % 5}", "chat", "x", {}) for n in range(20)]
    names = [one.conversation for one in drawn(said, 8)]
    assert len(names) == 8
    assert len(set(names)) == 2


def test_messages_become_counts(encoder: Encoder) -> None:
    mine = answer().model_dump()
    said = [
        Said("a", "chat", "I am furious, this is the third time that I write to you", mine),
        Said("b", "chat", "", answer(abstained={"reason": "no_words", "detail": ""}).model_dump()),
        Said("c", "chat", "furious", answer(model={"version": "1", "bundle": "sha256:other"}).model_dump()),
        Said("d", "chat", "furious", {"no": "answer"}),
    ]
    found = seen_of(said, encoder, VOCABULARY, ANSWER["model"]["bundle"])
    assert found.seen[0].language == "en"
    assert found.seen[0].outputs is not None
    assert [one.abstained for one in found.seen] == [None, "no_words", None, None]
    assert [one.outputs is None for one in found.seen] == [False, True, True, True]
    assert found.models == {ANSWER["model"]["bundle"]: 2, "sha256:other": 1}
    assert not any(isinstance(value, str) and "furious" in value for one in found.seen for value in vars(one).values())
