"""Where a request's time went, as OpenTelemetry spans: request → read → engine → policy → commit.

Off unless an endpoint is configured, here or by the standard OTEL_EXPORTER_OTLP_ENDPOINT. Spans carry the route's
template, the method and the status: no path, no text, no id. A slow or missing collector costs spans, never requests.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.config import Config
from serving.operation.routes import method_of, route_template

logger = logging.getLogger("simmer.tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SERVICE = "simmer"
_NOTHING: AbstractContextManager[None] = nullcontext()
_PROPAGATOR = TraceContextTextMapPropagator()


class TracingConfig(Config):
    """Where spans go and how many. The environment's endpoint counts where `endpoint` is not given."""

    endpoint: str | None = Field(default=None, pattern=r"https?://.+", description="base address of an OTLP collector")
    sample: float = Field(default=0.05, ge=0, le=1, description="share of requests that are traced")
    shutdown_s: float = Field(default=2.0, ge=0)


class Tracing:
    """Makes spans, or nothing at next to no cost: without a tracer, and inside a request that is not sampled."""

    def __init__(self, provider: trace.TracerProvider | None = None, shutdown_s: float = 2.0) -> None:
        self._provider = provider
        self._tracer: Tracer | None = provider.get_tracer(SERVICE) if provider else None
        self._shutdown_s = shutdown_s

    @property
    def on(self) -> bool:
        return self._tracer is not None

    def span(self, name: str) -> AbstractContextManager[None]:
        """The time spent in a `with` block, inside the span that is current."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            return _NOTHING
        return self._child(self._tracer, name)

    def record(self, name: str, began: float, ended: float) -> None:
        """A span of the past, by `time.perf_counter()`: what another thread measured for the current request."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            return
        since = time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(name, start_time=since + int(began * 1e9))
        span.end(since + int(ended * 1e9))

    def close(self) -> None:
        """Send what is left, for at most `shutdown_s` seconds."""
        shutdown = getattr(self._provider, "shutdown", None)
        if shutdown is not None:
            ending = threading.Thread(target=shutdown, name="tracing-shutdown", daemon=True)
            ending.start()
            ending.join(self._shutdown_s)
            if ending.is_alive():
                logger.warning("spans were left behind: the collector did not take them in time")

    @contextmanager
    def request(self, scope: Scope) -> Iterator[trace.Span]:
        """The span of a whole request, in the trace that the caller's `traceparent` names."""
        assert self._tracer is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = method_of(scope)
        with self._tracer.start_as_current_span(
            method,
            _PROPAGATOR.extract(headers),
            SpanKind.SERVER,
            {"http.request.method": method},
            record_exception=False,  # its message may hold what a customer wrote
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            finally:
                route = route_template(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)

    @contextmanager
    def _child(self, tracer: Tracer, name: str) -> Iterator[None]:
        with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield
            except Exception as error:
                _failed(span, type(error).__name__)
                raise


class TraceRequests:
    """A span for every request; plain ASGI, and nothing where tracing is off."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app, self.tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.tracing.on:
            await self.app(scope, receive, send)
            return
        with self.tracing.request(scope) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        _failed(span, str(message["status"]))
                await send(message)

            try:
                await self.app(scope, receive, told)
            except Exception as error:
                _failed(span, type(error).__name__)
                raise


def open_tracing(config: TracingConfig) -> Tracing:
    """Tracing to the configured collector, or none where neither configuration nor environment names one."""
    named = config.endpoint or any(os.environ.get(name) for name in ENDPOINTS)
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Tracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # slow to import, seldom used
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(config.sample),
        resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", SERVICE)}),
        shutdown_on_exit=False,
    )
    endpoint = f"{config.endpoint.rstrip('/')}/v1/traces" if config.endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return Tracing(provider, config.shutdown_s)


def _failed(span: trace.Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))
