"""What the API and those who call it agree on: the shapes of its answers, and its failures as exceptions.

A field that a newer server adds is passed over, except within an answer, which is what it was when the model was
released. Knows nothing of how any of it travels.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.conversation import Channel, Role, writable
from serving.answers import Answer
from serving.routing.agents import Agent


class Read(BaseModel):
    """Base of what is read from the API."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Message(BaseModel):
    """One party's message. Its id makes it safe to send again; one is drawn where none is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, AfterValidator(writable)]
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    role: Role = "customer"
    at: datetime | None = None
    channel: Channel | None = None
    language: str | None = None
    meta: dict[str, str | int | float | bool | None] | None = None


class RowFailure(Read):
    """In the place of a conversation that could not be read, where many were scored; `index` is its place."""

    id: str | None
    index: int
    error: str


class Standing(Read):
    """Where a conversation belongs: priority 0-100, queue, and the rules that fired."""

    score: int
    queue: str
    reasons: list[str]


class Summary(Read):
    """A conversation without a word of what was said."""

    id: str
    status: str
    version: int
    channel: str
    language: str | None
    agent: str | None
    hot: bool
    held_out: bool
    waiting_since: datetime | None
    updated_at: datetime
    priority: Standing


class Waiting(Summary):
    """A conversation in the queue."""

    waiting_minutes: float
    rank: float


class LiveAnswer(Answer):
    """What is said of a message, and the conversation after it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message: str
    conversation: Summary


class LiveTurn(Read):
    """A message as it is kept, with what holds of it now; `revised` where a late message changed that."""

    id: str
    role: str
    text: str
    at: datetime
    answer: Answer | None
    revised: bool


class Happening(Read):
    """What a person did with a conversation."""

    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class Trajectory(Read):
    """A whole conversation."""

    conversation: Summary
    turns: list[LiveTurn]
    history: list[Happening]


class Assignment(Read):
    """A conversation with its agent, and why this one."""

    conversation: Summary
    why: list[str]


class Carried(Read):
    """An agent with the load at this moment."""

    agent: Agent
    open: int
    last_hard_at: datetime | None
    last_assigned_at: datetime | None


class Event(Read):
    """Something that happened to a conversation. `kind` is `gap` where events before it are no longer kept."""

    id: int
    kind: str
    conversation: str
    at: datetime | None
    body: dict[str, Any]


class ModelCard(Read):
    """Which model speaks and what was measured of it."""

    version: str | None
    bundle: str
    profile: str
    encoder: str
    languages: list[str]
    labels: dict[str, list[str]]
    metrics: dict[str, Any]
    slices: dict[str, Any]


class ClientError(Exception):
    """Base of everything that a call to the API may raise."""


class NoAnswer(ClientError):
    """The server could not be reached, or the connection broke. What was asked may or may not have been done."""


class DeadlinePassed(ClientError, TimeoutError):
    """The call's time was over before there was an answer. What was asked may or may not have been done."""


class BadAnswer(ClientError):
    """What came back is not what the API promises: another service, or a proxy in between."""


class ApiError(ClientError):
    """The API said no. `retry_after` is in seconds, where it said when to come back."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        where = f" ({field})" if field else ""
        super().__init__(f"{status} {code}: {message}{where}")
        self.status, self.code, self.message, self.field = status, code, message, field
        self.request_id, self.retry_after = request_id, retry_after


class Invalid(ApiError):
    """The request is wrong: 400, 413, 415, 422 and the like."""


class Unauthorised(ApiError):
    """No key that counts: 401."""


class Forbidden(ApiError):
    """The key may not do this: 403."""


class NotFound(ApiError):
    """There is no such conversation or agent: 404."""


class Conflict(ApiError):
    """It contradicts what is there, or is not possible now: 409."""


class TooBusy(ApiError):
    """More is asked than can be done: 429."""


class Unavailable(ApiError):
    """The service cannot do it now: 503."""


class TooLate(ApiError):
    """The server found that nobody waits for the answer any more: 504."""


class ServerError(ApiError):
    """An error of the server's."""


_ERRORS: Mapping[int, type[ApiError]] = {
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooBusy,
    503: Unavailable,
    504: TooLate,
}


class _Problem(Read):
    code: str
    message: str
    field: str | None = None
    request_id: str | None = None


class _Envelope(Read):
    error: _Problem


def api_error(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The exception for a response that is no success; one without the API's envelope is told by its status."""
    kind = _ERRORS.get(status, ServerError if status >= 500 else Invalid)
    try:
        problem = _Envelope.model_validate_json(body).error
    except ValidationError:
        problem = _Problem(code="unknown", message="no error of this API", request_id=headers.get("x-request-id"))
    wait = seconds_of(headers.get("retry-after"))
    return kind(status, problem.code, problem.message, problem.field, problem.request_id, wait)


def seconds_of(retry_after: str | None) -> float | None:
    """Retry-After in seconds; None where it is a date, or nothing."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()) or len(retry_after) > 6:
        return None
    return float(retry_after)
