"""Reading a request's body and writing an answer's."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from pipeline.conversation import RowInvalid, decode_json
from serving.api.failures import Failure
from serving.security.limits import TooDeep, check_depth


async def read_body(request: Request) -> bytes:
    """The whole body; its size is bounded before it comes here. Raises Failure 400 where it ends too early."""
    try:
        return await request.body()
    except ClientDisconnect:
        raise Failure(400, "the connection ended before the body did") from None


def decode(body: bytes, depth: int) -> object:
    """The JSON document in a body, nested at most so deep. Raises Failure 400."""
    try:
        check_depth(body, depth)
        return decode_json(body)
    except (RowInvalid, TooDeep) as error:
        raise Failure(400, str(error)) from None


def as_json(value: BaseModel) -> Response:
    """The value as a JSON response."""
    return Response(value.model_dump_json(), media_type="application/json")
