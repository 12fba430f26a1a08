"""Conversations that live here, over HTTP.

PUT    /v1/conversations/{id}            a conversation so far; what is new in it is added
POST   /v1/conversations/{id}/messages   one message, safe to send again
GET    /v1/conversations/{id}            everything that was said, and said of it
POST   /v1/conversations/{id}/claim, /assign, /release, /resolve
DELETE /v1/conversations/{id}            erases it everywhere
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import Response

from pipeline.conversation import MAX_ID
from serving.answers import Answer
from serving.api.access import ADMIN, READ, SCORE, QuickRoute, ScopedRoute
from serving.api.document import leading_to, request_body
from serving.api.failures import KEYED, SENT, Failure, failing
from serving.api.requests import actor_of, deadline_of, read_model
from serving.explain import Explanation
from serving.live.bodies import IDENTIFIER, Body, Identifier, NewConversation, NewMessage, kept_text, no_step
from serving.live.conversations import Said, job_of
from serving.live.handling import Assigned
from serving.live.lifecycle import summary
from serving.live.live import Live
from serving.scoring import ModelScoring
from serving.store.audit import Entry
from serving.store.records import Record

Id = Annotated[str, Path(min_length=1, max_length=MAX_ID, pattern=IDENTIFIER), AfterValidator(no_step)]


class Standing(BaseModel):
    """Priority before waiting is taken into account."""

    score: int
    queue: str
    reasons: list[str]


class Summary(BaseModel):
    """A conversation without a word of what was said."""

    id: str
    status: str
    version: int
    channel: str
    language: str | None
    agent: str | None = Field(description="who has it, or had it last")
    hot: bool
    held_out: bool
    waiting_since: datetime | None
    updated_at: datetime
    priority: Standing


class LiveAnswer(Answer):
    """What is said of a message, and the conversation after it."""

    message: str
    conversation: Summary


class LiveTurn(BaseModel):
    """A message as it is kept, with what holds of it now; `revised` where a late message changed that."""

    id: str
    role: str
    text: str
    at: datetime
    answer: Answer | None
    revised: bool


class Happening(BaseModel):
    """What a person did with the conversation."""

    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class Trajectory(BaseModel):
    """A whole conversation."""

    conversation: Summary
    turns: list[LiveTurn]
    history: list[Happening]


class Assignment(BaseModel):
    """A conversation with its agent, and why this one."""

    conversation: Summary
    why: list[str]


class Claim(Body):
    """Who takes the conversation."""

    agent: Identifier


class Assign(Body):
    """To whom the conversation goes; without one, to whoever fits best."""

    agent: Identifier | None = None


class Resolve(Body):
    """What is to be remembered of how it ended."""

    outcome: Annotated[str, Field(max_length=MAX_ID), AfterValidator(kept_text)] | None = None


_TAKEN: dict[int | str, dict[str, Any]] = {
    200: {"model": LiveAnswer, "description": "it was here already: the same answer as before"},
    **failing(*SENT, 409, 504),
}

_THIS = "$request.path.id"
_AFTER = (
    *("conversation", "put_conversation", "post_message"),
    *("claim", "assign", "release", "resolve", "erase_conversation"),
)


def conversation_routes(live: Live, scoring: ModelScoring) -> APIRouter:
    """Routes over the conversations of a store."""
    router = APIRouter(tags=["conversations"], responses=failing(*KEYED))
    router.include_router(_taking(live))
    router.include_router(_reading(live, scoring))
    router.include_router(_handling(live))
    return router


def _taking(live: Live) -> APIRouter:
    router = APIRouter(route_class=QuickRoute)

    @router.put(
        "/v1/conversations/{id}",
        response_model=LiveAnswer,
        status_code=201,
        responses=_TAKEN,
        openapi_extra={**SCORE, **request_body(NewConversation), **leading_to(*_AFTER, id=_THIS)},
    )
    async def put_conversation(request: Request, id: Id) -> Response:
        """Take a conversation so far. Messages without an id are known by their place; none that is here is lost."""
        new = await read_model(request, NewConversation)
        return _said(await live.conversations.put(id, new, deadline_of(request)))

    @router.post(
        "/v1/conversations/{id}/messages",
        response_model=LiveAnswer,
        status_code=201,
        responses=_TAKEN,
        openapi_extra={
            **SCORE,
            **request_body(NewMessage),
            **leading_to(*_AFTER, "explanation", id=_THIS, message="$response.body#/message"),
        },
    )
    async def post_message(request: Request, id: Id) -> Response:
        """Take one message and score it in its context. The same id with the same body gets the same answer."""
        new = await read_model(request, NewMessage)
        return _said(await live.conversations.post(id, new, deadline_of(request)))

    return router


def _reading(live: Live, scoring: ModelScoring) -> APIRouter:
    router = APIRouter(route_class=ScopedRoute)

    @router.get("/v1/conversations/{id}", response_model=Trajectory, responses=failing(404, 422), openapi_extra=READ)
    async def conversation(id: Id) -> Response:
        """Everything that was said, what is said of it, and what people did with it."""
        return _json(trajectory(*await live.read(id)))

    @router.get(
        "/v1/conversations/{id}/messages/{message}/explanation",
        responses=failing(400, 404, 422, 504),
        openapi_extra=READ,
    )
    async def explanation(request: Request, id: Id, message: Id) -> Explanation:
        """Which words of a customer's message moved its scores, and which rules fired."""
        record, _ = await live.read(id)
        index = next((index for index, one in enumerate(record.messages) if one.id == message), None)
        if index is None or record.messages[index].role != "customer":
            raise Failure(404, f"there is no customer message {message}")
        return await scoring.explain(job_of(record.state, record.messages, index), deadline_of(request))

    @router.delete("/v1/conversations/{id}", status_code=204, responses=failing(404, 422), openapi_extra=ADMIN)
    async def erase_conversation(request: Request, id: Id) -> Response:
        """Erase the conversation everywhere. The audit log keeps that it was erased."""
        await live.handling.erase(id, actor_of(request))
        return Response(status_code=204)

    return router


