"""A service behind its own server on a loopback port, spoken to byte by byte; its log kept to be looked at."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from io import StringIO

import uvicorn

from serving.api import create_app
from serving.config import ServeConfig
from serving.operation.logs import JsonFormatter
from serving.operation.server import Server, protocol
from serving.service import open_service

PATIENCE = 20.0  # seconds


@dataclass(frozen=True)
class Reply:
    """What came back, and whether the connection was ended after it."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Wire:
    """A port, and what was logged."""

    port: int
    log: StringIO

    def send(self, *pieces: bytes, pause: float = 0.0, half: bool = False, method: str = "") -> Reply | None:
        """The reply to raw bytes, sent in pieces; None where the connection ends without one.

        `half` closes our side after them, as a client does that goes away.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
                if half:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before it was all sent; the reply is there to be read
            return _reply(connection, method)

    def get(self, path: str, *headers: str, method: str = "GET", version: str = "1.1") -> Reply | None:
        """The reply to a request without a body; `path` is sent as it is."""
        lines = [f"{method} {path} HTTP/{version}", "host: 127.0.0.1", *headers, "connection: close", "", ""]
        return self.send("\r\n".join(lines).encode("latin-1"), method=method)

    def post(self, path: str, body: bytes, *headers: str) -> Reply | None:
        """The reply to a request with a body, whose length is told unless `headers` tell it."""
        told = any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers)
        lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "connection: close", *headers]
        lines += [] if told else [f"content-length: {len(body)}"]
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def alive(self) -> bool:
        """Whether it still answers."""
        reply = self.get("/healthz")
        return reply is not None and reply.status == 200


def _reply(connection: socket.socket, method: str) -> Reply | None:
    response = HTTPResponse(connection, method=method or None)
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, response.read())
    except (ConnectionError, OSError, ValueError):
        return None
    finally:
        response.close()


@contextmanager
def listening(config: ServeConfig) -> Iterator[Wire]:
    """A service that listens while the block runs."""
    service = open_service(config)
    settings = uvicorn.Config(
        create_app(service),
        host="127.0.0.1",
        port=0,
        http=protocol(config.server, service.drain),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = Server(settings, config.server, service.drain)
    thread = threading.Thread(target=server.run, daemon=True)
    with _logged() as log:
        thread.start()
        until = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield Wire(server.servers[0].sockets[0].getsockname()[1], log)
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def _logged() -> Iterator[StringIO]:
    log = StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in ("simmer", "uvicorn", "asyncio", "sqlalchemy")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    for logger in loggers[:2]:
        logger.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
