"""GET /v1/events: a stream that resumes where it ended; webhooks and the deliveries that were given up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from serving.api.events import DeadDeliveries, Revived, Webhooks
from serving.config import ServeConfig
from serving.events.config import EventsConfig
from tests.serving.api.asking import assert_failure
from tests.serving.conftest import Served, serving
from tests.serving.events.places import SECRETS, webhook


def listen(served: Served, query: str = "", headers: tuple[tuple[bytes, bytes], ...] = (), frames: int = 1) -> str:
    """What the stream says until so many events have come, or for a second."""

    async def run() -> bytes:
        told, enough = b"", asyncio.Event()

        async def receive() -> Message:
            await enough.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal told
            told += message.get("body", b"")
            if message.get("status", 200) != 200 or told.count(b"\ndata: ") >= frames:
                enough.set()

        scope = {
            **{"type": "http", "http_version": "1.1", "method": "GET", "path": "/v1/events", "raw_path": b"/v1/events"},
            **{"query_string": query.encode(), "headers": [(b"host", b"127.0.0.1"), *headers]},
            **{"client": ("127.0.0.1", 5), "scheme": "http"},
        }
        listening = asyncio.create_task(served.client.app(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.wait([asyncio.create_task(enough.wait())], timeout=1)
        enough.set()
        await listening
        return told

    portal = served.client.portal
    assert portal is not None
    return portal.call(run).decode()


def ids(told: str) -> list[int]:
    frames = [frame for frame in told.split("\n\n") if "data: " in frame]
    return [int(line.removeprefix("id: ")) for frame in frames for line in frame.split("\n") if line.startswith("id: ")]


def hot(served: Served, name: str) -> None:
    body = {"id": "m", "text": "I am furious about my knee"}
    assert served.client.post(f"/v1/conversations/{name}/messages", json=body).status_code == 201


def test_events_come_in_order_and_a_stream_resumes(served: Served) -> None:
    hot(served, "e1")
    told = listen(served, "after=0", frames=2)
    assert told.startswith("retry: ")
    assert [json.loads(line[6:])["kind"] for line in told.splitlines() if line.startswith("data: ")][:2] == [
        "flagged",
        "escalated",
    ]
    assert "knee" not in told
    first, second = ids(told)[:2]
    assert first < second
    assert ids(listen(served, f"after={first}"))[0] == second
    assert ids(listen(served, "after=now", ((b"last-event-id", str(first).encode()),)))[0] == second
    assert ids(listen(served, "after=0&kinds=escalated"))[0] == second


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"after": "-1"}, "after"),
        ({"after": "1.5"}, "after"),
        ({"after": "9" * 30}, "after"),
        ({"after": "٣"}, "after"),
        ({"kinds": "flagged,nonsense"}, "kinds"),
        ({"kinds": ""}, "kinds"),
    ],
)
def test_what_cannot_be_streamed_is_refused(client: TestClient, asked: dict[str, str], field: str) -> None:
    assert_failure(client.get("/v1/events", params=asked), 422, "invalid", field)


def test_a_wrong_last_id_is_refused(client: TestClient) -> None:
    assert_failure(client.get("/v1/events", headers={"last-event-id": "x"}), 422, "invalid", "last-event-id")


@pytest.fixture
def hooked(config: ServeConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A service with a webhook at which nobody answers, tried once."""
    monkeypatch.setenv("DESK_SECRET", SECRETS["SIMMER_NEW"])
    nobody = webhook(
        "http://127.0.0.1:9/a/secret/path", "desk", secrets=[{"env": "DESK_SECRET"}], kinds=["flagged"], attempts=1
    )
    events = EventsConfig(webhooks=(nobody,), poll_s=0.05)
    with serving(config.model_copy(update={"events": events})) as served:
        yield served


def dead_letters(client: TestClient, count: int) -> DeadDeliveries:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = DeadDeliveries.model_validate(client.get("/v1/webhooks/dead").json())
        if len(found.items) == count:
            return found
        time.sleep(0.05)
    raise AssertionError("not given up")


def test_deliveries_that_were_given_up_are_listed_and_tried_again(hooked: Served) -> None:
    client = hooked.client
    for number in range(3):
        hot(hooked, f"d{number}")
    found = dead_letters(client, 3)
    assert [item.conversation for item in found.items] == ["d2", "d1", "d0"]
    first = DeadDeliveries.model_validate(client.get("/v1/webhooks/dead", params={"limit": 2}).json())
    rest = DeadDeliveries.model_validate(client.get("/v1/webhooks/dead", params={"cursor": first.next}).json())
    assert [item.conversation for item in first.items + rest.items] == ["d2", "d1", "d0"]
    (state,) = Webhooks.model_validate(client.get("/v1/webhooks").json()).webhooks
    assert (state.name, state.target, state.deliveries.dead) == ("desk", "http://127.0.0.1:9", 3)
    assert "secret" not in client.get("/v1/webhooks").text + client.get("/v1/webhooks/dead").text
    event = found.items[0].event
    assert Revived.model_validate(client.post(f"/v1/webhooks/desk/dead/{event}/retry").json()).retried == 1
    dead_letters(client, 3)
    assert Revived.model_validate(client.post("/v1/webhooks/desk/retry").json()).retried == 3
    dead_letters(client, 3)
    assert_failure(client.post(f"/v1/webhooks/desk/dead/{event + 999}/retry"), 404, "not_found", "event")


def test_there_are_no_webhooks_to_begin_with(client: TestClient) -> None:
    assert client.get("/v1/webhooks").json() == {"webhooks": []}
    assert client.get("/v1/webhooks/dead").json() == {"items": [], "next": None}
    assert_failure(client.post("/v1/webhooks/none/retry"), 404, "not_found", "name")
    assert_failure(client.get("/v1/webhooks/dead", params={"cursor": "x"}), 422, "invalid", "cursor")
