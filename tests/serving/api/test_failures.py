"""One shape of failure, whatever went wrong, and nothing of the request in it; a number to quote on every answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pipeline.conversation import Conversation
from serving.batcher import Closed, EngineFailed, Overloaded
from serving.config import ServeConfig
from serving.live.conversations import NotThere
from serving.service import Service
from serving.store.faults import StoreBusy, StoreUnavailable
from tests.serving.api.asking import assert_failure
from tests.serving.conftest import Served, serving


@pytest.fixture
def fragile(config: ServeConfig) -> Iterator[Served]:
    """A service whose parts a test may break; errors of ours are answered, not raised."""
    with serving(config, raise_server_exceptions=False) as served:
        yield served


def breaks(monkeypatch: pytest.MonkeyPatch, service: Service, error: Exception) -> None:
    async def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(service.scoring, "score", broken)


def test_paths_and_methods_that_are_not_there(client: TestClient) -> None:
    assert_failure(client.get("/v1/nothing"), 404, "not_found")
    assert_failure(client.post("/healthz"), 405, "method_not_allowed")
    refused = client.get("/v1/score")
    assert_failure(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


def test_an_error_of_ours_tells_nothing(
    fragile: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(conversation: Conversation) -> None:
        raise RuntimeError(conversation.turns[0].text)

    monkeypatch.setattr(fragile.service.models.current.scorer, "read", lambda job: broken(job.conversation))
    with caplog.at_level(logging.ERROR):
        response = fragile.client.post("/v1/score", json={"id": "a", "text": "my secret"})
    assert_failure(response, 500, "internal", message="request id")
    assert "secret" not in response.text
    number = response.headers["x-request-id"]
    assert [record.__dict__["request_id"] for record in caplog.records if record.name == "simmer.api"] == [number]


@pytest.mark.parametrize(
    ("error", "status", "code", "after"),
    [
        (Overloaded(2.5), 429, "too_many_requests", "3"),
        (Overloaded(0.01), 429, "too_many_requests", "1"),
        (StoreBusy("secret"), 429, "too_many_requests", "1"),
        (StoreUnavailable("secret"), 503, "unavailable", "1"),
        (EngineFailed("secret"), 503, "unavailable", "1"),
        (Closed("secret"), 503, "unavailable", "1"),
        (NotThere("c1"), 404, "not_found", None),
    ],
)
def test_what_is_expected_to_happen_says_what_to_do(
    fragile: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str, after: str | None
) -> None:
    breaks(monkeypatch, fragile.service, error)
    response = fragile.client.post("/v1/score", json={"id": "a", "text": "hello"})
    assert_failure(response, status, code)
    assert response.headers.get("retry-after") == after
    assert "secret" not in response.text


def test_request_ids_are_echoed_or_made(client: TestClient) -> None:
    given = "Root=1-67891233-abcdef;7/x+y"
    assert client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given
    failed = client.get("/v1/nothing", headers={"x-request-id": given})
    assert failed.headers["x-request-id"] == failed.json()["error"]["request_id"] == given
    made = {client.get("/healthz").headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5


@pytest.mark.parametrize(
    "hostile",
    [b"a\r\nset-cookie: evil=1", b"a\nb", b"\x1b[31mred", b"\xff\xfe\x85", b"\0", b"   ", b"", b"x" * 9_000, b'"},"'],
)
def test_hostile_request_ids_are_harmless(client: TestClient, hostile: bytes) -> None:
    response = client.get("/v1/nothing", headers=[(b"x-request-id", hostile)])
    assert_failure(response, 404, "not_found")
    assert re.fullmatch(r"[!-~]{1,64}", response.headers["x-request-id"])
    assert "set-cookie" not in response.headers
