"""What a transaction writes last, under one lock for all replicas: rows whose numbers must be in the order of commits.

Two replicas that each take the next number early may commit the other way round; a reader that has seen the higher
one would never learn of the lower. So such rows are put off until the operations of a transaction have run, and are
numbered under a lock that COMMIT itself gives back. Coming last it also cannot lock replicas out of each other's rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event

_LOCK = 7_270_002  # PostgreSQL advisory lock; SQLite's writers are alone already
_PUT_OFF = "simmer_put_off"

T = TypeVar("T")


def before_commit(connection: Connection, write: Callable[[Connection, list[T]], None]) -> list[T]:
    """The list that `write` is given just before COMMIT, once a transaction; a rollback forgets it.

    Raises RuntimeError outside a transaction. A rollback to a savepoint forgets nothing: operations use none.
    """
    if not connection.in_transaction():
        raise RuntimeError("nothing can be put off outside a transaction")
    put_off: dict[Callable[..., None], list[T]] = connection.info.setdefault(_PUT_OFF, {})
    return put_off.setdefault(write, [])


def watch(engine: Engine) -> None:
    """Make the transactions of an engine write what was put off."""
    event.listen(engine, "begin", _forget)
    event.listen(engine, "commit", _write)


def _forget(connection: Connection) -> None:
    connection.info.pop(_PUT_OFF, None)  # of a transaction that was rolled back


def _write(connection: Connection) -> None:
    put_off: dict[Callable[[Connection, list[Any]], None], list[Any]] = connection.info.pop(_PUT_OFF, {})
    written = {write: rows for write, rows in put_off.items() if rows}
    if written and connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    for write, rows in written.items():
        write(connection, rows)
