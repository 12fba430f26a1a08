"""What one request may hold and how long it may take, as ASGI middleware. Each refuses before the application hears.

    HeaderLimit       how many headers, how large, and how long the target: 431, 414
    ConcurrencyLimit  how many requests at a time: 429
    BodyDeadline      how long a client may take to send a body: 408
    BodyLimit         how large a body, and none that is compressed: 413, 415
    LocalOnly         while keys are off: no page of another site may call through a browser: 403

A refusal has the API's shape, {"error": {"code", "message", "field", "request_id"}}, and its connection is closed where
the body was not read to its end. Time to send the headers is the server's to limit, not an application's.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

import numpy as np
from pydantic import Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.config import Config
from serving.security.keys import loopback_only

_PLAIN = re.compile(r"[!-~]{1,64}")  # a request id that is safe in a header and in a log
_OF_PROXIES = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})
_DISCONNECT: Message = {"type": "http.disconnect"}


class HeaderConfig(Config):
    """How much may stand before the body."""

    max_headers: int = Field(default=64, ge=1)
    max_bytes: int = Field(default=16_384, ge=1, description="names and values of all headers")
    max_target_bytes: int = Field(default=4_096, ge=1, description="path and query")


class BodyConfig(Config):
    """How large a body may be."""

    max_bytes: int = Field(ge=1)


class DeadlineConfig(Config):
    """How long a body may take."""

    seconds: float = Field(
        default=15, gt=0, description="spent waiting for the client, from the first byte to the last"
    )


class ConcurrencyConfig(Config):
    """How many requests are served at a time."""

    max_requests: int = Field(ge=1)
    exempt: frozenset[str] = Field(default=frozenset(), description="paths that are always let in")


async def refuse(
    scope: Scope, send: Send, status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Answer a request with a failure of the API's shape."""
    number = request_id(scope)
    problem = {"code": code, "message": message, "field": None, "request_id": number}
    body = json.dumps({"error": problem}).encode()
    given = (
        *headers,
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("x-request-id", number),
    )
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def request_id(scope: Scope) -> str:
    """The number of a request: the one it has, else the caller's if it is plain, else a new one, kept in the state."""
    state: dict[str, str] = scope.setdefault("state", {})
    if "request_id" not in state:
        given = _PLAIN.fullmatch(_header(scope, b"x-request-id"))
        state["request_id"] = given[0] if given else uuid.uuid4().hex
    return state["request_id"]


