"""Reading a request's body and writing an answer's."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from pipeline.conversation import RowInvalid, decode_json
from serving.api.failures import Failure


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises Failure 413 where it is larger than `limit` bytes, 400 where it ends too early."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise Failure(413, f"the body is larger than {limit} bytes")
    except ClientDisconnect:
        raise Failure(400, "the connection ended before the body did") from None
    return bytes(body)


def decode(body: bytes) -> object:
    """The JSON document in a body. Raises Failure 400."""
    try:
        return decode_json(body)
    except RowInvalid as error:
        raise Failure(400, str(error)) from None


def as_json(value: BaseModel) -> Response:
    """The value as a JSON response."""
    return Response(value.model_dump_json(), media_type="application/json")
