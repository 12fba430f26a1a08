"""What happens to every request, as plain ASGI: cheaper than Starlette's middleware class, a task for each."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PLAIN = re.compile(r"[!-~]{1,64}")  # a request id that is safe in a header and in a log


class RequestNumber:
    """Gives every request a number to quote, the caller's own where it is safe, and puts it on the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = _PLAIN.fullmatch(Headers(scope=scope).get("x-request-id", "")[:64])
        number = given[0] if given else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = number

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = number
            await send(message)

        await self.app(scope, receive, numbered)
