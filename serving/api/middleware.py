"""What happens to every request, as plain ASGI: cheaper than Starlette's middleware class, a task for each."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.security.limits import request_id


class RequestNumber:
    """Gives every request a number to quote, the caller's own where it is safe, and puts it on the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = request_id(scope)

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = number
            await send(message)

        await self.app(scope, receive, numbered)
