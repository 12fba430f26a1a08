"""Runs an ASGI application on uvicorn until it is told to end, and lets what is under way finish.

SIGTERM: readiness goes red and requests are still answered for `drain_delay_s`, so that load balancers notice; then
nothing new is accepted, what is under way finishes, the application shuts down, and the exit status is 0. All of that
takes `drain_delay_s + drain_timeout_s` at most; where it would take longer the process ends with exit status 1 and says
where each thread was. SIGINT is the same without the delay, and a second signal ends the process at once: what was
acknowledged is committed.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import signal
import time
from types import FrameType
from typing import Any

import uvicorn
from pydantic import Field
from starlette.types import ASGIApp
from uvicorn.config import LOGGING_CONFIG
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.config import Config
from serving.operation.drain import Drain

LATE_S = 1.0  # beyond the drain's time, before the process is ended from outside of Python


class ServerConfig(Config):
    """Limits of connections, and how long draining takes. Seconds and bytes."""

    backlog: int = Field(default=2048, gt=0, description="connections that wait to be accepted")
    keep_alive_s: int = Field(default=75, gt=0, description="an idle connection is closed after this")
    head_timeout_s: float = Field(default=10.0, gt=0, description="by then a request's head must be complete")
    max_head_bytes: int = Field(default=32_768, gt=0, description="request line and headers")
    trusted_proxies: tuple[str, ...] = Field(default=(), description="whose X-Forwarded-For is believed")
    drain_delay_s: float = Field(default=2.0, ge=0)
    drain_timeout_s: float = Field(default=15.0, gt=0)


def serve(
    app: ASGIApp,
    host: str,
    port: int,
    config: ServerConfig,
    drain: Drain,
    log_config: dict[str, Any] = LOGGING_CONFIG,
) -> None:
    """Serve until told to end. Port 0 takes a free one; the address is logged once connections are accepted.

    Raises SystemExit 3 where the application does not start or the address is taken.
    """
    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol(config, drain),
        ws="none",
        log_config=log_config,
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.trusted_proxies),
        forwarded_allow_ips=list(config.trusted_proxies),
        backlog=config.backlog,
        timeout_keep_alive=config.keep_alive_s,
    )
    gc.collect()
    gc.freeze()  # what is loaded stays; looking through it again and again would hold everybody up
    Server(settings, config, drain).run()


class Server(uvicorn.Server):
    """Uvicorn's server with a drain before its end."""

    def __init__(self, settings: uvicorn.Config, config: ServerConfig, drain: Drain) -> None:
        super().__init__(settings)
        self.limits, self.drain = config, drain
        self._accept_until: float | None = None
        self._end_by = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the process at once."""
        if self._accept_until is not None:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        delay = self.limits.drain_delay_s if sig == signal.SIGTERM else 0.0
        self._accept_until = time.monotonic() + delay
        self._end_by = self._accept_until + self.limits.drain_timeout_s
        faulthandler.dump_traceback_later(delay + self.limits.drain_timeout_s + LATE_S, exit=True)  # says what hung

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second: whether to stop accepting."""
        if self._accept_until is not None:
            self.drain.begin()
            self.should_exit = time.monotonic() >= self._accept_until
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        """Finish what is under way within three quarters of the time, then shut the application down."""
        self.drain.begin()
        left = max(0.1, self._end_by - time.monotonic()) if self._end_by else self.limits.drain_timeout_s
        self.config.timeout_graceful_shutdown = 0.75 * left  # type: ignore[assignment]  # handed to wait_for
        await super().shutdown(sockets)


class Bounded(HttpToolsProtocol):
    """Uvicorn's protocol over httptools, which also bounds a request's head in time and size.

    Its own failures have the API's shape. While draining it closes each connection after its answer.
    """

    limits: ServerConfig
    drain: Drain

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._await_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        answering = before is not None and not before.response_complete
        in_body = answering and before.more_body
        super().data_received(data)
        if self.cycle is not before:  # a head is complete
            self._head_bytes = 0
            self._forget_head()
            if self.drain.begun:
                self.cycle.keep_alive = False
        elif not in_body:
            self._head_bytes += len(data)
            if not answering:
                self._await_head()
            if self._head_bytes > self.limits.max_head_bytes:
                self._refuse(b"431 Request Header Fields Too Large", "too_large", "the headers are too large")

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request", "bad_request", msg)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._head_late)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        if self._head_bytes:
            self._refuse(b"408 Request Timeout", "timeout", "the request's head took too long")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, code: str, message: str) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # an answer is on its way, into which nothing may be written
        if self.transport.is_closing():
            return
        problem = {"code": code, "message": message, "field": None, "request_id": ""}
        body = json.dumps({"error": problem}).encode()
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()


def protocol(config: ServerConfig, drain: Drain) -> type[asyncio.Protocol]:
    """The protocol under these limits: uvicorn makes one a connection, and hands it none of ours."""
    return type("Protocol", (Bounded,), {"limits": config, "drain": drain})
