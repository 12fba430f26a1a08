"""What tests of events need around them: a store, a clock to move, and targets on loopback that misbehave."""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Connection
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.events import event_routes
from serving.api.failures import add_failures
from serving.events.config import WebhookConfig
from serving.events.outgoing import Outgoing
from serving.security.keys import LOOPBACK
from serving.store import outbox
from serving.store.database import Database, open_database
from serving.store.reader import Reader
from serving.store.writer import Writer

SECRETS = {name: f"whsec_{base64.b64encode(name.encode() * 4).decode()}" for name in ("SIMMER_NEW", "SIMMER_OLD")}
START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
PATIENCE = 60.0  # of tests, on a machine that others use too


@dataclass(frozen=True)
class Store:
    """Everything through which a store is used."""

    url: str
    database: Database
    writer: Writer
    reader: Reader

    def close(self) -> None:
        self.writer.close()
        self.reader.close()
        self.database.close()

    async def append(
        self, count: int = 1, kind: str = "flagged", conversation: str = "c", hooks: Sequence[str] = ()
    ) -> None:
        """Commit events, one transaction for all."""

        def write(connection: Connection) -> None:
            for number in range(count):
                outbox.append(connection, kind, conversation, START, {"score": number}, hooks)

        await self.writer.run(write)


def open_store(url: str) -> Store:
    database = open_database(url)
    writer = Writer(database)
    writer.start()
    return Store(url, database, writer, Reader(database))


@dataclass
class Clock:
    """A time that a test moves."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def status(number: int, *headers: str, body: bytes = b"ok") -> Answer:
    """An answer with a status."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {number} X", f"content-length: {len(body)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return answer


async def hang(writer: asyncio.StreamWriter) -> None:
    """No answer, ever."""
    await asyncio.sleep(3600)


async def drip(writer: asyncio.StreamWriter) -> None:
    """A header line every 50 ms, without end: never silent for long, never done."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: y\r\n")
        await asyncio.sleep(0.05)


async def reset(writer: asyncio.StreamWriter) -> None:
    """The connection is torn down."""
    opened: socket.socket = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def garbage(writer: asyncio.StreamWriter) -> None:
    """Something that is not HTTP."""
    writer.write(b"\x00\xff220 mail ready\r\n\r\n")


@dataclass
class Flood:
    """200, and a body without end; counts what was taken of it."""

    sent: int = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            self.sent += 65536


@dataclass
class Target:
    """A receiver of webhooks that gives its answers in turn, the last one again and again."""

    answers: Sequence[Answer] = (status(200),)
    got: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=hidden"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers["content-length"]))
                answer = self.answers[min(len(self.got), len(self.answers) - 1)]
                self.got.append(Received(headers, body))
                await answer(writer)
        writer.close()


@asynccontextmanager
async def listening(*answers: Answer) -> AsyncIterator[Target]:
    """A target on a port of loopback."""
    target = Target(answers or (status(200),))
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await target.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        await asyncio.sleep(0.02)  # who was accepted just now begins to be served, and can be hung up on
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def webhook(url: str, name: str = "hook", **changes: Any) -> WebhookConfig:
    """A webhook that loses patience quickly."""
    quick: dict[str, Any] = {
        "name": name,
        "url": url,
        "secrets": [{"env": "SIMMER_NEW"}],
        "allow_private": True,
        "timeout_s": 0.5,
        "first_retry_s": 0.001,
        "longest_retry_s": 0.002,
    }
    return WebhookConfig.model_validate(quick | changes)


class Anyone:
    """Lets every request in, as a service does that listens on loopback without keys."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["principal"] = LOOPBACK
        await self.app(scope, receive, send)


def api(outgoing: Outgoing) -> FastAPI:
    """The routes of events alone."""
    app = FastAPI()
    add_failures(app)
    app.include_router(event_routes(outgoing))
    app.add_middleware(Anyone)
    return app


async def until(true: Callable[[], bool | Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Wait until something is so. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)
