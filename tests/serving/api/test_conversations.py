"""Conversations over HTTP: taken in once, read back whole, handed to agents, erased."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from serving.api.conversations import Assignment, LiveAnswer, Summary, Trajectory
from serving.explain import Explanation
from serving.store.conversations import erase
from tests.serving.api.asking import assert_failure, say, talk
from tests.serving.conftest import Served

AGENT = {"languages": ["en"], "cap": 50, "tier": "senior"}


@pytest.fixture
def path(client: TestClient) -> str:
    """The address of a conversation that nobody has spoken in."""
    return f"/v1/conversations/c-{uuid4().hex[:8]}"


@pytest.fixture
def ann(client: TestClient) -> str:
    client.put("/v1/agents/ann", json={"id": "ann", **AGENT})
    return "ann"


def post(client: TestClient, path: str, identifier: str, text: str, **more: Any) -> Any:
    return client.post(f"{path}/messages", json={"id": identifier, "text": text, **more})


def turns(client: TestClient, path: str) -> list[dict[str, Any]]:
    found = client.get(path)
    assert found.status_code == 200, found.text
    return list(Trajectory.model_validate(found.json()).model_dump()["turns"])


def test_a_message_begins_a_conversation(client: TestClient, path: str) -> None:
    answer = post(client, path, "m1", "I am furious", channel="email", language="en", meta={"order": 5})
    assert answer.status_code == 201
    found = LiveAnswer.model_validate(answer.json())
    assert (found.message, found.turn, found.priority.queue) == ("m1", 0, "senior")
    conversation = found.conversation
    assert (conversation.status, conversation.version, conversation.channel) == ("open", 1, "email")
    assert conversation.waiting_since is not None


def test_the_same_message_again_is_answered_as_at_first(client: TestClient, path: str) -> None:
    first = post(client, path, "m1", "I am furious")
    post(client, path, "m2", "hello?")
    again = post(client, path, "m1", "I am furious")
    assert (first.status_code, again.status_code) == (201, 200)
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    without = [{k: v for k, v in one.json().items() if k != "conversation"} for one in (first, again)]
    assert without[0] == without[1]
    assert len(turns(client, path)) == 2


def test_the_same_id_with_other_words_is_a_conflict(client: TestClient, path: str) -> None:
    post(client, path, "m1", "one")
    assert_failure(post(client, path, "m1", "another"), 409, "conflict", message="m1")
    assert_failure(post(client, path, "m1", "one", role="agent"), 409, "conflict")
    assert_failure(client.put(path, json=talk(say("another", id="m1"))), 409, "conflict")
    assert [turn["text"] for turn in turns(client, path)] == ["one"]


def test_a_conversation_put_whole_grows_with_what_is_new_in_it(client: TestClient, path: str) -> None:
    begun = client.put(path, json=talk(say("hello")))
    grown = client.put(path, json=talk(say("hello"), say("Hi!", role="agent"), say("I am furious")))
    again = client.put(path, json=talk(say("hello"), say("Hi!", role="agent"), say("I am furious")))
    assert [one.status_code for one in (begun, grown, again)] == [201, 201, 200]
    assert (grown.json()["message"], grown.json()["conversation"]["hot"]) == ("turn-2", True)
    assert again.json() == grown.json()
    assert [turn["role"] for turn in turns(client, path)] == ["customer", "agent", "customer"]


def test_the_channel_stays_where_nothing_else_is_said(client: TestClient, path: str) -> None:
    post(client, path, "m1", "hello", channel="email")
    found = client.put(path, json=talk(say("and now?", id="m2"))).json()
    assert found["conversation"]["channel"] == "email"
    found = client.put(path, json=talk(say("and now?", id="m2"), channel="phone")).json()
    assert (found["conversation"]["channel"], found["conversation"]["version"]) == ("phone", 3)


def test_turns_stay_in_their_order_whichever_of_them_have_a_time(client: TestClient, path: str) -> None:
    times = [None, "2026-01-05T09:00:00Z", None, "2026-01-05T10:00:00+01:00", None]
    given = [say(f"number {n}", **({"at": at} if at else {})) for n, at in enumerate(times)]
    client.put(path, json=talk(*given))
    assert [turn["text"] for turn in turns(client, path)] == [f"number {n}" for n in range(5)]


def test_what_is_in_a_conversation_twice_is_taken_once(client: TestClient, path: str) -> None:
    twice = say("hello", id="m1")
    assert client.put(path, json=talk(twice, twice)).status_code == 201
    assert len(turns(client, path)) == 1
    assert_failure(client.put(path, json=talk(say("a", id="m2"), say("b", id="m2"))), 409, "conflict", message="m2")
    assert len(turns(client, path)) == 1


def test_a_late_message_takes_its_place(client: TestClient, path: str) -> None:
    post(client, path, "m1", "hello", at="2026-01-05T09:00:00Z")
    post(client, path, "m3", "well?", at="2026-01-05T09:10:00Z")
    late = post(client, path, "m2", "I am furious", at="2026-01-05T09:05:00Z")
    assert late.json()["turn"] == 1
    assert [(turn["id"], turn["revised"]) for turn in turns(client, path)] == [
        ("m1", False),
        ("m2", False),
        ("m3", True),
    ]


def test_a_time_far_ahead_does_not_keep_later_messages_behind(client: TestClient, path: str) -> None:
    post(client, path, "m1", "I am furious", at="2190-01-01T00:00:00Z")
    post(client, path, "m2", "so sorry", role="agent")
    assert [turn["id"] for turn in turns(client, path)] == ["m1", "m2"]
    assert client.get(path).json()["conversation"]["waiting_since"] is None


def test_personal_data_is_not_kept(client: TestClient, path: str) -> None:
    meta = {"who": "jane.doe@example.com"}
    post(client, path, "m1", "write to jane.doe@example.com", meta=meta)
    client.post(f"{path}/resolve", json={"outcome": "wrote to jane.doe@example.com"})
    assert "jane" not in client.get(path).text


def test_why_a_message_scored_as_it_did(client: TestClient, path: str) -> None:
    post(client, path, "m1", "I am furious")
    post(client, path, "m2", "so sorry", role="agent")
    found = client.get(f"{path}/messages/m1/explanation")
    told = Explanation.model_validate(found.json())
    moved = dict(zip([unit.text for unit in told.units], told.heads["frustration"], strict=True))
    assert moved["furious"] > 2 > 0.1 > abs(moved["I"])
    assert "frustration_severe" in [rule.reason for rule in told.rules if rule.fired]
    for missing in ("m2", "m3"):
        assert_failure(client.get(f"{path}/messages/{missing}/explanation"), 404, "not_found")


def test_from_claim_to_resolution(client: TestClient, path: str, ann: str) -> None:
    post(client, path, "m1", "hello")
    claimed = Assignment.model_validate(client.post(f"{path}/claim", json={"agent": ann}).json())
    assert (claimed.conversation.status, claimed.conversation.agent, claimed.why) == ("assigned", "ann", ["claimed"])
    released = Summary.model_validate(client.post(f"{path}/release").json())
    assert (released.status, released.agent) == ("open", "ann")
    assigned = Assignment.model_validate(client.post(f"{path}/assign", json={}).json())
    assert assigned.why == ["previous_agent"]
    resolved = Summary.model_validate(client.post(f"{path}/resolve", json={"outcome": "refunded"}).json())
    assert (resolved.status, resolved.waiting_since) == ("resolved", None)
    reopened = post(client, path, "m2", "it is still broken").json()["conversation"]
    assert reopened["status"] == "open"
    happened = Trajectory.model_validate(client.get(path).json()).history
    assert [one.action for one in happened] == ["assigned", "released", "assigned", "resolved"]


def test_who_does_not_fit_is_told_why(client: TestClient, path: str) -> None:
    client.put("/v1/agents/off", json={"id": "off", **AGENT, "online": False})
    post(client, path, "m1", "hello")
    refused = client.post(f"{path}/assign", json={"agent": "off"})
    assert_failure(refused, 409, "conflict", message="off: offline")
    assert_failure(client.post(f"{path}/claim", json={"agent": "nobody"}), 404, "not_found", message="agent nobody")


def test_what_is_erased_is_gone_from_everywhere_but_the_audit_log(served: Served, path: str) -> None:
    client = served.client
    post(client, path, "m1", "I am furious about my knee")
    assert client.delete(path).status_code == 204
    assert_failure(client.get(path), 404, "not_found")
    assert_failure(client.delete(path), 404, "not_found")
    again = post(client, path, "m1", "I am furious about my knee")
    assert (again.status_code, again.json()["conversation"]["version"]) == (201, 1)


def test_what_another_replica_erased_is_gone_here_too(served: Served, path: str) -> None:
    post(served.client, path, "m1", "I am furious")
    identifier = path.rpartition("/")[2]
    with served.service.database.writing.begin() as connection:
        erase(connection, identifier)
    again = post(served.client, path, "m1", "I am furious")
    assert (again.status_code, again.json()["conversation"]["version"]) == (201, 1)
    with served.service.database.writing.begin() as connection:
        erase(connection, identifier)
    assert served.client.put(path, json=talk(say("I am furious", id="m1"))).status_code == 201
