"""POST /v1/score: one conversation, or {"conversations": [...]}. Nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, get_args

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from pipeline.conversation import (
    MAX_ID,
    MAX_TEXT,
    Channel,
    Conversation,
    Role,
    RowInvalid,
    id_of,
    parse_row,
    writable,
)
from serving.answers import Answer
from serving.api.access import SCORE, QuickRoute
from serving.api.body import as_json, decode, read_body
from serving.api.failures import KEYED, SENT, Failure, failing
from serving.api.requests import deadline_of
from serving.config import LimitsConfig
from serving.examples import ANSWER, REQUESTS
from serving.explain import Explanation
from serving.scorer import Job, last_turn
from serving.scorer import every_turn as all_turns
from serving.scoring import ModelScoring

JobsOf = Callable[[Conversation], list[Job]]


class RowProblem(BaseModel):
    """The answer in the place of a conversation that could not be read; the others are still answered."""

    id: str | None
    index: int
    error: str


class Results(BaseModel):
    """Answers to many conversations, in their order."""

    results: list[Answer | RowProblem]


class Turns(BaseModel):
    """Answers to each customer turn of one conversation."""

    results: list[Answer]


class Explained(Answer):
    """An answer with what moved it, where `explain` asks for that."""

    explanation: Explanation


def score_routes(scoring: ModelScoring, limits: LimitsConfig) -> APIRouter:
    """Scoring without a store."""
    router = APIRouter(route_class=QuickRoute, tags=["score"], responses=failing(*KEYED))

    @router.post(
        "/v1/score",
        response_model=Answer | Turns | Results | Explained,
        response_description="an answer, or results in the order of the request",
        responses={200: {"content": {"application/json": {"example": ANSWER}}}, **failing(*SENT, 504)},
        openapi_extra={
            **SCORE,
            "requestBody": {"required": True, "content": {"application/json": _request_schema()}},
        },
    )
    async def score(request: Request, every_turn: bool = False, explain: bool = False) -> Response:
        """Score a conversation's last customer turn, or each with `every_turn`.

        A conversation is `{"id", "text"}` or `{"id", "channel", "turns": [{"role", "text"}]}`; many are sent as
        `{"conversations": [...]}`, where one that cannot be read gets `{"id", "index", "error"}` in its place. With
        `explain`, for one conversation, the answer says which words moved it and which rules fired.
        """
        body, deadline = decode(await read_body(request), limits.max_depth), deadline_of(request)
        if explain:
            if every_turn or _is_many(body):
                raise Failure(422, "only the last turn of one conversation is explained", "explain")
            return await _explained(scoring, last_turn(_parse_one(body))[0], deadline)
        jobs_of = all_turns if every_turn else last_turn
        if _is_many(body):
            rows = _rows(body, limits.max_conversations)
            return as_json(Results(results=await _score_many(scoring, rows, jobs_of, deadline)))
        answers = await scoring.score(jobs_of(_parse_one(body)), deadline)
        return as_json(Turns(results=answers) if every_turn else answers[0])

    return router


async def _explained(scoring: ModelScoring, job: Job, deadline: float | None) -> Response:
    answer = (await scoring.score([job], deadline))[0]
    explanation = await scoring.explain(job, deadline)
    return as_json(Explained(**dict(answer), explanation=explanation))


def _is_many(body: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(body, dict) and "conversations" in body


def _rows(body: dict[str, Any], most: int) -> list[Conversation | RowProblem]:
    rows = body["conversations"]
    unknown = sorted(set(body) - {"conversations"})
    if unknown:
        raise Failure(422, "not a field of a request with conversations", writable(unknown[0]))
    if not isinstance(rows, list) or not rows:
        raise Failure(422, "must be an array with at least one conversation", "conversations")
    if len(rows) > most:
        raise Failure(413, f"at most {most} conversations in one request", "conversations")
    return [_parse(row, index) for index, row in enumerate(rows)]


async def _score_many(
    scoring: ModelScoring, rows: Sequence[Conversation | RowProblem], jobs_of: JobsOf, deadline: float | None
) -> list[Answer | RowProblem]:
    jobs: list[list[Job]] = [jobs_of(row) if isinstance(row, Conversation) else [] for row in rows]
    answers = iter(await scoring.score([job for some in jobs for job in some], deadline))
    results: list[Answer | RowProblem] = []
    for row, some in zip(rows, jobs, strict=True):
        results += [row] if isinstance(row, RowProblem) else [next(answers) for _ in some]
    return results


def _parse_one(body: object) -> Conversation:
    try:
        return parse_row(body)
    except RowInvalid as error:
        raise Failure(422, str(error), error.field) from None


def _parse(row: object, index: int) -> Conversation | RowProblem:
    try:
        return parse_row(row)
    except RowInvalid as error:
        return RowProblem(id=id_of(row), index=index, error=str(error))


def _request_schema() -> dict[str, Any]:
    conversation = _conversation_schema()
    row = {"description": "one that cannot be read is answered with why, in its place"}
    many = {
        "type": "object",
        "required": ["conversations"],
        "additionalProperties": False,
        "properties": {"conversations": {"type": "array", "items": {"anyOf": [conversation, row]}, "minItems": 1}},
    }
    return {"schema": {"oneOf": [conversation, many]}, "examples": REQUESTS}


def _conversation_schema() -> dict[str, Any]:
    identifier, text = {"type": "string", "maxLength": MAX_ID}, {"type": "string", "maxLength": MAX_TEXT}
    turn = {
        "type": "object",
        "required": ["role", "text"],
        "properties": {
            "role": {"enum": list(get_args(Role))},
            "text": text,
            "at": {"type": "string", "format": "date-time"},
            "id": identifier,
        },
    }
    meta = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
    return {
        "type": "object",
        "required": ["id"],
        "additionalProperties": False,
        "oneOf": [{"required": ["text"]}, {"required": ["turns"]}],
        "properties": {
            "id": {**identifier, "minLength": 1},
            "text": {**text, "description": "one customer message, instead of turns"},
            "channel": {"enum": list(get_args(Channel)), "default": "chat"},
            "language": {"type": "string", "maxLength": 20},
            "turns": {"type": "array", "items": turn, "minItems": 1},
            "meta": {**meta, "description": "waiting_minutes raises priority"},
        },
    }
