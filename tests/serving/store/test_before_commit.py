"""What is put off to the end of a transaction is written once, last, and in the order of commits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from serving.store.before_commit import before_commit
from serving.store.database import Database, open_database


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = open_database(store_url)
    with database.writing.begin() as connection:
        connection.execute(text("CREATE TABLE numbers (place INTEGER PRIMARY KEY, value INTEGER)"))
    yield database
    database.close()


def number(connection: Connection, values: list[int]) -> None:
    """Give values consecutive places, which only works for one transaction at a time."""
    place = connection.scalar(text("SELECT coalesce(max(place), 0) FROM numbers"))
    for value in values:
        place += 1
        connection.execute(text("INSERT INTO numbers VALUES (:place, :value)"), {"place": place, "value": value})


def kept(database: Database) -> list[int]:
    with database.reading.connect() as connection:
        return list(connection.scalars(text("SELECT value FROM numbers ORDER BY place")))


def test_it_is_written_at_commit_and_not_before(database: Database) -> None:
    with database.writing.begin() as connection:
        before_commit(connection, number).append(1)
        before_commit(connection, number).append(2)
        assert connection.scalar(text("SELECT count(*) FROM numbers")) == 0
    assert kept(database) == [1, 2]


def test_a_rollback_forgets_it_and_the_next_transaction_does_not_find_it(database: Database) -> None:
    with database.writing.connect() as connection:
        transaction = connection.begin()
        before_commit(connection, number).append(1)
        transaction.rollback()
        with connection.begin():
            before_commit(connection, number).append(2)
    assert kept(database) == [2]


def test_what_fails_last_keeps_nothing(database: Database) -> None:
    def failing(connection: Connection, rows: list[int]) -> None:
        raise ZeroDivisionError

    def write() -> None:
        with database.writing.begin() as connection:
            connection.execute(text("INSERT INTO numbers VALUES (7, 7)"))
            before_commit(connection, failing).append(1)

    with pytest.raises(ZeroDivisionError):
        write()
    assert kept(database) == []
    with database.writing.begin() as connection:
        before_commit(connection, number).append(3)
    assert kept(database) == [3]


def test_an_empty_list_writes_nothing(database: Database) -> None:
    with database.writing.begin() as connection:
        assert before_commit(connection, number) == []
    assert kept(database) == []


def test_replicas_number_one_after_the_other(store_url: str, database: Database) -> None:
    replicas = [open_database(store_url) for _ in range(3)]

    def write(replica: Database) -> None:
        for value in range(20):
            with replica.writing.begin() as connection:
                before_commit(connection, number).append(value)

    threads = [threading.Thread(target=write, args=[replica]) for replica in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for replica in replicas:
        replica.close()
    assert sorted(kept(database)) == sorted(list(range(20)) * 3)


def test_outside_a_transaction_it_is_refused(database: Database) -> None:
    with database.writing.connect() as connection, pytest.raises(RuntimeError, match="outside a transaction"):
        before_commit(connection, number)
