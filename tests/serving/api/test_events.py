"""What operators ask of webhooks: how they fare, what was given up, and to try it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection

from serving.api.events import event_routes
from serving.events.config import EventsConfig
from serving.events.outgoing import Outgoing
from serving.store import deliveries
from tests.serving.events.conftest import secrets, sqlite_store, store
from tests.serving.events.places import START, Clock, Store, api, webhook

__all__ = ["secrets", "sqlite_store", "store"]

HOOKS = (
    webhook("https://hooks.example/services/hidden?token=hidden", "one", kinds=["flagged", "erased"]),
    webhook("http://127.0.0.1:9/", "two"),
)


@asynccontextmanager
async def client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """The API without a server, and nobody who delivers."""
    outgoing = Outgoing(EventsConfig(webhooks=HOOKS), store.writer, store.reader, Clock())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api(outgoing)), base_url="http://test") as http:
        yield http


async def bury(store: Store, numbers: range, name: str = "one") -> None:
    def write(connection: Connection) -> None:
        for number in numbers:
            deliveries.mark_dead(connection, name, number, f"status {number}")

    await store.writer.run(write)


def test_how_webhooks_fare(store: Store) -> None:
    async def main() -> None:
        async with client(store) as http:
            await store.append(5, hooks=["one", "two"])
            await store.writer.run(partial(deliveries.mark_delivered, webhook="one", number=1))
            await bury(store, range(2, 4))
            mark = partial(deliveries.mark_failed, webhook="two", number=4, due_at=START, error="no connection")
            await store.writer.run(mark)
            answer = await http.get("/v1/webhooks")
        one, two = answer.json()["webhooks"]
        assert one == {
            "name": "one",
            "target": "https://hooks.example",
            "kinds": ["flagged", "erased"],
            "deliveries": {"pending": 2, "delivered": 1, "dead": 2},
            "last_error": "status 3",
        }
        assert (two["target"], two["last_error"]) == ("http://127.0.0.1:9", "no connection")
        assert "hidden" not in answer.text
        assert "SIMMER" not in answer.text

    asyncio.run(main())


def test_the_dead_are_listed_in_pages(store: Store) -> None:
    async def main() -> None:
        async with client(store) as http:
            await store.append(5, conversation="c😡", hooks=["one", "two"])
            await bury(store, range(1, 6))
            await bury(store, range(3, 5), "two")
            pages: list[list[tuple[int, str]]] = []
            cursor: str | None = None
            while cursor is not None or not pages:
                query: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
                page = (await http.get("/v1/webhooks/dead", params=query)).json()
                pages.append([(item["event"], item["webhook"]) for item in page["items"]])
                cursor = page["next"]
            assert pages == [[(5, "one"), (4, "two"), (4, "one")], [(3, "two"), (3, "one"), (2, "one")], [(1, "one")]]
            assert page["items"][0] == {
                "webhook": "one",
                "event": 1,
                "kind": "flagged",
                "conversation": "c😡",
                "at": "2026-05-04T09:00:00Z",
                "attempts": 1,
                "error": "status 1",
            }

    asyncio.run(main())


def test_the_dead_are_tried_again_one_or_all(store: Store) -> None:
    async def main() -> None:
        async with client(store) as http:
            await store.append(5, hooks=["one", "two"])
            await bury(store, range(1, 6))
            answers = [
                (await http.post(f"/v1/webhooks/{path}")).json()
                for path in ("one/dead/2/retry", "one/retry", "one/retry", "two/retry")
            ]
            assert answers == [{"retried": 1}, {"retried": 4}, {"retried": 0}, {"retried": 0}]
            states = (await http.get("/v1/webhooks")).json()["webhooks"]
        assert [one["deliveries"]["pending"] for one in states] == [5, 5]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/webhooks/three/retry", 404),
        ("POST", "/v1/webhooks/%2e%2e/retry", 404),
        ("POST", "/v1/webhooks/one'--/retry", 404),
        ("POST", "/v1/webhooks/one/dead/1/retry", 404),  # it is not dead
        ("POST", "/v1/webhooks/one/dead/0/retry", 422),
        ("POST", f"/v1/webhooks/one/dead/{2**63}/retry", 422),
        ("POST", "/v1/webhooks/one/dead/x/retry", 422),
        ("GET", "/v1/webhooks/dead?limit=0", 422),
        ("GET", "/v1/webhooks/dead?limit=201", 422),
        ("GET", "/v1/webhooks/dead?cursor=", 422),
        ("GET", "/v1/webhooks/dead?cursor=1.", 422),
        ("GET", "/v1/webhooks/dead?cursor=9999999999999999999.one", 422),
        ("GET", "/v1/webhooks/dead?cursor=1.one%0a", 422),
    ],
)
def test_what_is_not_there_or_not_meant_is_refused(sqlite_store: Store, method: str, path: str, status: int) -> None:
    async def main() -> None:
        async with client(sqlite_store) as http:
            await sqlite_store.append(1, hooks=["one"])
            answer = await http.request(method, path)
            assert answer.status_code == status, answer.text
            assert list(answer.json()["error"]) == ["code", "message", "field", "request_id"]

    asyncio.run(main())


def test_every_route_says_what_a_key_must_be_allowed() -> None:
    app = FastAPI()
    outgoing: Any = type("Fake", (), {"config": EventsConfig()})
    app.include_router(event_routes(outgoing))
    scopes = {
        path: operation["x-scope"] for path, item in app.openapi()["paths"].items() for operation in item.values()
    }
    assert scopes.pop("/v1/events") == "read"
    assert set(scopes.values()) == {"admin"}
