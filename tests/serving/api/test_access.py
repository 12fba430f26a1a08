"""Who is let in: keys with their scopes where others may call, this machine alone where there are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.config import ServeConfig
from serving.security import keys
from serving.security.keys import Scope
from serving.security.verifier import VerifierConfig
from serving.service import open_service
from serving.store.audit import history, verify
from tests.serving.api.asking import assert_failure, say, talk
from tests.serving.conftest import Served, serving

RECHECK = 0.05  # seconds until a revoked key is noticed

Make = Callable[[Sequence[Scope]], str]


def run(served: Served, operation: Callable[[Any], Any]) -> Any:
    with served.service.database.writing.begin() as connection:
        return operation(connection)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def locked(config: ServeConfig) -> Iterator[Served]:
    """A service that others may call, and that asks for keys therefore."""
    asked = {"host": "0.0.0.0", "keys": VerifierConfig(recheck_seconds=RECHECK)}
    with serving(config.model_copy(update=asked)) as served:
        yield served


def key_of(served: Served, *scopes: Scope) -> str:
    text, _ = run(served, lambda c: keys.create(c, "desk", scopes, None, now()))
    return str(text)


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


MAY = [
    (Scope.SCORE, "POST", "/v1/score", {"id": "a", "text": "hello"}),
    (Scope.SCORE, "PUT", "/v1/conversations/c1", talk(say("hello"))),
    (Scope.READ, "GET", "/v1/queue", None),
    (Scope.READ, "GET", "/metrics", None),
    (Scope.ADMIN, "PUT", "/v1/agents/ann", {"id": "ann", "languages": ["en"], "cap": 1}),
    (Scope.ADMIN, "GET", "/v1/webhooks", None),
]


@pytest.mark.parametrize("held", list(Scope))
def test_a_key_opens_what_its_scope_says_and_nothing_else(locked: Served, held: Scope) -> None:
    key = bearing(key_of(locked, held))
    for needed, method, path, body in MAY:
        answer = locked.client.request(method, path, json=body, headers=key)
        if held in (needed, Scope.ADMIN):
            assert answer.status_code in (200, 201), path
        else:
            assert_failure(answer, 403, "forbidden", message=f"lacks the scope {needed}")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer simmer_aaaaaaaaaaaa_" + "A" * 43},
        {"authorization": "Bearer " + "x" * 8000},
        {"authorization": "Bearer simmer_' OR 1=1 --"},
    ],
)
def test_without_a_key_that_counts_nobody_is_let_in(locked: Served, given: dict[str, str]) -> None:
    for path in ("/v1/queue", "/metrics", "/v1/nothing", "/redoc"):
        answer = locked.client.get(path, headers=given)
        assert_failure(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_what_runs_the_service_may_ask_how_it_is_without_a_key(locked: Served) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert locked.client.get(path).status_code == 200, path


def test_a_rotated_key_opens_with_its_new_secret_and_for_a_while_with_the_old(locked: Served) -> None:
    old = key_of(locked, Scope.READ)
    assert locked.client.get("/v1/queue", headers=bearing(old)).status_code == 200
    identifier = old.split("_")[1]
    new, _ = run(locked, lambda c: keys.rotate(c, identifier, timedelta(hours=1), now()))
    for key in (old, new):
        assert locked.client.get("/v1/queue", headers=bearing(key)).status_code == 200
    newest, _ = run(locked, lambda c: keys.rotate(c, identifier, timedelta(0), now()))
    time.sleep(2 * RECHECK)
    statuses = [locked.client.get("/v1/queue", headers=bearing(key)).status_code for key in (old, new, newest)]
    assert statuses == [401, 401, 200]


def test_a_revoked_key_opens_nothing(locked: Served) -> None:
    key = key_of(locked, Scope.READ)
    assert locked.client.get("/v1/queue", headers=bearing(key)).status_code == 200
    run(locked, lambda c: keys.revoke(c, key.split("_")[1], now()))
    time.sleep(2 * RECHECK)
    assert_failure(locked.client.get("/v1/queue", headers=bearing(key)), 401, "unauthenticated")


def test_the_audit_log_names_who_did_it(locked: Served) -> None:
    key = key_of(locked, Scope.ADMIN)
    identifier = key.split("_")[1]
    for method, path, body in [
        ("PUT", "/v1/agents/ann", {"id": "ann", "languages": ["en"], "cap": 3}),
        ("PUT", "/v1/conversations/c1", talk(say("I am furious about my knee"))),
        ("POST", "/v1/conversations/c1/claim", {"agent": "ann"}),
        ("POST", "/v1/conversations/c1/resolve", {"outcome": "refunded"}),
        ("DELETE", "/v1/conversations/c1", None),
    ]:
        assert locked.client.request(method, path, json=body, headers=bearing(key)).is_success, path
    with locked.service.database.reading.begin() as connection:
        entries = history(connection, "c1") + history(connection, "ann")
        assert verify(connection).broken is None
    assert [entry.action for entry in entries] == ["assigned", "resolved", "erased", "agent_added"]
    assert {entry.actor for entry in entries} == {f"key {identifier} (desk)"}
    assert "knee" not in str(entries)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"host": "simmer.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_where_keys_are_off_only_this_machine_may_call(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/v1/queue", headers=headers).status_code == status
    assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_keys_are_off_on_loopback(config: ServeConfig, host: str) -> None:
    assert open_service(config.model_copy(update={"host": host})).verifier is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "simmer.example", ""])
def test_keys_are_on_anywhere_else(config: ServeConfig, host: str) -> None:
    assert open_service(config.model_copy(update={"host": host})).verifier is not None
