"""Every failure has one shape: {"error": {"code", "message", "field", "request_id"}}."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from serving.batcher import Closed, DeadlinePassed, EngineFailed, Overloaded
from serving.codes import CODES
from serving.live.conversations import Contradiction, Full, NotThere
from serving.live.handling import NobodyFits, UnknownAgent
from serving.live.lifecycle import NotNow
from serving.store.conversations import Stale
from serving.store.faults import StoreBusy, StoreUnavailable

logger = logging.getLogger("simmer.api")


class Problem(BaseModel):
    """What went wrong, where in the request, and the number to quote when asking about it."""

    code: str
    message: str
    field: str | None = None
    request_id: str


class ErrorEnvelope(BaseModel):
    """The one shape of every failure."""

    error: Problem


class Failure(Exception):
    """A request that cannot be served, with its HTTP status."""

    def __init__(self, status: int, message: str, field: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field
        self.headers = {} if retry_after is None else {"retry-after": str(max(1, math.ceil(retry_after)))}


def failure_of(error: Exception) -> Failure | None:
    """What a caller is told of an error that is expected to happen; None for an error of ours."""
    match error:
        case Failure():
            return error
        case NotThere() | UnknownAgent():
            what = "conversation" if isinstance(error, NotThere) else "agent"
            return Failure(404, f"there is no {what} {error}")
        case NobodyFits():
            ways = ", ".join(f"{agent}: {why}" for agent, why in sorted(error.rejected.items())[:10])
            return Failure(409, f"{error}" + (f" ({ways})" if ways else ""))
        case Contradiction() | NotNow() | Full():
            return Failure(409, str(error))
        case Overloaded():
            return Failure(429, "more messages wait to be scored than may; try again shortly", None, error.retry_after)
        case DeadlinePassed():
            return Failure(504, "the message was not scored before its caller stopped waiting")
        case EngineFailed() | Closed():
            return Failure(503, "the model cannot answer now; nothing was acknowledged, send the same again", None, 1)
        case StoreBusy():
            return Failure(429, "more writes wait than may; try again shortly", None, 1)
        case StoreUnavailable() | Stale():
            return Failure(
                503, "the store cannot be reached now; nothing was acknowledged, send the same again", None, 1
            )
    return None


EXPECTED = (
    *(Failure, NotThere, UnknownAgent, NobodyFits, Contradiction, NotNow, Full),
    *(Overloaded, DeadlinePassed, EngineFailed, Closed, StoreUnavailable, Stale),
)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorEnvelope, "description": name.replace("_", " ")} for status, name in CODES.items()
}

ANYWHERE = (413, 414, 415, 431)  # whatever is asked for: a body, a target or headers that are too much
KEYED = (401, 403, 429, 503)  # wherever a key is asked for: without one, without its scope, too often, without a store
SENT = (400, 408, 422)  # where a body is read: no JSON, too slow, not what was asked for


def failing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of a route that may fail with these statuses."""
    return {status: ERRORS[status] for status in statuses}


def envelope(
    request: Request,
    status: int,
    message: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer that tells of a failure."""
    number = getattr(request.state, "request_id", "")
    problem = Problem(code=CODES.get(status, "error"), message=message, field=field, request_id=number)
    shown = {**(headers or {}), "x-request-id": number}
    return JSONResponse(ErrorEnvelope(error=problem).model_dump(), status, shown)


def add_failures(app: FastAPI) -> None:
    """Answer every exception in the one shape."""

    async def expected(request: Request, error: Exception) -> JSONResponse:
        failure = failure_of(error)
        assert failure is not None
        if failure.status == 503:
            number = getattr(request.state, "request_id", "")
            logger.warning("not available", extra={"request_id": number, "reason": type(error).__name__})
        return envelope(request, failure.status, failure.message, failure.field, failure.headers)

    for kind in EXPECTED:
        app.exception_handler(kind)(expected)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return envelope(
            request, error.status_code, str(error.detail), headers=error.headers
        )  # 405 says what is allowed

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return envelope(
            request, 422, str(first["msg"]).removeprefix("Value error, "), ".".join(str(part) for part in first["loc"])
        )

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        logger.exception("an error of ours", extra={"request_id": getattr(request.state, "request_id", "")})
        return envelope(request, 500, "an error of ours; quote the request id when reporting it")
