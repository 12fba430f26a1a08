"""The audit log: a chain that no transaction forks and no change survives unseen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from pipeline.errors import InputError
from serving.store.audit import NOTHING_BEFORE, Anchor, history, record, verify
from serving.store.cli import audit_app
from serving.store.database import Database, open_database
from serving.store.writer import Writer

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@contextmanager
def opened(file: str | Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{file}")
    try:
        yield database
    finally:
        database.close()


def note(connection: Connection, subject: int = 0, **detail: Any) -> None:
    record(connection, actor="key:desk", action="claimed", subject=f"c{subject}", detail=detail, now=NOON)


def fill(database: Database, count: int) -> None:
    with database.writing.begin() as connection:
        for number in range(count):
            note(connection, number, number=number, queue="senior")


def judged(database: Database, expect: str | None = None) -> Any:
    with database.reading.connect() as connection:
        return verify(connection, Anchor.parse(expect) if expect else None)


def tamper(database: Database, *statements: str) -> None:
    """Change the log as somebody would who owns the database file or server."""
    with database.writing.begin() as connection:
        if database.is_sqlite:
            for name in ("update", "delete", "replace"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS audit_no_{name}")
        else:
            connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")
        for statement in statements:
            connection.execute(text(statement))


def test_an_entry_comes_back_as_it_was_recorded(database: Database) -> None:
    east = timezone(timedelta(hours=2))
    with database.writing.begin() as connection:
        note(connection, 1, b=1, a=[None, {"ü": 1.5}])
        record(connection, actor="a", action="erased", subject="c1", detail={}, now=NOON.astimezone(east))
        note(connection, 2)
    with database.reading.connect() as connection:
        first, second = history(connection, "c1")
    assert (first.sequence, first.actor, first.action, first.subject) == (1, "key:desk", "claimed", "c1")
    assert first.detail == {"a": [None, {"ü": 1.5}], "b": 1}
    assert first.at == second.at == NOON
    assert (first.previous, second.previous) == (NOTHING_BEFORE, first.hash)


def test_the_hash_is_what_the_documentation_says(database: Database) -> None:
    fill(database, 1)
    with database.reading.connect() as connection:
        (entry,) = history(connection, "c0")
    fields = {
        "sequence": 1,
        "at": int(NOON.timestamp() * 1_000_000),
        "actor": "key:desk",
        "action": "claimed",
        "subject": "c0",
        "detail": {"number": 0, "queue": "senior"},
        "previous": "0" * 64,
    }
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert entry.hash == hashlib.sha256(canonical).hexdigest()


def test_a_transaction_that_is_rolled_back_leaves_no_entry(database: Database) -> None:
    fill(database, 1)

    def failing(connection: Connection) -> None:
        note(connection, 9)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), database.writing.begin() as connection:
        failing(connection)
    fill(database, 1)
    assert judged(database).entries == 2
    with database.reading.connect() as connection:
        assert history(connection, "c9") == []


def test_an_empty_log_is_whole(database: Database) -> None:
    verdict = judged(database)
    assert (verdict.entries, verdict.last, verdict.broken) == (0, None, None)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'me'", "DELETE FROM audit WHERE sequence = 2"])
def test_the_database_itself_refuses_changes(database: Database, statement: str) -> None:
    fill(database, 3)
    with pytest.raises(DBAPIError, match="append-only"), database.writing.begin() as connection:
        connection.execute(text(statement))
    assert judged(database).entries == 3


def test_replacing_and_truncating_are_refused_too(database: Database) -> None:
    fill(database, 3)
    statement = "INSERT OR REPLACE INTO audit SELECT * FROM audit" if database.is_sqlite else "TRUNCATE audit"
    with pytest.raises(DBAPIError, match="append-only"), database.writing.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "sequence", "why"),
    [
        ("UPDATE audit SET subject = 'c77' WHERE sequence = 4", 4, "changed"),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 1", 1, "changed"),
        ("UPDATE audit SET detail = replace(detail, ',', ', ') WHERE sequence = 4", 4, "changed"),
        ("UPDATE audit SET detail = 'no json' WHERE sequence = 6", 6, "changed"),
        ("DELETE FROM audit WHERE sequence = 3", 3, "missing"),
        ("DELETE FROM audit WHERE sequence = 1", 1, "missing"),
        ("UPDATE audit SET sequence = 0 WHERE sequence = 2", 0, "out of order"),
        ("UPDATE audit SET sequence = 9 WHERE sequence = 6", 6, "missing"),
    ],
)
def test_a_change_is_named(database: Database, statement: str, sequence: int, why: str) -> None:
    fill(database, 6)
    tamper(database, statement)
    broken = judged(database).broken
    assert (broken.sequence, broken.why) == (sequence, why)


def test_an_entry_that_was_forged_with_a_good_hash_is_named(database: Database) -> None:
    fill(database, 3)
    with database.reading.connect() as connection:
        entry = history(connection, "c1")[0]
    fields = {**vars(entry), "at": int(NOON.timestamp() * 1_000_000), "actor": "mallory"}
    del fields["hash"]
    forged = hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    tamper(database, f"UPDATE audit SET actor = 'mallory', hash = '{forged}' WHERE sequence = 2")
    broken = judged(database).broken
    assert (broken.sequence, broken.why) == (3, "out of order")


def test_a_cut_off_end_shows_against_an_anchor(database: Database) -> None:
    fill(database, 5)
    anchor = str(judged(database).last)
    tamper(database, "DELETE FROM audit WHERE sequence > 3")
    assert judged(database).broken is None
    broken = judged(database, anchor).broken
    assert (broken.sequence, broken.why) == (5, "truncated")
    fill(database, 3)
    assert judged(database, anchor).broken.why == "changed"


@pytest.mark.parametrize("anchor", ["", "5", "5:", "x:" + "a" * 64, "0:" + "a" * 64, "1:" + "g" * 64, "9" * 40 + ":aa"])
def test_an_anchor_that_is_none_is_refused(anchor: str) -> None:
    with pytest.raises(InputError, match="SEQUENCE:HASH"):
        Anchor.parse(anchor)


@pytest.mark.parametrize(
    "detail", [{1: 2}, {"at": object()}, {"n": 2**70}, {"text": "x" * 300}, {"a": [{"b": "y" * 300}]}]
)
def test_a_detail_that_is_no_json_or_quotes_a_message_is_refused(sqlite: Database, detail: dict[Any, Any]) -> None:
    with sqlite.writing.begin() as connection, pytest.raises(ValueError, match="detail"):
        record(connection, actor="a", action="b", subject="c", detail=detail, now=NOON)


def test_a_time_without_a_zone_is_refused(sqlite: Database) -> None:
    with sqlite.writing.begin() as connection, pytest.raises(ValueError, match="zone"):
        record(connection, actor="a", action="b", subject="c", detail={}, now=NOON.replace(tzinfo=None))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(
    entries=st.lists(
        st.tuples(
            st.text(max_size=20),
            st.dictionaries(st.text(max_size=10), values, max_size=3),
            st.datetimes(timezones=st.just(UTC)),
        ),
        min_size=1,
        max_size=4,
    ),
    data=st.data(),
)
def test_any_single_change_of_any_log_is_found(sqlite_template: Path, entries: list[Any], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(shutil.copy(sqlite_template, folder)) as database:
        with database.writing.begin() as connection:
            for subject, detail, at in entries:
                record(connection, actor="a", action="b", subject=subject, detail=detail, now=at)
        whole = judged(database)
        assert (whole.entries, whole.broken) == (len(entries), None)
        column = data.draw(st.sampled_from(["at", "actor", "action", "subject", "detail", "previous", "hash"]))
        value = data.draw(
            st.integers(-(2**40), 2**40) if column == "at" else st.text(max_size=70) | st.binary(max_size=5)
        )
        place = data.draw(st.integers(1, len(entries)))
        tamper(database)
        with database.writing.begin() as connection:
            before = connection.execute(text(f"SELECT {column} FROM audit WHERE sequence = {place}")).scalar()
            connection.execute(text(f"UPDATE audit SET {column} = :v WHERE sequence = {place}"), {"v": value})
            changed = (
                before != connection.execute(text(f"SELECT {column} FROM audit WHERE sequence = {place}")).scalar()
            )
        verdict = judged(database)
        assert (verdict.broken is not None and verdict.broken.sequence in (place, place + 1)) == changed


def run_group(database: Database, operations: list[Callable[[Connection], None]]) -> list[Any]:
    async def together() -> list[Any]:
        writer = Writer(database)
        writer.start()
        try:
            done = await asyncio.gather(
                *(writer.run(operation, key=str(n % 7)) for n, operation in enumerate(operations)),
                return_exceptions=True,
            )
            return list(done)
        finally:
            writer.close()

    return asyncio.run(together())


def test_operations_of_a_group_share_one_chain_and_failing_ones_leave_nothing(database: Database) -> None:
    def failing(connection: Connection) -> None:
        note(connection, 666)
        raise ZeroDivisionError

    operations = [failing if n % 10 == 3 else (lambda c, n=n: note(c, n)) for n in range(60)]
    results = run_group(database, operations)
    assert [type(r) for r in results].count(ZeroDivisionError) == 6
    verdict = judged(database)
    assert (verdict.entries, verdict.broken) == (54, None)


PROCESS = """
import asyncio, sys
from datetime import UTC, datetime
from serving.store.audit import record
from serving.store.database import open_database
from serving.store.writer import Writer

