"""What every handler asks of a request: its body as a model, how long its caller waits, who is asking."""

from __future__ import annotations

import json
import re
import time
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from pipeline.conversation import describe
from serving.api.body import decode, read_body
from serving.api.failures import Failure
from serving.security.keys import LOOPBACK, Principal
from serving.security.limits import TooDeep, check_depth

_HALF = re.compile("[\ud800-\udfff]")
MOST_DEPTH = 16  # of nested JSON, in what has no deep parts

M = TypeVar("M", bound=BaseModel)


async def read_model(request: Request, model: type[M], optional: bool = False) -> M:
    """The body as a model; without one, where it is `optional`, the model's defaults. Raises Failure 400 or 422."""
    body = await read_body(request)
    return model() if optional and not body else parse(model, body)


def parse(model: type[M], body: bytes) -> M:
    """A body as a model, its values of the kinds asked for: `true` is no number, nor is "5".

    Raises Failure 400 where it is no JSON, 422 naming the field.
    """
    try:
        check_depth(body, MOST_DEPTH)
        return model.model_validate_json(body, strict=True)
    except TooDeep as error:
        raise Failure(400, str(error)) from None
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise _invalid(error) from None
    # what only a lenient reader takes: half an emoji, cut off by a client, is marked as lost
    spelt = _HALF.sub("\ufffd", json.dumps(decode(body, MOST_DEPTH), ensure_ascii=False))
    try:
        return model.model_validate_json(spelt, strict=True)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> Failure:
    first = error.errors(include_url=False, include_input=False)[0]
    return Failure(
        422, describe(error).replace("Value error, ", ""), ".".join(str(part) for part in first["loc"]) or None
    )


def deadline_of(request: Request) -> float | None:
    """When the caller stops waiting, as a reading of `time.monotonic`, from `x-deadline-ms`. Raises Failure 400."""
    given = request.headers.get("x-deadline-ms")
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise Failure(400, "x-deadline-ms: must be a whole number of milliseconds", "x-deadline-ms")
    return time.monotonic() + int(given) / 1000


def actor_of(request: Request) -> str:
    """Who is asking, as the audit log names them."""
    principal: Principal = request.state.principal
    return principal.name if principal is LOOPBACK else f"key {principal.key_id} ({principal.name})"
