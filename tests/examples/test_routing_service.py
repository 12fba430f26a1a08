"""The example: it tells every message once and in order, and assigns what is flagged, against an API made for this."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from typing import Any

import httpx
from rich.console import Console

from examples.routing_service import TEAM, RoutingService, team_of
from pipeline.conversation import Conversation, Turn
from serving.client import AsyncClient, Patience
from tests.serving.test_client import LIVE, SUMMARY

QUIET = 0.3


class Api:
    """Flags every conversation whose message says so; assigns all but those named."""

    def __init__(self, nobody_for: set[str]) -> None:
        self.nobody_for = nobody_for
        self.told: dict[str, list[str]] = {}
        self.agents: list[str] = []
        self.assigned: list[str] = []
        self.events: list[dict[str, Any]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path.split("/")[2:]:
            case "PUT", ["agents", name]:
                self.agents.append(name)
                agent = json.loads(request.content)
                return httpx.Response(
                    201, json={"agent": agent, "open": 0, "last_hard_at": None, "last_assigned_at": None}
                )
            case "POST", ["conversations", name, "messages"]:
                return self.message(name, json.loads(request.content))
            case "POST", ["conversations", name, "assign"]:
                return self.assign(name)
            case "GET", ["events"]:
                return self.stream(int(request.headers["last-event-id"]))
            case "GET", ["queue"]:
                return httpx.Response(
                    200, json={"items": [{**SUMMARY, "waiting_minutes": 1.0, "rank": 2.0}], "next": None}
                )
        return httpx.Response(404, json={})

    def message(self, name: str, body: dict[str, Any]) -> httpx.Response:
        self.told.setdefault(name, []).append(body["id"])
        if "manager" in body["text"]:
            self.happened("flagged", name)
        return httpx.Response(201, json={**LIVE, "id": name, "message": body["id"]})

    def assign(self, name: str) -> httpx.Response:
        if name in self.nobody_for:
            problem = {"code": "conflict", "message": "no agent may take the conversation now", "field": None}
            return httpx.Response(409, json={"error": {**problem, "request_id": "r"}})
        self.assigned.append(name)
        self.happened("assigned", name)
        return httpx.Response(200, json={"conversation": {**SUMMARY, "id": name, "agent": "ann"}, "why": ["fits"]})

    def happened(self, kind: str, name: str) -> None:
        number = len(self.events) + 1
        event = {"id": number, "kind": kind, "conversation": name, "at": "2026-11-25T10:00:00Z", "body": {}}
        self.events.append(event)

    def stream(self, after: int) -> httpx.Response:
        frames = [f"id: {e['id']}\nevent: {e['kind']}\ndata: {json.dumps(e)}\n\n" for e in self.events[after:]]
        return httpx.Response(200, content="".join(frames))


def run(api: Api, conversations: list[Conversation]) -> str:
    shown = StringIO()

    async def running() -> None:
        patience = Patience(first_wait=0.01, longest_wait=0.02)
        async with AsyncClient("http://test", patience=patience, transport=httpx.MockTransport(api)) as client:
            service = RoutingService(client, Console(file=shown, width=120))
            await asyncio.wait_for(service.run(conversations, TEAM, QUIET), 10)

    asyncio.run(running())
    return shown.getvalue()


def conversation(name: str, *texts: str) -> Conversation:
    return Conversation(id=name, turns=tuple(Turn(role="customer", text=text) for text in texts))


def test_messages_are_told_in_order_and_what_is_flagged_is_assigned() -> None:
    api = Api(nobody_for={"full"})
    shown = run(
        api,
        [
            conversation("calm", "hello", "thanks"),
            conversation("hot", "hello", "a manager, now!"),
            conversation("full", "manager!"),
        ],
    )
    assert api.agents == [agent.id for agent in TEAM]
    assert api.told == {"calm": ["turn-0", "turn-1"], "hot": ["turn-0", "turn-1"], "full": ["turn-0"]}
    assert api.assigned == ["hot"]
    assert "given to ann (fits)" in shown
    assert "left where it is: no agent may take the conversation now" in shown
    assert "5 messages told, 2 flagged, 1 left in the queue, 1 assigned" in shown.replace("\n", " ")


def test_the_team_may_come_from_a_file(tmp_path: Any) -> None:
    file = tmp_path / "team.json"
    file.write_text('[{"id": "zoe", "languages": ["de"], "cap": 2}]', encoding="utf-8")
    assert [agent.id for agent in team_of(file)] == ["zoe"]