def _handling(live: Live) -> APIRouter:
    router = APIRouter(route_class=ScopedRoute)
    may_fail = failing(*SENT, 404, 409)

    @router.post("/v1/conversations/{id}/claim", responses=may_fail, openapi_extra={**SCORE, **request_body(Claim)})
    async def claim(request: Request, id: Id) -> Assignment:
        """An agent takes the conversation."""
        wanted = await read_model(request, Claim)
        return assignment(await live.handling.claim(id, wanted.agent, actor_of(request)))

    @router.post(
        "/v1/conversations/{id}/assign",
        responses=may_fail,
        openapi_extra={**SCORE, **request_body(Assign, required=False)},
    )
    async def assign(request: Request, id: Id) -> Assignment:
        """The agent who fits best gets the conversation, or the one named, if they fit."""
        wanted = await read_model(request, Assign, optional=True)
        return assignment(await live.handling.assign(id, actor_of(request), wanted.agent))

    @router.post("/v1/conversations/{id}/release", responses=failing(404, 409, 422), openapi_extra=SCORE)
    async def release(request: Request, id: Id) -> Summary:
        """The agent gives the conversation back to the queue."""
        return Summary(**summary(await live.handling.release(id, actor_of(request))))

    @router.post(
        "/v1/conversations/{id}/resolve",
        responses=may_fail,
        openapi_extra={**SCORE, **request_body(Resolve, required=False)},
    )
    async def resolve(request: Request, id: Id) -> Summary:
        """The matter is settled; if the customer writes again, the conversation opens again."""
        wanted = await read_model(request, Resolve, optional=True)
        return Summary(**summary(await live.handling.resolve(id, wanted.outcome, actor_of(request))))

    return router


def _said(said: Said) -> Response:
    answer = said.message.answer or {}
    if said.replayed:
        return Response(orjson.dumps(answer), 200, {"idempotent-replay": "true"}, "application/json")
    return Response(orjson.dumps({**answer, "conversation": summary(said.state)}), 201, media_type="application/json")


def trajectory(record: Record, history: Sequence[Entry]) -> dict[str, Any]:
    """A conversation as it is shown."""
    return {
        "conversation": summary(record.state),
        "turns": [
            {
                "id": message.id,
                "role": message.role,
                "text": message.text,
                "at": message.at,
                "answer": _judged(message.standing),
                "revised": message.revised is not None,
            }
            for message in record.messages
        ],
        "history": [{"at": one.at, "actor": one.actor, "action": one.action, "detail": one.detail} for one in history],
    }


def _judged(answer: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was said of a message, without the conversation as it was then."""
    return answer and {name: value for name, value in answer.items() if name in Answer.model_fields}


def assignment(given: Assigned) -> Assignment:
    """What is answered when a conversation is given to an agent."""
    return Assignment(conversation=Summary(**summary(given.state)), why=list(given.why))


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_UTC_Z), media_type="application/json")
