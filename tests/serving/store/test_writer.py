"""The writer: acknowledged means committed, errors reach their own caller, and it outlives what fails under it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, insert, select

from serving.store import writer as writer_module
from serving.store.database import Database, open_database
from serving.store.faults import StoreBusy, StoreFault, StoreUnavailable
from serving.store.schema import api_keys
from serving.store.writer import Writer
from tests.postgres import Postgres

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
Operation = Callable[[Connection], Any]


def put(name: str) -> Operation:
    """An operation that writes one row and answers with its name."""

    def operation(connection: Connection) -> str:
        row = {"id": name, "name": name, "hash": "", "scopes": "score", "created_at": NOON}
        connection.execute(insert(api_keys), row)
        return name

    return operation


def failing(error: BaseException) -> Operation:
    def operation(connection: Connection) -> None:
        put("never")(connection)
        raise error

    return operation


def kept(database: Database) -> list[str]:
    with database.reading.connect() as connection:
        return sorted(connection.scalars(select(api_keys.c.id)))


def working(database: Database, work: Callable[[Writer], Awaitable[Any]], **options: int) -> Any:
    """Run work on a writer of its own."""

    async def main() -> Any:
        writer = Writer(database, **options)
        writer.start()
        try:
            return await work(writer)
        finally:
            await asyncio.to_thread(writer.close)

    return asyncio.run(main())


async def together(writer: Writer, *operations: Operation) -> list[Any]:
    """Run operations in one group: they wait until a first one that holds the writer is done."""
    gate = threading.Event()
    first = asyncio.ensure_future(writer.run(lambda _: gate.wait(10)))
    await asyncio.sleep(0.05)
    rest = [asyncio.ensure_future(writer.run(operation)) for operation in operations]
    await asyncio.sleep(0)
    gate.set()
    await first
    return list(await asyncio.gather(*rest, return_exceptions=True))


def test_results_go_to_whoever_asked(database: Database) -> None:
    async def work(writer: Writer) -> list[str]:
        return list(await asyncio.gather(*(writer.run(put(f"n{n}")) for n in range(300))))

    assert working(database, work) == [f"n{n}" for n in range(300)]
    assert len(kept(database)) == 300


def test_those_who_wait_share_a_commit(database: Database) -> None:
    commits: list[Connection] = []
    event.listen(database.writing, "commit", commits.append)
    working(database, lambda writer: together(writer, *(put(f"n{n}") for n in range(50))))
    assert len(commits) == 2  # the one that held the others back, and theirs


def test_a_group_runs_in_the_order_of_keys(database: Database) -> None:
    order: list[str] = []

    async def work(writer: Writer) -> None:
        gate = threading.Event()
        calls = [writer.run(lambda _: gate.wait(10))]
        await asyncio.sleep(0)
        calls += [writer.run(lambda _, k=key: order.append(k), key=key) for key in "cabba"]  # type: ignore[misc]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*tasks)

    working(database, work)
    assert order == list("aabbc") or order[0] == "c"  # whoever came alone with the gate may have gone before


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_failing_operation_harms_no_other(database: Database, place: int) -> None:
    operations: list[Operation] = [put(f"n{n}") for n in range(6)]
    operations.insert(place, failing(ZeroDivisionError("mine")))
    results = working(database, lambda writer: together(writer, *operations))
    assert repr(results.pop(place)) == "ZeroDivisionError('mine')"
    assert results == kept(database) == [f"n{n}" for n in range(6)]


def test_failing_operations_do_not_make_the_others_commit_one_by_one(database: Database) -> None:
    commits: list[Connection] = []
    event.listen(database.writing, "commit", commits.append)
    operations = [put(f"n{n}") for n in range(40)]
    operations[20] = operations[30] = failing(KeyError())
    working(database, lambda writer: together(writer, *operations))
    assert len(commits) <= 4
    assert len(kept(database)) == 38


@settings(max_examples=25, deadline=None)
@given(fails=st.lists(st.booleans(), max_size=40), most_together=st.integers(1, 20))
def test_whatever_fails_the_rest_is_kept_and_told(sqlite_template: Path, fails: list[bool], most_together: int) -> None:
    file = sqlite_template.with_name("mixed.db")
    for leftover in file.parent.glob("mixed.db*"):
        leftover.unlink()
    file.write_bytes(sqlite_template.read_bytes())
    database = open_database(f"sqlite:///{file}")
    operations = [failing(KeyError(n)) if bad else put(f"n{n}") for n, bad in enumerate(fails)]
    results = working(database, lambda w: together(w, *operations), most_together=most_together)
    assert [isinstance(r, KeyError) and r.args == (n,) for n, r in enumerate(results)] == fails
    assert kept(database) == sorted(f"n{n}" for n, bad in enumerate(fails) if not bad)
    database.close()


def test_what_the_database_refuses_is_a_fault_without_the_values(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def secret(connection: Connection) -> None:
        connection.execute(insert(api_keys), {"id": "secret", "name": "secret", "hash": "secret", "created_at": NOON})

    results = working(database, lambda writer: together(writer, put("a"), secret, put("b")))
    assert [type(r) for r in results] == [str, StoreFault, str]
    assert "secret" not in f"{results[1]} {results[1].__cause__} {caplog.text}"
    assert kept(database) == ["a", "b"]


def test_a_row_that_is_there_already_is_a_fault_of_its_writer_alone(database: Database) -> None:
    results = working(database, lambda writer: together(writer, put("a"), put("a"), put("b")))
    assert [type(r) for r in results] == [str, StoreFault, str]
    assert kept(database) == ["a", "b"]


def test_text_that_a_database_cannot_hold_harms_only_its_writer(database: Database) -> None:
    results = working(database, lambda writer: together(writer, put("a"), put("\ud800"), put("nul\0"), put("b")))
    assert results[0], results[3] == ("a", "b")
    assert isinstance(results[1], UnicodeEncodeError)
    assert {"a", "b"} <= set(kept(database))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError()])
def test_nothing_that_an_operation_raises_ends_the_writer(sqlite: Database, error: BaseException) -> None:
    async def work(writer: Writer) -> str:
        with pytest.raises(RuntimeError, match=type(error).__name__):
            await writer.run(failing(error))
        return str(await writer.run(put("after")))

    assert working(sqlite, work) == "after"


def test_whoever_leaves_before_his_turn_writes_nothing(database: Database) -> None:
    async def work(writer: Writer) -> None:
        gate = threading.Event()
        holding = asyncio.ensure_future(writer.run(lambda _: gate.wait(10)))
        await asyncio.sleep(0.05)
        leaving = asyncio.ensure_future(writer.run(put("left")))
        staying = asyncio.ensure_future(writer.run(put("stayed")))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(holding, staying)

    working(database, work)
    assert kept(database) == ["stayed"]


def test_whoever_leaves_midway_harms_nobody(database: Database) -> None:
    async def work(writer: Writer) -> None:
        gate, begun = threading.Event(), threading.Event()

        def slow(connection: Connection) -> None:
            begun.set()
            gate.wait(10)
            put("midway")(connection)

        leaving = asyncio.ensure_future(writer.run(slow))
        await asyncio.to_thread(begun.wait, 10)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.set()
        await writer.run(put("next"))

    working(database, work)
    assert kept(database) == ["midway", "next"]


def test_a_full_queue_says_so_and_empties(sqlite: Database) -> None:
    async def work(writer: Writer) -> list[Any]:
        gate = threading.Event()
        holding = asyncio.ensure_future(writer.run(lambda _: gate.wait(10)))
        await asyncio.sleep(0.05)
        tasks = [asyncio.ensure_future(writer.run(put(f"n{n}"))) for n in range(8)]
        await asyncio.sleep(0)
        assert writer.depth() == 5
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await holding
        assert await writer.run(put("later")) == "later"
        return list(results)

    results = working(sqlite, work, most_waiting=5)
    assert [isinstance(r, StoreBusy) for r in results] == [False] * 5 + [True] * 3


def test_closing_commits_what_waits_and_takes_no_more(database: Database) -> None:
    async def main() -> list[Any]:
        writer = Writer(database, most_together=3)
        writer.start()
        tasks = [asyncio.ensure_future(writer.run(put(f"n{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(writer.close)
        with pytest.raises(StoreUnavailable, match="closed"):
            await writer.run(put("late"))
        return list(await asyncio.gather(*tasks))

    assert len(asyncio.run(main())) == len(kept(database)) == 20


def test_a_database_that_hangs_lets_nobody_else_wait(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "HANGS_AFTER", 0.1)

    async def work(writer: Writer) -> None:
        gate = threading.Event()
        holding = asyncio.ensure_future(writer.run(lambda _: gate.wait(10)))
        await asyncio.sleep(0.3)
        with pytest.raises(StoreUnavailable, match="has not answered"):
            await writer.run(put("a"))
        gate.set()
        await holding
        await writer.run(put("b"))

    working(sqlite, work)
    assert kept(sqlite) == ["b"]


def test_closing_does_not_wait_for_ever(sqlite: Database) -> None:
    async def main() -> None:
        gate = threading.Event()
        writer = Writer(sqlite)
        writer.start()
        holding = asyncio.ensure_future(writer.run(lambda _: gate.wait(10)))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        writer.close(within=0.2)
        assert time.monotonic() - begun < 2
        gate.set()
        await holding

    asyncio.run(main())


def test_a_loop_that_has_ended_does_not_end_the_writer(sqlite: Database) -> None:
    writer = Writer(sqlite)
    writer.start()
    gate = threading.Event()

    async def gone() -> None:
        asyncio.ensure_future(writer.run(lambda _: gate.wait(10)))  # noqa: RUF006 (nobody waits: that is the point)
        await asyncio.sleep(0.05)

    asyncio.run(gone())
    gate.set()
    assert asyncio.run(writer.run(put("a"))) == "a"
    writer.close()


# ---- a database that fails


def poison_commits(database: Database, what: str) -> None:
    """Let PostgreSQL do something at COMMIT where a row named `poison` was written."""
    with database.writing.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION poisoned() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER poisoned AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (NEW.id = 'poison') EXECUTE FUNCTION poisoned()"
        )


def test_a_commit_that_is_refused_harms_only_its_cause(postgresql: Database) -> None:
    poison_commits(postgresql, "RAISE EXCEPTION 'not today'")
    results = working(postgresql, lambda writer: together(writer, put("a"), put("poison"), put("b")))
    assert [type(r) for r in results] == [str, StoreFault, str]
    assert kept(postgresql) == ["a", "b"]


def test_a_commit_that_sqlite_refuses_harms_only_its_cause(sqlite: Database) -> None:
    def dangling(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql("INSERT INTO deliveries VALUES (7, 'w', 'pending', 0, 0, NULL)")

    results = working(sqlite, lambda writer: together(writer, put("a"), dangling, put("b")))
    assert [type(r) for r in results] == [str, StoreFault, str]
    assert kept(sqlite) == ["a", "b"]


def test_a_connection_lost_during_commit_is_not_acknowledged_nor_tried_again(postgresql: Database) -> None:
    poison_commits(postgresql, "PERFORM pg_terminate_backend(pg_backend_pid())")
    runs: list[str] = []

    def poison(connection: Connection) -> None:
        runs.append("poison")
        put("poison")(connection)

    async def work(writer: Writer) -> list[Any]:
        results = await together(writer, put("a"), poison, put("b"))
        return [*results, await writer.run(put("after"))]

    results = working(postgresql, work)
    assert [type(r) for r in results] == [StoreUnavailable] * 3 + [str]
    assert runs == ["poison"]
    assert kept(postgresql) == ["after"]


def test_a_connection_lost_midway_is_made_good(postgresql: Database) -> None:
    runs: list[str] = []

    def losing(connection: Connection) -> str:
        runs.append("run")
        if len(runs) == 1:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return str(put("lost")(connection))

    results = working(postgresql, lambda writer: together(writer, put("a"), losing, put("b")))
    assert results == ["a", "lost", "b"]
    assert kept(postgresql) == ["a", "b", "lost"]


def test_replicas_that_write_the_same_row_both_get_the_one_that_is_kept(
    postgresql: Database, postgres_url: str
) -> None:
    other = open_database(postgres_url)
    meeting = threading.Barrier(2)

    def once(who: str) -> Operation:
        tries: list[int] = []

        def operation(connection: Connection) -> str:
            found = connection.scalar(select(api_keys.c.name).where(api_keys.c.id == "m1"))
            if not tries:
                meeting.wait(10)  # both have seen that it is not there
            tries.append(1)
            if found is None:
                row = {"id": "m1", "name": who, "hash": "", "scopes": "score", "created_at": NOON}
                connection.execute(insert(api_keys), row)
            return found or who

        return operation

    async def work(writer: Writer) -> list[str]:
        second = Writer(other)
        second.start()
        try:
            return list(await asyncio.gather(writer.run(once("first")), second.run(once("second"))))
        finally:
            await asyncio.to_thread(second.close)

    first, second = working(postgresql, work)
    other.close()
    assert first == second
    assert kept(postgresql) == ["m1"]


def test_replicas_that_lock_each_other_out_both_get_through(postgresql: Database, postgres_url: str) -> None:
    working(postgresql, lambda writer: together(writer, put("a"), put("b")))
    other = open_database(postgres_url)
    meeting = threading.Barrier(2)

    def crossing(first: str, second: str) -> Operation:
        tries: list[int] = []

        def operation(connection: Connection) -> str:
            connection.execute(api_keys.update().where(api_keys.c.id == first).values(name=first + second))
            if not tries:
                meeting.wait(10)
            tries.append(1)
            connection.execute(api_keys.update().where(api_keys.c.id == second).values(name=first + second))
            return first

        return operation

    async def work(writer: Writer) -> list[str]:
        second = Writer(other)
        second.start()
        try:
            return list(await asyncio.gather(writer.run(crossing("a", "b")), second.run(crossing("b", "a"))))
        finally:
            await asyncio.to_thread(second.close)

    assert working(postgresql, work) == ["a", "b"]
    other.close()


def test_postgresql_goes_away_and_comes_back(postgresql: Database, postgres: Postgres) -> None:
    async def work(writer: Writer) -> list[str]:
        done = [await writer.run(put("before"))]
        await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
        begun = time.monotonic()
        calls = [writer.run(put(f"n{n}")) for n in range(50)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(r) for r in results} == {StoreUnavailable}
        assert time.monotonic() - begun < 5
        await asyncio.to_thread(postgres.start)
        return [*done, await writer.run(put("after"))]

    assert working(postgresql, work) == ["before", "after"]
    assert kept(postgresql) == ["after", "before"]


def test_a_server_that_turned_read_only_is_unavailable(postgresql: Database, postgres: Postgres) -> None:
    postgres.execute("ALTER DATABASE simmer SET default_transaction_read_only = on")
    postgresql.writing.dispose()
    results = working(postgresql, lambda writer: together(writer, put("a"), put("b")))
    assert [type(r) for r in results] == [StoreUnavailable] * 2
    assert "read-only" in str(results[0])


def test_a_file_that_another_process_holds_is_unavailable_for_all_at_once(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.store.database.BUSY_MS", 300)
    sqlite.writing.dispose()
    holding = sqlite.writing.connect()
    holding.begin()

    async def work(writer: Writer) -> str:
        begun = time.monotonic()
        results = await asyncio.gather(*(writer.run(put(f"n{n}")) for n in range(20)), return_exceptions=True)
        assert {type(r) for r in results} == {StoreUnavailable}
        assert "locked" in str(results[0])
        assert time.monotonic() - begun < 3
        holding.close()
        return str(await writer.run(put("after")))

    assert working(sqlite, work) == "after"
    assert kept(sqlite) == ["after"]


def test_a_file_that_became_read_only_is_unavailable(sqlite: Database) -> None:
    event.listen(sqlite.writing, "connect", lambda raw, _: raw.execute("PRAGMA query_only=ON"))
    sqlite.writing.dispose()

    async def work(writer: Writer) -> None:
        with pytest.raises(StoreUnavailable, match="readonly"):
            await writer.run(put("a"))

    working(sqlite, work)


FULL = """
import asyncio, resource, signal, sys
from serving.store.database import open_database
from serving.store.faults import StoreUnavailable
from serving.store.writer import Writer
from tests.serving.store.test_writer import put

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    writer = Writer(open_database(sys.argv[1]))
    writer.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    refused = 0
    for n in range(400):
        try:
            print(await writer.run(put(f"{n}-" + "x" * 2000)))
        except StoreUnavailable as error:
            refused += 1
            print(error, file=sys.stderr)
        if refused == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(await writer.run(put("room again")))
            break
    writer.close()

