"""POST /v1/score: one conversation, or {"conversations": [...]}. Nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
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
from serving.api.body import as_json, decode, read_body
from serving.api.failures import Failure
from serving.config import ServeConfig
from serving.examples import ANSWER, REQUESTS
from serving.scorer import Job, Scorer, every_turn, last_turn


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


def score_routes(scorer: Scorer, config: ServeConfig) -> APIRouter:
    """Scoring without a store."""
    router = APIRouter()

    @router.post(
        "/v1/score",
        response_model=Answer | Turns | Results,
        response_description="an answer, or results in the order of the request",
        responses={200: {"content": {"application/json": {"example": ANSWER}}}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": _request_schema()}}},
    )
    async def score(request: Request, every_turn: bool = False) -> Response:
        """Score a conversation's last customer turn, or each with `every_turn`.

        A conversation is `{"id", "text"}` or `{"id", "channel", "turns": [{"role", "text"}]}`; many are sent as
        `{"conversations": [...]}`, where one that cannot be read gets `{"id", "index", "error"}` in its place.
        """
        body = decode(await read_body(request, config.max_body_bytes))
        return await run_in_threadpool(_score, scorer, config, body, every_turn)

    return router


def _score(scorer: Scorer, config: ServeConfig, body: object, every: bool) -> Response:
    jobs_of = every_turn if every else last_turn
    if not (isinstance(body, dict) and "conversations" in body):
        answers = scorer.score(jobs_of(_parse_one(body)))
        return as_json(Turns(results=answers) if every else answers[0])
    rows = body["conversations"]
    unknown = sorted(set(body) - {"conversations"})
    if unknown:
        raise Failure(422, "not a field of a request with conversations", writable(unknown[0]))
    if not isinstance(rows, list) or not rows:
        raise Failure(422, "must be an array with at least one conversation", "conversations")
    if len(rows) > config.max_conversations:
        raise Failure(413, f"at most {config.max_conversations} conversations in one request", "conversations")
    return as_json(
        Results(results=_score_many(scorer, [_parse(row, index) for index, row in enumerate(rows)], jobs_of))
    )


def _score_many(scorer: Scorer, rows: Sequence[Conversation | RowProblem], jobs_of: Any) -> list[Answer | RowProblem]:
    jobs: list[list[Job]] = [jobs_of(row) if isinstance(row, Conversation) else [] for row in rows]
    answers = iter(scorer.score([job for some in jobs for job in some]))
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
    turn = {
        "type": "object",
        "required": ["role", "text"],
        "properties": {
            "role": {"enum": list(get_args(Role))},
            "text": {"type": "string", "maxLength": MAX_TEXT},
            "at": {"type": "string", "format": "date-time"},
            "id": {"type": "string"},
        },
    }
    conversation = {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
            "text": {"type": "string", "description": "one customer message, instead of turns"},
            "channel": {"enum": list(get_args(Channel)), "default": "chat"},
            "language": {"type": "string"},
            "turns": {"type": "array", "items": turn, "minItems": 1},
            "meta": {"type": "object", "description": "waiting_minutes raises priority"},
        },
    }
    many = {
        "type": "object",
        "required": ["conversations"],
        "properties": {"conversations": {"type": "array", "items": conversation}},
    }
    return {"schema": {"oneOf": [conversation, many]}, "examples": REQUESTS}
