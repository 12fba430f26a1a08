"""What tests of the API share: failures have one shape, and a served process is told what to do byte by byte."""

from __future__ import annotations

from typing import Any


def assert_failure(response: Any, status: int, code: str, field: str | None = None, message: str = "") -> None:
    """The response is a failure in the API's one shape, quoting the number in its header."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    problem = response.json()["error"]
    assert list(problem) == ["code", "message", "field", "request_id"]
    assert (problem["code"], problem["field"]) == (code, field)
    assert message in problem["message"]
    assert problem["request_id"] == response.headers["x-request-id"]


def say(text: str, **more: Any) -> dict[str, Any]:
    """A customer's message, without an id."""
    return {"role": "customer", "text": text, **more}


def talk(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A conversation so far."""
    return {"turns": list(turns), **more}
