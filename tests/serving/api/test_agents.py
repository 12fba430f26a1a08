"""Agents over HTTP: added, changed, removed, and given their next conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.api.agents import Agents, Carried
from serving.api.conversations import Assignment
from serving.config import ServeConfig
from tests.serving.api.asking import assert_failure
from tests.serving.conftest import serving

ANN = {"id": "ann", "languages": ["en-GB", "DE"], "cap": 1, "skills": ["Billing "], "tier": "senior"}


@pytest.fixture
def team(config: ServeConfig) -> Iterator[TestClient]:
    """A team of a test's own."""
    with serving(config) as served:
        yield served.client


def test_an_agent_is_added_changed_and_removed(team: TestClient) -> None:
    added = team.put("/v1/agents/ann", json=ANN)
    changed = team.put("/v1/agents/ann", json={**ANN, "cap": 4})
    assert (added.status_code, changed.status_code) == (201, 200)
    found = Carried.model_validate(team.get("/v1/agents/ann").json())
    assert (found.agent.cap, found.open, found.agent.languages) == (4, 0, {"en", "de"})
    assert [one.agent.id for one in Agents.model_validate(team.get("/v1/agents").json()).agents] == ["ann"]
    assert team.delete("/v1/agents/ann").status_code == 204
    for gone in (team.get("/v1/agents/ann"), team.delete("/v1/agents/ann"), team.post("/v1/agents/ann/next")):
        assert_failure(gone, 404, "not_found", message="agent ann")


def test_the_next_conversation_is_the_hottest_until_nothing_is_left_or_nothing_fits(team: TestClient) -> None:
    team.put("/v1/agents/ann", json=ANN)
    assert team.post("/v1/agents/ann/next").status_code == 204
    for name, text in (("calm", "hello"), ("hot", "I am furious")):
        team.post(f"/v1/conversations/{name}/messages", json={"id": "m", "text": text})
    given = team.post("/v1/agents/ann/next")
    assert given.status_code == 200
    assert Assignment.model_validate(given.json()).conversation.id == "hot"
    full = team.post("/v1/agents/ann/next")
    assert (full.status_code, full.content) == (204, b"")
    assert team.get("/v1/agents/ann").json()["open"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**ANN, "id": "ben"}, "id"),
        ({**ANN, "cap": -1}, "cap"),
        ({**ANN, "cap": True}, "cap"),
        ({**ANN, "cap": "5"}, "cap"),
        ({**ANN, "cap": 10**30}, "cap"),
        ({**ANN, "languages": []}, "languages"),
        ({**ANN, "languages": [""]}, "languages.0"),
        ({**ANN, "languages": "en"}, "languages"),
        ({**ANN, "name": "a\0b"}, "name"),
        ({**ANN, "skills": ["x" * 101]}, "skills.0"),
        ({**ANN, "skills": [str(n) for n in range(101)]}, "skills"),
        ({**ANN, "online": "yes"}, "online"),
        ({**ANN, "boss": True}, "boss"),
        ({"id": "ann"}, "languages"),
        ([], None),
    ],
)
def test_what_is_no_agent_is_refused_by_field(client: TestClient, body: Any, field: str | None) -> None:
    assert_failure(client.put("/v1/agents/ann", json=body), 422, "invalid", field)
    assert client.get("/v1/agents/ann").status_code == 404
