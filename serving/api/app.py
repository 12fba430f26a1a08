"""The application: routes, limits and failures put together over a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from serving.api.access import Access
from serving.api.agents import agent_routes
from serving.api.conversations import conversation_routes
from serving.api.document import Documented, operation_id
from serving.api.events import event_routes
from serving.api.failures import ANYWHERE, add_failures, failing
from serving.api.metrics import HttpMetrics, metrics_routes
from serving.api.middleware import RequestNumber
from serving.api.operation import operation_routes
from serving.api.queue import queue_routes
from serving.api.score import score_routes
from serving.api.shadow import shadow_routes
from serving.operation.tracing import TraceRequests
from serving.review.desk import open_desk
from serving.review.pages import desk_pages
from serving.review.web import BASE
from serving.security.limits import BodyConfig, BodyDeadline, BodyLimit, ConcurrencyLimit, HeaderLimit
from serving.service import Service, running


def create_app(service: Service) -> FastAPI:
    """The application; the service starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(service):
            yield

    app = Documented(
        title="Simmer",
        version="1",
        summary="Sentiment, frustration, urgency and priority of support conversations",
        responses=failing(*ANYWHERE),
        generate_unique_id_function=operation_id,
        redirect_slashes=False,  # to where the caller's own Host header says
        lifespan=lifespan,
    )
    add_failures(app)
    _add_routes(app, service)
    _add_middleware(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    app.include_router(score_routes(service.scoring, service.config.limits))
    app.include_router(conversation_routes(service.live, service.scoring))
    app.include_router(queue_routes(service.live))
    app.include_router(agent_routes(service.live))
    app.include_router(event_routes(service.outgoing))
    app.include_router(operation_routes(service))
    app.include_router(shadow_routes(service.shadow, service.drift))
    app.include_router(metrics_routes(service.metrics))
    app.mount(BASE, desk_pages(open_desk(service)))
    app.add_route(BASE, _to_the_desk, include_in_schema=False)


async def _to_the_desk(_: Request) -> Response:
    """Where who types the address without its last step wants to go."""
    return RedirectResponse(f"{BASE}/", 307)


def _add_middleware(app: FastAPI, service: Service) -> None:
    """The innermost first: a request meets them from the last to the first."""
    limits = service.config.limits
    app.add_middleware(BodyLimit, config=BodyConfig(max_bytes=limits.max_body_bytes))
    app.add_middleware(BodyDeadline, config=limits.body)
    app.add_middleware(Access, verifier=service.verifier, rates=service.rates)
    app.add_middleware(ConcurrencyLimit, config=limits.concurrency)
    app.add_middleware(HeaderLimit, config=limits.headers)
    app.add_middleware(HttpMetrics, metrics=service.metrics)
    app.add_middleware(TraceRequests, tracing=service.tracing)
    app.add_middleware(RequestNumber)