class HeaderLimit:
    """Refuses requests with too many or too large headers, or too long a target."""

    def __init__(self, app: ASGIApp, config: HeaderConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self._config.max_target_bytes:
            message = f"path and query are longer than {self._config.max_target_bytes} bytes"
            await refuse(scope, send, 414, "target_too_long", message, _closing(scope))
        elif self._too_much(scope["headers"]):
            message = f"more than {self._config.max_headers} headers or {self._config.max_bytes} bytes of them"
            await refuse(scope, send, 431, "headers_too_large", message, _closing(scope))
        else:
            await self._app(scope, receive, send)

    def _too_much(self, headers: Collection[tuple[bytes, bytes]]) -> bool:
        size = sum(len(name) + len(value) for name, value in headers)
        return len(headers) > self._config.max_headers or size > self._config.max_bytes


class ConcurrencyLimit:
    """Serves so many requests at a time and tells the others to come back."""

    def __init__(self, app: ASGIApp, config: ConcurrencyConfig) -> None:
        self._app, self._config, self._running = app, config, 0

    @property
    def running(self) -> int:
        """How many requests are being served."""
        return self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._config.exempt:
            await self._app(scope, receive, send)
            return
        if self._running >= self._config.max_requests:
            headers = [("retry-after", "1"), *_closing(scope)]
            await refuse(scope, send, 429, "overloaded", "too many requests at the moment", headers)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


class BodyDeadline:
    """Gives up on a client that takes too long to send its body."""

    def __init__(self, app: ASGIApp, config: DeadlineConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Guarded(scope, receive, send)
        left, whole, now = self._config.seconds, False, asyncio.get_running_loop().time

        async def in_time() -> Message:
            nonlocal left, whole
            if whole or request.started or request.refused:
                return await request.receive()
            began = now()
            try:
                async with asyncio.timeout(left):
                    message = await request.receive()
            except TimeoutError:
                text = f"the body did not arrive within {self._config.seconds:g} s"
                return await request.refuse(408, "timeout", text)
            left = max(0.0, left - (now() - began))
            whole = not message.get("more_body", False)
            return message

        await request.run(self._app, in_time)


class BodyLimit:
    """Refuses a body that is too large, by what it says and by what comes, and one that is compressed."""

    def __init__(self, app: ASGIApp, config: BodyConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif any(name == b"content-encoding" and not _plain(value) for name, value in scope["headers"]):
            message = "a compressed body is not taken; send it as it is"
            await refuse(scope, send, 415, "unsupported_encoding", message, _closing(scope))
        elif self._announced(scope) > self._config.max_bytes:
            await refuse(scope, send, 413, "too_large", self._message, _closing(scope))
        else:
            await self._counted(scope, receive, send)

    @property
    def _message(self) -> str:
        return f"the body is larger than {self._config.max_bytes} bytes"

    def _announced(self, scope: Scope) -> int:
        length = _header(scope, b"content-length")
        return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0  # what comes is counted anyway

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Guarded(scope, receive, send)
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await request.receive()
            size += len(message.get("body", b""))
            return await request.refuse(413, "too_large", self._message) if size > self._config.max_bytes else message

        await request.run(self._app, counted)


class LocalOnly:
    """Lets in what is addressed to this machine and comes from no page of another site.

    A browser on this machine would otherwise let any page it shows call an API that asks for no key, and a proxy on it
    everybody. One that says nothing of being one cannot be told from this machine: put none before a service without
    keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._local(scope):
            await refuse(scope, send, 403, "forbidden", "without keys only this machine may call", _closing(scope))
        else:
            await self._app(scope, receive, send)

    def _local(self, scope: Scope) -> bool:
        origin = _header(scope, b"origin")
        if any(name in _OF_PROXIES for name, _ in scope["headers"]):
            return False
        return _names_loopback("//" + _header(scope, b"host")) and (not origin or _names_loopback(origin))


class TooDeep(ValueError):
    """JSON that is nested more deeply than allowed."""


_QUOTE = 2
_STEPS = bytes.maketrans(b'[{]}"', bytes((1, 1, 255, 255, _QUOTE)))  # 255 is -1 as a signed byte
_OTHERS = bytes(c for c in range(256) if c not in b'[{]}"')


def check_depth(body: bytes, limit: int) -> None:
    """Raises TooDeep where arrays and objects stand within each other more than `limit` deep.

    Brackets in strings do not count. The body need not be JSON, but what stands behind the first place at which a
    parser would stop may be deeper, or be taken for deeper, than it is. 8 MB take about a tenth of a second.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of quotes are those around strings
    marks = np.frombuffer(body.translate(_STEPS, _OTHERS), np.int8)
    quotes = marks == _QUOTE
    steps = np.where(np.logical_xor.accumulate(quotes) | quotes, 0, marks)
    if steps.cumsum(dtype=np.int32).max(initial=0) > limit:
        raise TooDeep(f"nested more than {limit} deep")


class _Guarded:
    """A request that can be refused while the application reads it: from then on the application is not heard."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.started = self.refused = False

    async def receive(self) -> Message:
        """What the client sends; nothing more once refused."""
        return _DISCONNECT if self.refused else await self._receive()

    async def refuse(self, status: int, code: str, message: str) -> Message:
        """Answer in the application's place, unless it has begun to; what the application is told instead."""
        self.refused = True
        if not self.started:
            await refuse(self._scope, self._send, status, code, message, _closing(self._scope))
        return _DISCONNECT

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        """Run the application; how it ends does not matter once refused."""
        try:
            await app(self._scope, receive, self._pass)
        except Exception:
            if not self.refused:
                raise

    async def _pass(self, message: Message) -> None:
        if not self.refused:
            self.started = True
            await self._send(message)


def _header(scope: Scope, wanted: bytes) -> str:
    found: list[bytes] = [value for name, value in scope["headers"] if name == wanted]
    return found[0].decode("latin-1") if found else ""


def _plain(encoding: bytes) -> bool:
    return encoding.strip().lower() in (b"", b"identity")


def _closing(scope: Scope) -> list[tuple[str, str]]:
    """The header that ends the connection, where the protocol has one: what is left of the body is not read."""
    return [("connection", "close")] if scope.get("http_version", "1.1").startswith("1") else []


def _names_loopback(url: str) -> bool:
    try:
        return loopback_only(urlsplit(url).hostname or "")
    except ValueError:
        return False
