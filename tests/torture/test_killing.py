"""Processes that are killed under load lose nothing that they acknowledged; and the torture would notice if they did.

`SIMMER_TORTURE=long` makes it long.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from serving.store.audit import verify
from serving.store.database import open_database
from tests.postgres import Postgres, free_port
from tests.torture.killing import Effort, Ledger, Load, Server, kept_over_http, kill_in_a_loop, python, replay


@pytest.fixture
def server(store_url: str, tmp_path: Path) -> Server:
    port = free_port()
    return Server(python("-m", "tests.torture.stand_in", store_url, str(port)), port, log=tmp_path / "log")


def test_what_was_acknowledged_survives_kills(server: Server, store_url: str) -> None:
    ledger, effort = Ledger(), Effort.asked()
    with server:
        kill_in_a_loop(server, ledger, effort)
        assert len(ledger.acknowledged) > effort.rounds * effort.writers
        replay(server, ledger)
        ledger.check(kept_over_http(server))
    database = open_database(store_url)
    with database.reading.connect() as connection:
        assert verify(connection).broken is None
    database.close()


def test_what_was_acknowledged_survives_a_crash_of_postgresql(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    port, ledger, effort = free_port(), Ledger(), Effort.asked()
    command = python("-m", "tests.torture.stand_in", postgres_url, str(port))
    with Server(command, port, log=tmp_path / "log") as server:
        load = Load(server.url, ledger, effort.writers, 0, [], {})
        load.start()
        for _ in range(max(1, effort.rounds // 3)):
            time.sleep(effort.seconds / 2)
            postgres.stop(signal.SIGQUIT)
            postgres.start()
        before = len(ledger.acknowledged)
        time.sleep(effort.seconds)
        load.stop()
        assert len(ledger.acknowledged) > before > 0, "it did not recover by itself"
        ledger.check(kept_over_http(server))


def test_two_replicas_keep_one_message_once(postgres_url: str, tmp_path: Path) -> None:
    ledger, effort = Ledger(), Effort.asked()
    servers = [
        Server(python("-m", "tests.torture.stand_in", postgres_url, str(port)), port, log=tmp_path / "log")
        for port in (free_port(), free_port())
    ]
    with servers[0], servers[1]:
        loads = [Load(server.url, ledger, effort.writers // 2, 0, [], {}) for server in servers]
        for load in loads:
            load.start()
        time.sleep(effort.seconds)
        servers[0].kill()
        for load in loads:
            load.stop()
        assert ledger.acknowledged
        replay(servers[1], ledger)
        ledger.check(kept_over_http(servers[1]))


def test_a_server_that_acknowledges_before_it_commits_is_found_out(sqlite_url: str, tmp_path: Path) -> None:
    port, ledger = free_port(), Ledger()
    command = python("-m", "tests.torture.stand_in", sqlite_url, str(port), "--careless")
    with Server(command, port, log=tmp_path / "log") as server:
        kill_in_a_loop(server, ledger, Effort(rounds=1, writers=8, seconds=0.6), seed=1)
        with pytest.raises(AssertionError, match="acknowledged messages are lost"):
            ledger.check(kept_over_http(server))


def test_the_ledger_finds_what_is_kept_twice_or_otherwise() -> None:
    ledger = Ledger({("c", "1"): "a", ("c", "2"): "b"}, {("c", "1"): {}})
    ledger.check(lambda _: [{"id": "1", "text": "a"}])
    ledger.check(lambda _: [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}])
    for kept in (
        [{"id": "1", "text": "a"}] * 2,
        [{"id": "1", "text": "z"}],
        [{"id": "1", "text": "a"}, {"id": "3", "text": "?"}],
    ):
        with pytest.raises(AssertionError, match="kept twice or otherwise"):
            ledger.check(lambda _, kept=kept: kept)  # type: ignore[misc]
    with pytest.raises(AssertionError, match="1 of 1 acknowledged messages are lost"):
        ledger.check(lambda _: [{"id": "2", "text": "b"}])


def test_threads_of_a_load_end(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    load = Load("http://127.0.0.1:9", Ledger(), 4, 0, [], {})
    load.start()
    time.sleep(0.2)
    assert len(load.stop()) >= 4
    assert set(threading.enumerate()) <= before
