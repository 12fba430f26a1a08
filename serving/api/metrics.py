"""GET /metrics, and the middleware that counts and times every request by its route's template."""

from __future__ import annotations

from asyncio import CancelledError
from time import perf_counter

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.access import READ, ScopedRoute
from serving.api.failures import KEYED, failing
from serving.operation.metrics import Metrics
from serving.operation.routes import method_of, route_template

LEFT = "499"  # the caller went away before an answer began


def metrics_routes(metrics: Metrics) -> APIRouter:
    """What Prometheus asks."""
    router = APIRouter(route_class=ScopedRoute, tags=["operation"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **failing(*KEYED)},
        openapi_extra=READ,
    )
    def exposition(request: Request) -> Response:
        """Counts and timings in Prometheus's text format, or OpenMetrics where it is asked for."""
        body, media_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    return router


class HttpMetrics:
    """Counts each answer, and how long it took to begin: a stream of events lasts as long as its reader likes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, counted = perf_counter(), False

        async def timed(message: Message) -> None:
            nonlocal counted
            if message["type"] == "http.response.start" and not counted:
                counted = True
                self._count(scope, str(message["status"]), began)
            await send(message)

        try:
            await self.app(scope, receive, timed)
        except BaseException as error:
            if not counted:
                self._count(scope, LEFT if isinstance(error, CancelledError) else "500", began)
            raise
        if not counted:
            self._count(scope, LEFT, began)

    def _count(self, scope: Scope, status: str, began: float) -> None:
        self.metrics.request(route_template(scope), method_of(scope), status, perf_counter() - began)
