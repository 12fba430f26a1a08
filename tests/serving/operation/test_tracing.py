"""Traces: one span a request with its stages inside, nothing personal in them, and no harm when the collector fails."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from timeit import repeat
from typing import ClassVar

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

from serving.operation.tracing import ENDPOINTS, TraceRequests, Tracing, TracingConfig, open_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "my card is 4111"


def traced(tracing: Tracing) -> TestClient:
    """An API whose one route reads, asks an engine in another thread, and commits."""
    app = FastAPI()

    @app.get("/conversations/{id}")
    async def conversation(id: str) -> dict[str, str]:
        with tracing.span("read"):
            pass
        with tracing.span("engine"):
            now = time.perf_counter()
            await asyncio.to_thread(tracing.record, "run", now - 0.5, now - 0.25)
        if id == "broken":
            with tracing.span("commit"):
                raise ValueError(SECRET)
        return {}

    app.add_middleware(TraceRequests, tracing=tracing)
    return TestClient(app, raise_server_exceptions=False)


class Traced:
    """What a tracing told, kept in memory."""

    def __init__(self, sampler: Sampler) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider)
        self.client = traced(self.tracing)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def seen() -> Traced:
    return Traced(ParentBased(ALWAYS_ON))


def test_a_request_is_one_span_with_its_stages_inside(seen: Traced) -> None:
    seen.client.get("/conversations/c-17?q=1")
    spans = seen.spans()
    root = spans["GET /conversations/{id}"]
    assert set(spans) == {"GET /conversations/{id}", "read", "engine", "run"}
    assert root.parent is None
    assert spans["read"].parent == spans["engine"].parent == root.context
    assert spans["run"].parent == spans["engine"].context
    assert root.attributes == {
        "http.request.method": "GET",
        "http.route": "/conversations/{id}",
        "http.response.status_code": 200,
    }


def test_a_span_of_the_past_has_its_own_times(seen: Traced) -> None:
    seen.client.get("/conversations/c-17")
    run = seen.spans()["run"]
    assert run.end_time is not None
    assert run.start_time is not None
    assert run.end_time - run.start_time == pytest.approx(0.25e9, abs=1e6)
    assert time.time_ns() - run.end_time == pytest.approx(0.25e9, abs=0.2e9)


def test_the_callers_trace_is_taken_up(seen: Traced) -> None:
    seen.client.get("/conversations/a", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    parent = seen.spans()["GET /conversations/{id}"].parent
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, PARENT)


@pytest.mark.parametrize("given", ["", "00", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "\xff" * 50])
def test_a_bad_traceparent_begins_a_trace_of_its_own(seen: Traced, given: str) -> None:
    assert seen.client.get("/conversations/a", headers={"traceparent": given.encode("latin-1")}).status_code == 200
    assert seen.spans()["GET /conversations/{id}"].parent is None


def test_a_caller_may_say_that_a_request_is_not_to_be_traced(seen: Traced) -> None:
    seen.client.get("/conversations/a", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert seen.spans() == {}


def test_nothing_of_a_request_that_is_not_sampled() -> None:
    unseen = Traced(ALWAYS_OFF)
    assert unseen.client.get("/conversations/a").status_code == 200
    assert unseen.spans() == {}


def test_failures_are_marked_and_tell_nothing(seen: Traced) -> None:
    assert seen.client.get("/conversations/broken").status_code == 500
    spans = seen.spans()
    for name in ("GET /conversations/{id}", "commit"):
        assert not spans[name].status.is_ok
        assert spans[name].attributes is not None
        assert spans[name].attributes["error.type"] == "ValueError"
    assert SECRET not in "".join(span.to_json() for span in spans.values())
    assert "broken" not in "".join(span.to_json() for span in spans.values())


def test_paths_that_callers_invent_share_a_name(seen: Traced) -> None:
    seen.client.get("/invented")
    assert set(seen.spans()) == {"GET other"}


def test_it_is_off_unless_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert not open_tracing(TracingConfig()).on
    monkeypatch.setenv(ENDPOINTS[1], "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not open_tracing(TracingConfig()).on


def test_off_it_costs_next_to_nothing() -> None:
    tracing = Tracing()

    def once() -> None:
        with tracing.span("read"):
            pass

    assert traced(tracing).get("/conversations/a").status_code == 200
    assert min(repeat(once, number=10_000, repeat=5)) / 10_000 < 3e-6


class Collector(BaseHTTPRequestHandler):
    """Takes what is posted."""

    posted: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_collector_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(ENDPOINTS[1], f"http://127.0.0.1:{server.server_port}")
        tracing = open_tracing(TracingConfig(sample=1.0))
        traced(tracing).get("/conversations/c-17")
        tracing.close()
        server.shutdown()
    path, body = Collector.posted[0]
    assert path == "/v1/traces"
    assert b"GET /conversations/{id}" in body
    assert b"c-17" not in body


@pytest.fixture
def silent_collector() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_collector_holds_up_neither_requests_nor_the_end(silent_collector: str) -> None:
    tracing = open_tracing(TracingConfig(endpoint=silent_collector, sample=1.0, shutdown_s=0.3))
    assert tracing.on
    client = traced(tracing)
    began = time.monotonic()
    assert all(client.get("/conversations/a").status_code == 200 for _ in range(20))
    tracing.close()
    assert time.monotonic() - began < 3


def test_a_collector_that_is_not_there_does_no_harm() -> None:
    tracing = open_tracing(TracingConfig(endpoint="http://127.0.0.1:9", sample=1.0, shutdown_s=0.5))
    assert traced(tracing).get("/conversations/a").status_code == 200
    tracing.close()


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", ""])
def test_an_endpoint_is_an_address_of_the_web(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        TracingConfig(endpoint=endpoint)
