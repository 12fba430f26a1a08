"""Conversations at hand: bounded in size and in time."""

from __future__ import annotations

from serving.live import lifecycle
from serving.live.handy import KEPT_SECONDS, LONG_TEXT, Handy
from serving.store.records import Message, Record
from tests.serving.live.conftest import START


def record(name: str, messages: int, text: str = "hello") -> Record:
    said = (Message(f"m{n}", n, START, START, "customer", text, "") for n in range(messages))
    return Record(lifecycle.begin(name, "chat", None, {}, START), tuple(said))


def test_what_is_kept_is_bounded_by_all_that_was_said() -> None:
    handy = Handy(most=10)
    for name in ("a", "b", "c"):
        handy.put(record(name, 4))
    assert [handy.take(name) is not None for name in ("a", "b", "c")] == [False, True, True]
    handy.put(record("long", 4, "x" * 2 * LONG_TEXT))
    assert handy.take("long") is None


def test_nothing_stays_for_long() -> None:
    time = 0.0
    handy = Handy(clock=lambda: time)
    handy.put(record("old", 1))
    time = KEPT_SECONDS
    handy.put(record("new", 1))
    time += 1
    handy.tidy()
    assert [handy.take(name) is not None for name in ("old", "new")] == [False, True]
