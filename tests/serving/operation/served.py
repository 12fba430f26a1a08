"""A program for the tests of the server: slow, streaming and hanging routes behind `serving.operation.server`."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving.operation.drain import Drain
from serving.operation.server import ServerConfig, serve


def application(drain: Drain) -> Starlette:
    async def ready(_: Request) -> Response:
        return JSONResponse({"ready": not drain.begun}, 503 if drain.begun else 200)

    async def slow(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(float(request.query_params["s"]))
        return JSONResponse({"done": True})

    async def stream(_: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            yield ": hello\n\n"
            await drain.wait()
            yield ": goodbye\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def block(_: Request) -> Response:
        time.sleep(3600)
        return JSONResponse({})

    async def stuck(_: Request) -> Response:
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return JSONResponse({})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        drain.when_begun(lambda: print("draining", file=sys.stderr, flush=True))
        yield
        await asyncio.sleep(0.2)
        print("flushed", file=sys.stderr, flush=True)

    names = {"/ready": ready, "/slow": slow, "/stream": stream, "/block": block, "/stuck": stuck}
    routes = [Route(path, endpoint, methods=["GET", "POST"]) for path, endpoint in names.items()]
    return Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    begun = Drain()
    serve(application(begun), "127.0.0.1", 0, ServerConfig.model_validate_json(sys.argv[1]), begun)
