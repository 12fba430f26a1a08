"""Opening a store by URL: SQLite or PostgreSQL, its tables brought to this version.

SQLite runs with a write-ahead log and `synchronous=FULL`, PostgreSQL with `synchronous_commit`: what was committed
survives a crash of process and machine. Readers never wait for writers, and cannot write.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from serving.store.before_commit import watch
from serving.store.faults import StoreRefused, StoreUnavailable, reason
from serving.store.migrating import VERSION, migrate, version
from serving.store.urls import is_sqlite, parse, shown

logger = logging.getLogger("simmer.store")

BUSY_MS = 5_000  # how long a SQLite writer waits for another process
CLEARING_MS = 250  # how long commits may be held up to take what was erased out of SQLite's log
STATEMENT_MS = 15_000  # and PostgreSQL for a statement, before the request it belongs to has long given up
LOG_BYTES = 16 * 2**20  # what a write-ahead log is cut back to after a checkpoint
READERS = 8


@dataclass(frozen=True)
class Database:
    """An open store: one engine to write with, one to read with."""

    writing: Engine
    reading: Engine

    @property
    def is_sqlite(self) -> bool:
        return self.writing.dialect.name == "sqlite"

    def close(self) -> None:
        """Give back every connection."""
        self.writing.dispose()
        self.reading.dispose()


def open_database(url: str, existing: bool = False) -> Database:
    """The store at a URL, its tables brought to this version; an `existing` one must be there and is left as it is.

    Raises StoreRefused where the URL or the store is not for us, StoreUnavailable where it cannot be reached.
    """
    parsed = parse(url)
    try:
        _place(parsed, existing)
        database = _sqlite(parsed) if is_sqlite(parsed) else _postgresql(parsed)
        try:
            _bring(database, parsed, existing)
        except BaseException:
            database.close()
            raise
    except StoreRefused as error:
        raise StoreRefused(f"{shown(parsed)}: {error}") from None
    except (DBAPIError, PoolExhausted, sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{shown(parsed)}: {_advice(error)}") from None
    return database


def vacuum_erased(database: Database) -> bool:
    """Take what was deleted out of the files too; False where a reader of the old state keeps it there for now.

    SQLite: nothing is left in database or log. PostgreSQL: dead rows are cleared for reuse; its own log, archives and
    backups keep what they hold until they are recycled.
    """
    if not database.is_sqlite:
        with database.writing.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM messages, conversations, events, deliveries, verdicts")
            connection.exec_driver_sql(f"SET statement_timeout = {STATEMENT_MS}")
        return True
    raw = database.writing.raw_connection()
    try:
        raw.cursor().execute(f"PRAGMA busy_timeout={CLEARING_MS}")  # nobody commits while it waits for a reader
        busy, *_ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        raw.cursor().execute(f"PRAGMA busy_timeout={BUSY_MS}")
        raw.close()
    return not busy


def _place(url: URL, existing: bool) -> None:
    if not is_sqlite(url):
        return
    file = Path(str(url.database))
    if existing and not file.is_file():
        raise StoreRefused("there is no such store")
    file.parent.mkdir(parents=True, exist_ok=True)


def _bring(database: Database, url: URL, existing: bool) -> None:
    found = version(database.reading)
    if found != VERSION and existing:
        raise StoreRefused("no store of this version of Simmer; `simmer serve` makes or migrates one")
    if not database.is_sqlite:
        _check_server(database.reading)
    if found == VERSION:
        return
    engine = _migrating(url) if database.is_sqlite else database.writing
    try:
        migrate(engine)
    finally:
        engine.dispose()


def _check_server(engine: Engine) -> None:
    with engine.connect() as connection:
        if (encoding := connection.exec_driver_sql("SHOW server_encoding").scalar()) != "UTF8":
            raise StoreRefused(f"the database keeps text as {encoding}; make one with ENCODING 'UTF8'")
        if connection.exec_driver_sql("SHOW fsync").scalar() != "on":
            logger.warning("the server runs with fsync off: a crash of its machine can lose what was acknowledged")


def _advice(error: Exception) -> str:
    said = reason(error) if not isinstance(error, OSError) else str(error.strerror)
    if "not a database" in said or "malformed" in said:
        return f"{said}; restore it from a backup"
    return said


def _postgresql(url: URL) -> Database:
    common: dict[str, Any] = {
        "pool_pre_ping": True,
        "pool_timeout": 5,
        "hide_parameters": True,
        "connect_args": {"connect_timeout": 5, "tcp_user_timeout": STATEMENT_MS},
    }
    writing = create_engine(url, pool_size=1, max_overflow=3, **common)
    reading = create_engine(url, pool_size=READERS, max_overflow=READERS, **common)
    event.listen(writing, "connect", _prepare_session)
    event.listen(reading, "connect", _prepare_reading_session)
    watch(writing)
    return Database(writing, reading)


def _prepare_session(raw: Any, _: object) -> None:
    raw.autocommit = True
    raw.execute(f"SET statement_timeout = {STATEMENT_MS}")
    raw.execute(f"SET lock_timeout = {BUSY_MS}")
    raw.execute(f"SET idle_in_transaction_session_timeout = {2 * STATEMENT_MS}")
    raw.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    raw.autocommit = False


def _prepare_reading_session(raw: Any, _: object) -> None:
    raw.autocommit = True
    raw.execute(f"SET statement_timeout = {STATEMENT_MS}")
    raw.execute("SET default_transaction_read_only = on")
    raw.execute("SET default_transaction_isolation = 'repeatable read'")  # a reading sees one state throughout
    raw.autocommit = False


def _sqlite(url: URL) -> Database:
    writing = create_engine(url, pool_size=1, max_overflow=3, hide_parameters=True)
    reading = create_engine(url, pool_size=READERS, max_overflow=READERS, pool_timeout=5, hide_parameters=True)
    event.listen(writing, "connect", _prepare_writing)
    event.listen(writing, "begin", _begin_immediate)
    event.listen(reading, "connect", _prepare_reading)
    event.listen(reading, "begin", _begin)
    watch(writing)
    return Database(writing, reading)


def _migrating(url: URL) -> Engine:
    """An engine without foreign keys: SQLite alters a table by dropping it, which would cascade to its referrers."""
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "connect", _prepare_migrating)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_migrating(raw: Any, _: object) -> None:
    _prepare(raw)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")


def _prepare_writing(raw: Any, _: object) -> None:
    _prepare_migrating(raw, _)
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA secure_delete=ON")  # an erased conversation leaves nothing in free pages
    raw.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")


def _prepare_reading(raw: Any, _: object) -> None:
    _prepare(raw)
    raw.execute("PRAGMA query_only=ON")


def _prepare(raw: Any) -> None:
    raw.isolation_level = None  # SQLAlchemy's begin event says how a transaction begins, not the driver
    raw.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    raw.execute("PRAGMA temp_store=MEMORY")  # nothing of a conversation in files beside the store


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