def note(connection):
    record(connection, actor=sys.argv[2], action="a", subject=sys.argv[2], detail={}, now=datetime.now(UTC))

async def main():
    writer = Writer(open_database(sys.argv[1]))
    writer.start()
    for _ in range(10):
        await asyncio.gather(*(writer.run(note) for _ in range(10)))
    writer.close()

asyncio.run(main())
"""


def test_processes_that_write_at_once_do_not_fork_the_chain(store_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, store_url, f"replica-{n}"], stderr=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    database = open_database(store_url)
    verdict = judged(database)
    with database.reading.connect() as connection:
        turns = [row[0] for row in connection.execute(text("SELECT actor FROM audit ORDER BY sequence"))]
    database.close()
    assert (verdict.entries, verdict.broken) == (300, None)
    assert set(turns) == {"replica-0", "replica-1", "replica-2"}


def test_verifying_from_the_command_line(store_url: str) -> None:
    database = open_database(store_url)
    fill(database, 4)
    anchor = str(judged(database).last)
    run = CliRunner()
    whole = run.invoke(audit_app, ["verify", "--store", store_url, "--expect", anchor])
    assert (whole.exit_code, whole.stdout) == (0, f"4 entries, chain whole, last {anchor}\n")
    tamper(database, "UPDATE audit SET actor = 'me' WHERE sequence = 2")
    database.close()
    broken = run.invoke(audit_app, ["verify", "--store", store_url])
    assert broken.exit_code == 1
    assert broken.stdout.startswith("entry 2 changed:")


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "nonsense", "sqlite:///{tmp}/missing.db"])
def test_a_store_that_is_not_there_is_not_made_by_verifying(url: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(audit_app, ["verify", "--store", url.format(tmp=tmp_path)])
    assert done.exit_code == 2
    assert "error:" in done.stderr
    assert not (tmp_path / "missing.db").exists()


def test_a_database_that_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    create_engine(f"sqlite:///{tmp_path}/other.db").connect().exec_driver_sql("CREATE TABLE x (y)")
    done = CliRunner().invoke(audit_app, ["verify", "--store", f"sqlite:///{tmp_path}/other.db"])
    assert done.exit_code == 2
    assert "no store of this version" in done.stderr
