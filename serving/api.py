"""The HTTP API, version 1.

    POST /v1/score    one conversation, or {"conversations": [...]}
    GET  /v1/model    which model speaks, and how good it was on held-back conversations
    GET  /healthz     the process answers
    GET  /readyz      the model answers: golden inputs are scored and compared

Every failure has one shape: {"error": {"code", "message", "field", "request_id"}}.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from pipeline.bundle import BundleRefused
from pipeline.conversation import (
    MAX_ID,
    MAX_TEXT,
    Channel,
    Conversation,
    Role,
    RowInvalid,
    decode_json,
    id_of,
    parse_row,
    writable,
)
from serving.answers import Answer
from serving.config import ServeConfig
from serving.examples import ANSWER, REQUESTS
from serving.scorer import Job, Scorer, every_turn, last_turn

logger = logging.getLogger("simmer.api")

CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    422: "invalid",
    503: "not_ready",
}


class Problem(BaseModel):
    """What went wrong, where in the request, and the number to quote when asking about it."""

    code: str
    message: str
    field: str | None = None
    request_id: str


class ErrorEnvelope(BaseModel):
    """The one shape of every failure."""

    error: Problem


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


class ModelAnswer(BaseModel):
    """Which model speaks and what was measured of it."""

    version: str | None
    bundle: str
    profile: str
    encoder: str
    languages: list[str]
    labels: dict[str, list[str]] = Field(description="every head's values, in output order")
    metrics: dict[str, Any] = Field(description="on held-back conversations, with 95 % intervals")
    slices: dict[str, Any]
    git_revision: str
    data_hash: str
    mlflow_run_id: str


class Failure(Exception):
    """A request that cannot be served, with its HTTP status."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field


_PLAIN = re.compile(r"[!-~]{1,64}")  # a request id that is safe in a header and in a log

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorEnvelope, "description": name.replace("_", " ")} for status, name in CODES.items()
}


def create_app(scorer: Scorer, config: ServeConfig) -> FastAPI:
    """The application over one scorer."""
    app = FastAPI(
        title="Simmer",
        version="1",
        summary="Sentiment, frustration, urgency and priority of support conversations",
        responses={k: v for k, v in ERRORS.items() if k in (400, 413, 422)},
    )
    _add_failures(app)

    @app.middleware("http")
    async def number_requests(request: Request, call_next: Any) -> Response:
        given = _PLAIN.fullmatch(request.headers.get("x-request-id", "")[:64])
        request.state.request_id = given[0] if given else uuid.uuid4().hex
        response: Response = await call_next(request)
        response.headers["x-request-id"] = request.state.request_id
        return response

    @app.post(
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
        body = _decode(await _read_body(request, config.max_body_bytes))
        return await run_in_threadpool(_score, scorer, config, body, every_turn)

    @app.get("/v1/model")
    def model() -> ModelAnswer:
        """Which model speaks, and how good it was on conversations held back from training."""
        card = scorer.bundle.card
        return ModelAnswer(
            version=scorer.bundle.version,
            bundle=scorer.bundle.digest,
            profile=card.profile,
            encoder=card.encoder,
            languages=list(card.languages),
            labels={name: list(head.values) for name, head in card.labels.heads.items()},
            metrics=card.metrics["test"],
            slices=card.slices,
            git_revision=card.git_revision,
            data_hash=card.data_hash,
            mlflow_run_id=card.mlflow_run_id,
        )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: ERRORS[503]})
    def readyz() -> dict[str, str]:
        """The model is able: its golden inputs were scored just now and came out as they did at export."""
        try:
            scorer.ready()
        except BundleRefused as error:
            raise Failure(503, str(error)) from None
        return {"status": "ready"}

    return app


def _score(scorer: Scorer, config: ServeConfig, body: object, every: bool) -> Response:
    jobs_of = every_turn if every else last_turn
    if not (isinstance(body, dict) and "conversations" in body):
        answers = scorer.score(jobs_of(_parse_one(body)))
        return _json(Turns(results=answers) if every else answers[0])
    rows = body["conversations"]
    unknown = sorted(set(body) - {"conversations"})
    if unknown:
        raise Failure(422, "not a field of a request with conversations", writable(unknown[0]))
    if not isinstance(rows, list) or not rows:
        raise Failure(422, "must be an array with at least one conversation", "conversations")
    if len(rows) > config.max_conversations:
        raise Failure(413, f"at most {config.max_conversations} conversations in one request", "conversations")
    return _json(Results(results=_score_many(scorer, [_parse(row, index) for index, row in enumerate(rows)], jobs_of)))


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


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise Failure(413, f"the body is larger than {limit} bytes")
    except ClientDisconnect:
        raise Failure(400, "the connection ended before the body did") from None
    return bytes(body)


def _decode(body: bytes) -> object:
    try:
        return decode_json(body)
    except RowInvalid as error:
        raise Failure(400, str(error)) from None


def _json(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


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


def _add_failures(app: FastAPI) -> None:
    def envelope(
        request: Request,
        status: int,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> JSONResponse:
        number = getattr(request.state, "request_id", "")
        problem = Problem(code=CODES.get(status, "error"), message=message, field=field, request_id=number)
        return JSONResponse(
            ErrorEnvelope(error=problem).model_dump(), status, {**(headers or {}), "x-request-id": number}
        )

    @app.exception_handler(Failure)
    async def failed(request: Request, error: Failure) -> JSONResponse:
        return envelope(request, error.status, error.message, error.field)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return envelope(
            request, error.status_code, str(error.detail), headers=error.headers
        )  # 405 says what is allowed

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return envelope(request, 422, str(first["msg"]), ".".join(str(part) for part in first["loc"]))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        logger.exception("request %s failed", getattr(request.state, "request_id", ""))
        return envelope(request, 500, "an error of ours; quote the request id when reporting it")
