"""A server that does nothing but keep messages through the store's writer: what the torture itself is tried on.

    python -m tests.torture.stand_in STORE_URL PORT [--careless]

Careless, it acknowledges before it commits, and the torture must find that out.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import uvicorn
from sqlalchemy import Column, Connection, MetaData, String, Table, Text, insert, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serving.store.audit import record
from serving.store.database import Database, open_database
from serving.store.faults import StoreUnavailable
from serving.store.schema import Instant
from serving.store.writer import Writer

KEPT = Table(
    "kept",
    MetaData(),
    Column("conversation", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("text", Text, nullable=False),
    Column("at", Instant, nullable=False),
)


def keep(connection: Connection, conversation: str, message: dict[str, Any]) -> str:
    """Keep a message once; when it was kept."""
    known = connection.scalar(select(KEPT.c.at).where(KEPT.c.conversation == conversation, KEPT.c.id == message["id"]))
    if known is not None:
        return str(known)
    now = datetime.now(UTC)
    row = {"conversation": conversation, "id": message["id"], "text": message["text"], "at": now}
    connection.execute(insert(KEPT), row)
    record(connection, actor="torture", action="kept", subject=conversation, detail={}, now=now)
    return str(now)


def create(database: Database, careless: bool) -> Starlette:
    """The application over one store."""
    writer = Writer(database)
    background: set[asyncio.Task[str]] = set()

    async def post(request: Request) -> JSONResponse:
        conversation, message = request.path_params["id"], await request.json()
        writing = asyncio.ensure_future(_late(careless, writer, conversation, message))
        if careless:
            background.add(writing)
            return JSONResponse({"message": message["id"]})
        try:
            return JSONResponse({"message": message["id"], "at": await writing})
        except StoreUnavailable as error:
            return JSONResponse({"error": {"code": "unavailable", "message": str(error)}}, 503)

    def get(request: Request) -> JSONResponse:
        chosen = select(KEPT.c.id, KEPT.c.text).where(KEPT.c.conversation == request.path_params["id"])
        with database.reading.connect() as connection:
            return JSONResponse({"turns": [dict(row) for row in connection.execute(chosen).mappings()]})

    def ready(_: Request) -> JSONResponse:
        return JSONResponse({})

    @asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        writer.start()
        yield
        await asyncio.to_thread(writer.close)

    routes = [
        Route("/v1/conversations/{id}/messages", post, methods=["POST"]),
        Route("/v1/conversations/{id}", get),
        Route("/readyz", ready),
    ]
    return Starlette(routes=routes, lifespan=living)


async def _late(careless: bool, writer: Writer, conversation: str, message: dict[str, Any]) -> str:
    await asyncio.sleep(0.1 * careless)
    return await writer.run(lambda connection: keep(connection, conversation, message), key=conversation)


if __name__ == "__main__":
    store = open_database(sys.argv[1])
    with store.writing.begin() as beginning:
        KEPT.create(beginning, checkfirst=True)
    uvicorn.run(create(store, "--careless" in sys.argv), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
