"""The outbox: events stand and fall with their transaction, their ids become visible in order, erasing leaves ids."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, event, func, select

from serving.store import deliveries, outbox
from serving.store.database import Database, open_database
from serving.store.outbox import KINDS, Event
from serving.store.schema import deliveries as rows

AT = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


def append(database: Database, count: int = 1, conversation: str = "c", at: datetime = AT, *webhooks: str) -> None:
    with database.writing.begin() as connection:
        for number in range(count):
            outbox.append(connection, "flagged", conversation, at, {"score": number}, webhooks)


def kept(database: Database, after: int = 0, limit: int = 1000, kinds: set[str] | None = None) -> list[Event]:
    with database.reading.begin() as connection:
        return outbox.since(connection, after, limit, kinds)


def erase(connection: Connection) -> None:
    outbox.erase(connection, "c")


def test_events_come_back_in_order_as_they_were(database: Database) -> None:
    with database.writing.begin() as connection:
        outbox.append(connection, "flagged", "a", AT, {"score": 81, "reasons": ["😡"]}, ["x", "y", "x"])
        outbox.append(connection, "resolved", "b", AT + timedelta(microseconds=1), {})
    assert kept(database) == [
        Event(1, "flagged", "a", AT, {"score": 81, "reasons": ["😡"]}),
        Event(2, "resolved", "b", AT + timedelta(microseconds=1), {}),
    ]
    with database.reading.begin() as connection:
        assert deliveries.counts(connection) == {"x": {"pending": 1}, "y": {"pending": 1}}
        assert outbox.span(connection) == (1, 2)


def test_an_event_is_written_as_consumers_read_it() -> None:
    written = Event(7, "flagged", "c", AT, {"score": 1}).as_json()
    assert written == (b'{"id":7,"kind":"flagged","conversation":"c","at":"2026-05-04T09:00:00Z","body":{"score":1}}')
    assert b"\n" not in Event(7, "flagged", "a\nb", AT, {"x": "\n\r"}).as_json()


def test_a_page_of_some_kinds(database: Database) -> None:
    with database.writing.begin() as connection:
        for kind in KINDS * 2:
            outbox.append(connection, kind, "c", AT, {})
    assert [one.id for one in kept(database, after=2, limit=3)] == [3, 4, 5]
    assert [one.id for one in kept(database, kinds={"flagged", "erased"})] == [1, 8, 9, 16]
    assert kept(database, kinds=set()) == []


def test_what_is_rolled_back_never_was(database: Database) -> None:
    with database.writing.connect() as connection:
        for end in ("rollback", "commit", "rollback"):
            transaction = connection.begin()
            outbox.append(connection, "flagged", end, AT, {}, ["x"])
            getattr(transaction, end)()
        connection.begin().commit()  # a transaction that appends nothing writes nothing of those before
    append(database, conversation="last")
    assert [one.conversation for one in kept(database)] == ["commit", "last"]


def test_a_kind_that_is_none_and_a_place_that_is_none_are_refused(database: Database) -> None:
    with database.writing.begin() as connection, pytest.raises(ValueError, match="no kind"):
        outbox.append(connection, "gap", "c", AT, {})
    with database.writing.connect() as connection, pytest.raises(RuntimeError, match="transaction"):
        outbox.append(connection, "flagged", "c", AT, {})


def test_many_events_are_few_statements(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.writing, "before_cursor_execute", lambda *given: statements.append(given[2]))
    append(database, 700, "c", AT, "x", "y")
    assert len([one for one in statements if "INSERT" in one]) <= 4
    assert [one.body["score"] for one in kept(database)] == list(range(700))
    assert [one.id for one in kept(database)] == list(range(1, 701))


def test_erasing_leaves_ids_and_kinds(database: Database) -> None:
    append(database, 2, "c")
    append(database, 1, "other")
    with database.writing.begin() as connection:
        outbox.append(connection, "resolved", "c", AT, {"score": 9})
        outbox.erase(connection, "c")
        outbox.append(connection, "erased", "c", AT, {"id": "c"})
    assert [(one.id, dict(one.body)) for one in kept(database)] == [
        (1, {"erased": True}),
        (2, {"erased": True}),
        (3, {"score": 0}),
        (4, {"erased": True}),
        (5, {"id": "c"}),
    ]


def test_old_events_go_with_their_deliveries_and_the_newest_stays(database: Database) -> None:
    for hour in range(5):
        append(database, 1, "c", AT + timedelta(hours=hour), "x")
    with database.writing.begin() as connection:
        assert outbox.prune(connection, AT + timedelta(hours=3), limit=2) == 2
        assert outbox.prune(connection, AT + timedelta(hours=3), limit=2) == 1
        assert outbox.prune(connection, AT + timedelta(hours=3), limit=2) == 0
        assert outbox.span(connection) == (4, 5)
        assert outbox.prune(connection, AT + timedelta(days=9)) == 1
        assert outbox.span(connection) == (5, 5)
        assert connection.scalar(select(func.count()).select_from(rows)) == 1
    append(database)
    assert [one.id for one in kept(database)] == [5, 6]  # an id is never given twice


def test_an_empty_outbox_spans_nothing(database: Database) -> None:
    with database.writing.begin() as connection:
        assert outbox.span(connection) == (1, 0)
        assert outbox.prune(connection, AT) == 0


def test_a_lower_id_never_becomes_visible_after_a_higher_one(store_url: str, database: Database) -> None:
    """Two replicas: the first has written its events and is slow to commit; the second commits in the meantime."""
    second = open_database(store_url)
    seen: list[list[int]] = []
    written, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        assert outbox.span(connection)[1] == 1
        written.set()
        go_on.wait(5)

    event.listen(database.writing, "commit", slow)  # after the outbox took its ids, before COMMIT
    threads = [
        threading.Thread(target=append, args=(database, 1, "first")),
        threading.Thread(target=append, args=(second, 1, "second")),
    ]
    threads[0].start()
    assert written.wait(5)
    threads[1].start()
    threads[1].join(1)
    seen.append([one.id for one in kept(database)])
    go_on.set()
    for thread in threads:
        thread.join()
    seen.append([one.id for one in kept(database)])
    second.close()
    assert seen[0] == []  # the second waits, or a reader of its id would miss the first's
    assert [one.conversation for one in kept(database)] == ["first", "second"]
    assert seen[1] == sorted(seen[1])
