"""Opening a store: what cannot be opened says why in one line; readers do not wait; what is erased is gone."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, text
from sqlalchemy.exc import DBAPIError

from serving.store.database import Database, open_database, vacuum_erased
from serving.store.faults import StoreRefused, StoreUnavailable
from serving.store.schema import events
from tests.postgres import Postgres

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
NOBODY = 65534


def say(database: Database, body: str, conversation: str = "c1") -> None:
    with database.writing.begin() as connection:
        row = {"kind": "resolved", "conversation": conversation, "at": NOON, "body": body}
        connection.execute(insert(events), row)


def erase(database: Database, conversation: str = "c1") -> None:
    with database.writing.begin() as connection:
        connection.execute(delete(events).where(events.c.conversation == conversation))


# ---- what cannot be opened


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all, but long enough to look at" * 50)
    with pytest.raises(StoreUnavailable, match=r"x\.db: file is not a database; restore it from a backup"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_damaged_file_says_so(sqlite_url: str) -> None:
    open_database(sqlite_url).close()
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(StoreUnavailable, match="malformed; restore it from a backup"):
        open_database(sqlite_url)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"Not a directory|exists"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


def test_a_folder_in_the_place_of_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        open_database(f"sqlite:///{tmp_path}")


def test_a_store_that_must_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="no such store"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}", existing=True)
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_our_tables_is_left_as_it_is(postgres_url: str) -> None:
    with pytest.raises(StoreRefused, match="no store of this version"):
        open_database(postgres_url, existing=True)


@pytest.mark.parametrize(
    ("written", "name"),
    [("a b.db", "a b.db"), ("100%25.db", "100%.db"), ("größe.db", "größe.db"), ("a#b.db", "a#b.db")],
)
def test_odd_names_of_files(tmp_path: Path, written: str, name: str) -> None:
    open_database(f"sqlite:///{tmp_path}/{written}").close()
    assert (tmp_path / name).is_file()


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed")
def test_a_file_that_may_only_be_read_can_be_read_and_not_written(sqlite_template: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        file = Path(folder) / "x.db"
        file.write_bytes(sqlite_template.read_bytes())
        file.chmod(0o444)
        os.seteuid(NOBODY)
        try:
            database = open_database(f"sqlite:///{file}")
            with database.reading.connect() as connection:
                assert connection.scalar(text("SELECT count(*) FROM events")) == 0
            with pytest.raises(DBAPIError, match="readonly"):
                say(database, "x")
            database.close()
        finally:
            os.seteuid(0)


def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_unsaid(postgres: Postgres) -> None:
    postgres.stop()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        open_database(f"postgresql://u:sesame@127.0.0.1:{postgres.port}/d?application_name=sesame")
    assert "refused" in str(caught.value)
    assert "sesame" not in f"{caught.value} {caught.value.__cause__!r}"
    assert time.monotonic() - begun < 5


def test_a_database_that_is_not_there_says_so(postgres: Postgres) -> None:
    with pytest.raises(StoreUnavailable, match='database "nothing" does not exist'):
        open_database(postgres.url("nothing"))


def test_an_option_that_is_none_says_so(postgres_url: str) -> None:
    with pytest.raises((StoreUnavailable, StoreRefused), match="colour"):
        open_database(f"{postgres_url}?colour=red")


def test_a_server_that_does_not_keep_unicode_is_refused(postgres: Postgres) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(StoreRefused, match="LATIN1"):
            open_database(postgres.url("latin"))
    finally:
        postgres.execute("DROP DATABASE latin WITH (FORCE)")


def test_a_server_without_fsync_is_warned_of(
    postgres: Postgres, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_database(postgres_url).close()
    assert "fsync" not in caplog.text
    postgres.stop()
    postgres.start(fsync="off")
    try:
        open_database(postgres_url).close()
        assert "fsync off" in caplog.text
    finally:
        postgres.stop()


# ---- how it is open


def test_commits_are_durable(database: Database) -> None:
    with database.writing.connect() as connection:
        if database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        else:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_server_that_acknowledges_early_is_told_not_to(postgres: Postgres, postgres_url: str) -> None:
    postgres.execute("ALTER DATABASE simmer SET synchronous_commit = off")
    database = open_database(postgres_url)
    with database.writing.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    database.close()


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError), database.reading.begin() as connection:
        connection.execute(delete(events))


def test_a_reader_sees_one_state_throughout(database: Database) -> None:
    say(database, "one")
    with database.reading.begin() as connection:
        before = connection.scalar(text("SELECT count(*) FROM events"))
        say(database, "two")
        assert connection.scalar(text("SELECT count(*) FROM events")) == before == 1


def test_readers_do_not_wait_for_a_writer_nor_a_writer_for_them(database: Database) -> None:
    say(database, "one")
    with database.writing.begin() as writing:
        writing.execute(delete(events))
        begun = time.monotonic()
        with database.reading.connect() as reading:
            assert reading.scalar(text("SELECT count(*) FROM events")) == 1
        assert time.monotonic() - begun < 1
    with database.reading.begin() as reading:
        reading.scalar(text("SELECT count(*) FROM events"))
        begun = time.monotonic()
        say(database, "two")
        assert time.monotonic() - begun < 2


def test_a_store_that_is_up_to_date_opens_while_another_process_writes(database: Database, store_url: str) -> None:
    with database.writing.begin() as connection:
        connection.execute(delete(events))
        begun = time.monotonic()
        open_database(store_url).close()
        assert time.monotonic() - begun < 2


def test_errors_do_not_repeat_what_was_written(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught, database.writing.begin() as connection:
        connection.execute(insert(events), {"kind": "sesame", "conversation": "c", "at": NOON, "body": None})
    assert "sesame" not in str(caught.value).split("DETAIL")[0]


# ---- files that do not grow, and what is erased


def log_size(database: Database) -> int:
    return Path(f"{database.writing.url.database}-wal").stat().st_size


def test_the_log_stays_small_under_writers_and_readers(sqlite: Database) -> None:
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with sqlite.reading.begin() as connection:
                connection.execute(text("SELECT count(*), max(length(body)) FROM events")).all()

    reader = threading.Thread(target=read)
    reader.start()
    sizes = []
    for _ in range(60):
        for _ in range(5):
            say(sqlite, "x" * 100_000)
        erase(sqlite)
        sizes.append(log_size(sqlite))
    stop.set()
    reader.join()
    assert max(sizes) < 24 * 2**20  # 60 MB were written through it


def raw(database: Database) -> bytes:
    file = Path(str(database.writing.url.database))
    return b"".join(part.read_bytes() for part in file.parent.glob(f"{file.name}*"))


def test_what_was_erased_is_in_no_file_any_more(sqlite: Database) -> None:
    say(sqlite, "keep-me", "c2")
    say(sqlite, "sesame " * 3)
    say(sqlite, "sesame " * 5000)  # over many pages
    assert b"sesame" in raw(sqlite)
    erase(sqlite)
    assert vacuum_erased(sqlite)
    assert b"sesame" not in raw(sqlite)
    assert b"keep-me" in raw(sqlite)


def test_a_reader_of_the_old_state_delays_that_and_it_is_said(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.store.database.BUSY_MS", 200)
    sqlite.writing.dispose()
    say(sqlite, "sesame")
    with sqlite.reading.begin() as connection:
        connection.execute(text("SELECT * FROM events")).all()
        erase(sqlite)
        assert not vacuum_erased(sqlite)
    assert vacuum_erased(sqlite)
    assert b"sesame" not in raw(sqlite)


def test_postgresql_clears_dead_rows(postgres: Postgres, postgres_url: str) -> None:
    database = open_database(postgres_url)
    for _ in range(20):
        say(database, "sesame")
    ((file,),) = postgres.execute("SELECT pg_relation_filepath('events')", "simmer")
    erase(database)
    assert vacuum_erased(database)
    database.close()
    postgres.execute("CHECKPOINT")
    assert b"sesame" not in (postgres.home / "data" / str(file)).read_bytes()


def test_a_file_is_read_by_other_programs_as_sqlite(sqlite: Database) -> None:
    say(sqlite, "x")
    with sqlite3.connect(str(sqlite.writing.url.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
