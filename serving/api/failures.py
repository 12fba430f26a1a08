"""Every failure has one shape: {"error": {"code", "message", "field", "request_id"}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

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


class Failure(Exception):
    """A request that cannot be served, with its HTTP status."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorEnvelope, "description": name.replace("_", " ")} for status, name in CODES.items()
}


def add_failures(app: FastAPI) -> None:
    """Answer every exception in the one shape."""

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
