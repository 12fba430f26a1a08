"""The OpenAPI document: valid, whole, and true: every failure that it declares happens, and no other."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from starlette.types import Message

from serving.config import ServeConfig
from serving.security import keys
from serving.security.keys import Scope
from serving.security.limits import DeadlineConfig
from serving.security.rates import RateConfig
from tests.serving.api.asking import say, talk
from tests.serving.conftest import Served, serving

PATHS = {
    *("/v1/score", "/v1/model", "/v1/policy", "/v1/queue", "/v1/events", "/healthz", "/readyz", "/metrics"),
    *("/v1/conversations/{id}", "/v1/conversations/{id}/messages"),
    "/v1/conversations/{id}/messages/{message}/explanation",
    *(f"/v1/conversations/{{id}}/{done}" for done in ("claim", "assign", "release", "resolve")),
    *("/v1/shadow", "/v1/drift"),
    *("/v1/agents", "/v1/agents/{id}", "/v1/agents/{id}/next"),
    *("/v1/webhooks", "/v1/webhooks/dead", "/v1/webhooks/{name}/retry", "/v1/webhooks/{name}/dead/{event}/retry"),
}
BODIES: dict[str, Any] = {
    "score": {"id": "a", "text": "hello"},
    "put_conversation": talk(say("hello", id="m1")),
    "post_message": {"id": "m9", "text": "hello"},
    "put_agent": {"id": "ann", "languages": ["en"], "cap": 2},
    "claim": {"agent": "ann"},
    "assign": {},
    "resolve": {},
}
OTHERWISE: dict[str, Any] = {  # the same id, and something else
    "put_conversation": talk(say("something else", id="m1")),
    "post_message": {"id": "m1", "text": "something else"},
    "claim": {"agent": "ben"},
    "assign": {"agent": "ben"},
}
IDS = {"id": "c1", "message": "m1", "name": "hook", "event": "1"}
INVALID = {"id": "%20" * 201, "message": "x" * 201, "name": "x" * 201, "event": "0"}


def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(found: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_valid_and_complete(client: TestClient) -> None:
    found = document(client)
    assert OpenAPI.model_validate(found).openapi.startswith("3.1")
    assert set(found["paths"]) == PATHS
    schemas = found["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    referred = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found))
    assert set(referred) == set(schemas)
    assert "HTTPValidationError" not in schemas
    names = [operation["operationId"] for _, _, operation in operations(found)]
    assert len(names) == len(set(names))
    assert not re.search(r'"x-(?!scope)', json.dumps(found))


def test_links_lead_to_operations_with_parameters_they_have(client: TestClient) -> None:
    found = document(client)
    known = {o["operationId"]: {p["name"] for p in o.get("parameters", ())} for _, _, o in operations(found)}
    links = [
        link
        for _, _, operation in operations(found)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert len(links) > 20
    assert all(link["parameters"] and set(link["parameters"]) <= known[link["operationId"]] for link in links)


def test_every_route_of_the_api_says_what_it_asks_of_a_key(client: TestClient) -> None:
    for path, _, operation in operations(document(client)):
        scoped = path.startswith("/v1/") or path == "/metrics"
        assert ("x-scope" in operation) == scoped, path
        assert (operation.get("security") == [{"key": []}]) == scoped, path
        if scoped:
            assert operation["x-scope"] in set(Scope)


def test_the_pages_are_there(client: TestClient) -> None:
    assert "/openapi.json" in client.get("/docs").text


class Asker:
    """Asks one operation after the other of services that are broken in every way, each with a key that may."""

    def __init__(self, served: Served, key: str, weak: str) -> None:
        self.served, self.key, self.weak = served, key, weak

    def __call__(self, path: str, method: str, name: str, **changed: Any) -> int:
        headers = {"authorization": f"Bearer {self.key}"} | changed.pop("headers", {})
        ids = IDS | changed.pop("ids", {})
        if path.startswith("/v1/agents"):
            ids["id"] = changed.pop("agent", "ann")
        body = changed.pop("body", BODIES.get(name))
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        response = self.served.client.request(
            method, path.format(**ids), headers=headers, content=content, params=changed.pop("query", None)
        )
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"code", "message", "field", "request_id"}
        return response.status_code


@contextmanager
def asking(config: ServeConfig) -> Iterator[Asker]:
    """A service that asks for keys, and whoever has one."""
    with serving(config.model_copy(update={"host": "0.0.0.0"})) as served:
        with served.service.database.writing.begin() as connection:
            made = partial(keys.create, connection, expires_at=None, now=datetime.now(UTC))
            strong, _ = made("desk", [Scope.ADMIN])
            weak, _ = made("dashboard", [Scope.REVIEW])
        asker = Asker(served, strong, weak)
        for name, path in (("put_agent", "/v1/agents/{id}"), ("put_conversation", "/v1/conversations/{id}")):
            assert asker(path, "put", name) == 201
        yield asker


@pytest.fixture
def patient(config: ServeConfig) -> Iterator[Asker]:
    with asking(config) as asker:
        yield asker


def refused_at(found: Mapping[str, Any], status: int) -> list[tuple[str, str, str]]:
    return [
        (path, method, operation["operationId"])
        for path, method, operation in operations(found)
        if str(status) in operation["responses"] and path not in ("/v1/events",)
    ]


WAYS: dict[int, Callable[[Asker, str, str, str], int]] = {
    401: lambda ask, *route: ask(*route, headers={"authorization": "Bearer no"}),
    403: lambda ask, *route: ask(*route, headers={"authorization": f"Bearer {ask.weak}"}),
    404: lambda ask, *route: ask(*route, ids={"id": "nobody", "message": "none"}, agent="nobody"),
    413: lambda ask, *route: ask(*route, headers={"content-length": "999999999"}),
    414: lambda ask, *route: ask(*route, query={"q": "x" * 5000}),
    415: lambda ask, *route: ask(*route, headers={"content-encoding": "gzip"}),
    431: lambda ask, *route: ask(*route, headers={f"x-{n}": "y" for n in range(70)}),
}


@pytest.mark.parametrize("status", WAYS)
def test_what_is_declared_happens(patient: Asker, status: int) -> None:
    found = document(patient.served.client)
    routes = refused_at(found, status)
    assert len(routes) > 5
    for route in routes:
        assert WAYS[status](patient, *route) == status, route


def test_what_is_not_json_or_not_what_was_asked_for_is_refused_wherever_a_body_is_read(patient: Asker) -> None:
    found = document(patient.served.client)
    bodies = {(path, method) for path, method, o in operations(found) if "requestBody" in o}
    read = {route[:2] for route in refused_at(found, 408)}
    assert bodies == read
    for path, method, name in refused_at(found, 400):
        if (path, method) in bodies:
            assert patient(path, method, name, body=b"{") == 400, path
        else:
            assert patient(path, method, name, headers={"x-deadline-ms": "soon"}) == 400, path
    for path, method, name in refused_at(found, 422):
        if (path, method) in bodies:
            assert patient(path, method, name, body={"nonsense": 1}) == 422, path
        elif "{" in path:
            assert patient(path, method, name, ids=INVALID, agent="x" * 201) == 422, path
        else:
            assert patient(path, method, name, query={"limit": "0"}) == 422, path


def test_contradictions_are_conflicts(patient: Asker) -> None:
    for path, method, name in refused_at(document(patient.served.client), 409):
        ready(patient, name)
        assert patient(path, method, name, body=OTHERWISE.get(name, BODIES.get(name))) == 409, path


def ready(ask: Asker, name: str) -> None:
    """Bring the conversation to where the operation makes no sense."""
    conversation = "/v1/conversations/{id}"
    ask("/v1/agents/{id}", "put", "put_agent", agent="ben", body={**BODIES["put_agent"], "id": "ben"})
    ask(f"{conversation}/release", "post", "release")
    if name in ("claim", "assign"):
        ask(f"{conversation}/claim", "post", "claim")
    if name == "resolve":
        ask(f"{conversation}/resolve", "post", "resolve")


def test_a_caller_who_has_stopped_waiting_is_not_answered(patient: Asker) -> None:
    for number, (path, method, name) in enumerate(refused_at(document(patient.served.client), 504)):
        body = {"text": f"hello {number}", "id": f"late{number}"}
        given = talk(say(f"hello {number}", id="late")) if name == "put_conversation" else body
        assert patient(path, method, name, body=given, headers={"x-deadline-ms": "0"}) == 504, path


def test_without_a_store_nothing_is_answered_that_needs_one(patient: Asker) -> None:
    database = patient.served.service.database

    def away(*_: Any) -> None:
        raise OperationalError("away", {}, Exception("disk I/O error"))

    found = document(patient.served.client)
    patient.served.service.verifier._right.clear()  # type: ignore[union-attr]
    for engine in (database.reading, database.writing):
        event.listen(engine, "begin", away)
        event.listen(engine, "before_cursor_execute", away)
    for route in refused_at(found, 503):
        if route[0] != "/readyz":  # a store that failed a moment ago, says its own test
            assert patient(*route) == 503, route


def test_whoever_asks_too_often_waits(config: ServeConfig) -> None:
    rate = RateConfig(per_second=0.001, burst=4, callers=10)
    with asking(config.model_copy(update={"limits": config.limits.model_copy(update={"rate": rate})})) as ask:
        routes = refused_at(document(ask.served.client), 429)
        for route in routes[:5]:
            ask(*route)
        for route in routes:
            assert ask(*route) == 429, route


def test_a_body_that_takes_too_long_is_given_up(config: ServeConfig) -> None:
    limits = config.limits.model_copy(update={"body": DeadlineConfig(seconds=0.02)})
    with serving(config.model_copy(update={"limits": limits})) as served:
        for path, method, _ in refused_at(document(served.client), 408):
            answer = served.client.portal.call(half_sent, served.client.app, path.format(**IDS), method)  # type: ignore[union-attr]
            assert answer == 408, path


async def half_sent(app: Any, path: str, method: str) -> int:
    """The status of a request whose body never ends."""
    chunks, sent = itertools.chain([b'{"id": ']), []

    async def receive() -> Message:
        part = next(chunks, None)
        if part is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": part or b"", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "http_version": "1.1", "method": method.upper(), "path": path, "raw_path": path.encode()},
        **{"query_string": b"", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 5), "scheme": "http"},
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])
