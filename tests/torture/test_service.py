"""The service itself, with a real model, killed under load on both databases."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgres import Postgres, free_port
from tests.torture.killing import Effort, Ledger, Load, Server, kept_over_http, kill_in_a_loop, python, replay

pytestmark = pytest.mark.slow


@pytest.fixture
def service(bundle_path: Path, tmp_path: Path) -> Callable[[str], Server]:
    """A service over a store, not started yet."""

    def make(store: str) -> Server:
        port = free_port()
        options = ["--model", str(bundle_path), "--store", store, "--port", str(port)]
        return Server(python("-m", "serving.cli", "serve", *options), port, log=tmp_path / "log")

    return make


def test_the_service_keeps_what_it_acknowledged(store_url: str, service: Callable[[str], Server]) -> None:
    ledger, effort = Ledger(), Effort.asked()
    with service(store_url) as server:
        kill_in_a_loop(server, ledger, effort)
        assert len(ledger.acknowledged) > effort.writers
        replay(server, ledger)
        ledger.check(kept_over_http(server))


def test_the_service_outlives_a_crash_of_postgresql(
    postgres: Postgres, postgres_url: str, service: Callable[[str], Server]
) -> None:
    ledger, effort = Ledger(), Effort.asked()
    with service(postgres_url) as server:
        load = Load(server.url, ledger, effort.writers, 0, [], {})
        load.start()
        load.wait()
        postgres.stop(signal.SIGQUIT)
        time.sleep(0.5)
        postgres.start()
        load.wait()
        load.stop()
        replay(server, ledger)
        ledger.check(kept_over_http(server))


def test_two_replicas_give_one_answer_to_a_message(postgres_url: str, service: Callable[[str], Server]) -> None:
    ledger, effort = Ledger(), Effort.asked()
    with service(postgres_url) as first, service(postgres_url) as second:
        loads = [Load(server.url, ledger, effort.writers // 2, 0, [], {}) for server in (first, second)]
        for load in loads:
            load.start()
        for load in loads:
            load.wait()
        time.sleep(effort.seconds)
        for load in loads:
            load.stop()
        assert not ledger.contradicted
        replay(first, ledger)
        replay(second, ledger)
        ledger.check(kept_over_http(second))
