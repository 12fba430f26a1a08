"""GET /v1/queue: hottest first, page by page, everyone once, and no cursor but its own."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.api.queue import Page
from serving.config import ServeConfig
from tests.serving.api.asking import assert_failure
from tests.serving.conftest import serving

TEXTS = ["hello", "I am furious", "urgent", "my lawyer", "soon", "furious and urgent"]


@pytest.fixture
def queue(config: ServeConfig) -> Iterator[TestClient]:
    """A queue of a test's own."""
    with serving(config) as served:
        yield served.client


@pytest.fixture(scope="module")
def filled(client: TestClient) -> TestClient:
    """The queue that the tests of this file share, with one conversation of each kind."""
    fill(client, len(TEXTS))
    return client


def fill(client: TestClient, count: int, name: str = "c") -> list[str]:
    names = [f"{name}{number}" for number in range(count)]
    for number, one in enumerate(names):
        body = {"id": "m", "text": TEXTS[number % len(TEXTS)], "channel": "email" if number % 2 else "chat"}
        assert client.post(f"/v1/conversations/{one}/messages", json=body).status_code == 201
    return names


def page(client: TestClient, **asked: Any) -> Page:
    found = client.get("/v1/queue", params=asked)
    assert found.status_code == 200, found.text
    return Page.model_validate(found.json())


def pages(client: TestClient, **asked: Any) -> Iterator[Page]:
    cursor: str | None = None
    while True:
        found = page(client, **asked, **({"cursor": cursor} if cursor else {}))
        yield found
        cursor = found.next
        if cursor is None:
            return


def test_the_hottest_come_first_and_everyone_once(queue: TestClient) -> None:
    names = fill(queue, 14)
    found = [item for one in pages(queue, limit=3) for item in one.items]
    assert sorted(item.id for item in found) == sorted(names)
    ranks = [item.rank for item in found]
    assert ranks == sorted(ranks, reverse=True)
    assert found[0].priority.score > found[-1].priority.score
    assert [item.id for item in page(queue, limit=14).items] == [item.id for item in found]


def test_those_who_stay_are_seen_once_though_others_come_and_go(queue: TestClient) -> None:
    names = fill(queue, 12)
    seen: list[str] = []
    for number, one in enumerate(pages(queue, limit=2)):
        seen += [item.id for item in one.items]
        fill(queue, 2, f"new{number}-")
        gone = [name for name in names if name not in seen][:1]
        for name in gone:
            queue.post(f"/v1/conversations/{name}/resolve", json={})
            names.remove(name)
        if number > 20:
            break
    assert len(seen) == len(set(seen))
    assert set(names) <= set(seen)


def test_a_page_of_conversations_with_long_names_has_a_next_page(queue: TestClient) -> None:
    names = {f"{'長' * 199}{number}" for number in range(3)}
    for name in names:
        queue.post(f"/v1/conversations/{name}/messages", json={"id": "m", "text": "hello"})
    assert {item.id for one in pages(queue, limit=1) for item in one.items} == names


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"channel": "email"}, {"c1", "c3", "c5"}),
        ({"queue": "critical"}, {"c2", "c5"}),
        ({"signal": "public_or_legal_threat"}, {"c3"}),
        ({"signal": "%"}, set()),
        ({"signal": '"'}, set()),
        ({"language": "en"}, set()),
        ({"queue": "' OR 1=1 --"}, set()),
        ({}, {"c0", "c1", "c2", "c3", "c4", "c5"}),
    ],
)
def test_filters_choose(filled: TestClient, asked: dict[str, str], wanted: set[str]) -> None:
    assert {item.id for item in page(filled, **asked).items} == wanted


def cursor_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "é",
        cursor_of(b"1234567"),
        cursor_of(struct.pack(">d", 1.0)),
        cursor_of(struct.pack(">d", float("nan")) + b"c1"),
        cursor_of(struct.pack(">d", float("inf")) + b"c1"),
        cursor_of(struct.pack(">d", 1.0) + b"\xff\xfe"),
        cursor_of(struct.pack(">d", 1.0) + b"c1\0"),
        cursor_of(struct.pack(">d", 1.0) + b"x" * 1_000),
        cursor_of(struct.pack(">d", 1.0) + b"x" * 201),
    ],
)
def test_what_is_no_cursor_is_refused(client: TestClient, cursor: str) -> None:
    found = client.get("/v1/queue", params={"cursor": cursor})
    assert_failure(found, 422, "invalid", found.json()["error"]["field"])
    assert "cursor" in found.json()["error"]["field"]


@pytest.mark.parametrize("rank", [-0.0, 1e308, -1e308, 5e-324])
def test_any_place_in_the_queue_may_be_a_cursor(filled: TestClient, rank: float) -> None:
    found = page(filled, cursor=cursor_of(struct.pack(">d", rank) + b"' OR 1=1 --"))
    assert bool(found.items) == (rank > -1e6)


@pytest.mark.parametrize(
    "asked", [{"limit": "0"}, {"limit": "201"}, {"limit": "1e2"}, {"status": "resolved"}, {"queue": "a\0"}]
)
def test_what_cannot_be_asked_is_refused(client: TestClient, asked: dict[str, str]) -> None:
    found = client.get("/v1/queue", params=asked)
    assert_failure(found, 422, "invalid", f"query.{next(iter(asked))}")