asyncio.run(main())
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(sqlite_url: str) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, sqlite_url], capture_output=True, text=True, check=True)
    acknowledged = done.stdout.split("\n")[:-1]
    database = open_database(sqlite_url)
    assert acknowledged[-1] == "room again"
    assert len(acknowledged) > 10
    assert sorted(acknowledged) == kept(database)
    database.close()


def test_a_full_file_is_unavailable_and_room_is_found_again(sqlite: Database) -> None:
    pages: list[int] = [40]
    event.listen(sqlite.writing, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={pages[0]}"))
    sqlite.writing.dispose()

    async def work(writer: Writer) -> None:
        results = await together(writer, put("small"), put("x" * 200_000))
        assert [type(r) for r in results] == [StoreUnavailable] * 2
        pages[0] = 10_000
        sqlite.writing.dispose()
        await writer.run(put("x" * 200_000))

    working(sqlite, work)


def test_the_number_of_rows_is_the_number_of_acknowledgements(database: Database) -> None:
    async def work(writer: Writer) -> int:
        async def caller(name: int) -> int:
            for n in range(10):
                await writer.run(put(f"{name}-{n}"), key=str(name))
            return 10

        return sum(await asyncio.gather(*(caller(n) for n in range(32))))

    count = working(database, work)
    with database.reading.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(api_keys)) == count == 320
