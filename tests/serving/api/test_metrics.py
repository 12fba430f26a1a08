"""GET /metrics, and requests counted by their route's template whatever a caller invents."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.metrics import HttpMetrics, metrics_routes
from serving.operation.metrics import Metrics
from serving.security.keys import LOOPBACK


class Known:
    """Lets everyone in as a caller of this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["principal"] = LOOPBACK
        await self.app(scope, receive, send)


def api(metrics: Metrics) -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/v1")

    @router.get("/conversations/{id}")
    async def conversation(id: str) -> dict[str, str]:
        if id == "broken":
            raise RuntimeError(id)
        return {}

    app.include_router(router)
    app.include_router(metrics_routes(metrics))
    app.add_middleware(HttpMetrics, metrics=metrics)
    app.add_middleware(Known)
    return app


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def client(metrics: Metrics) -> TestClient:
    return TestClient(api(metrics), raise_server_exceptions=False)


def counted(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    families = text_string_to_metric_families(metrics.exposition()[0].decode())
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "simmer_http_requests_total"
    }


def test_requests_are_counted_by_template(client: TestClient, metrics: Metrics) -> None:
    for number in range(20):
        client.get(f"/v1/conversations/c-{number}?n={number}")
        client.get(f"/invented/{number}")
        client.request(f"METHOD{number}", "/v1")
    client.post("/v1/conversations/a")
    client.get("/v1/conversations/broken")
    assert counted(metrics) == {
        ("GET", "/v1/conversations/{id}", "200"): 20,
        ("GET", "other", "404"): 20,
        ("other", "other", "404"): 20,
        ("POST", "/v1/conversations/{id}", "405"): 1,
        ("GET", "/v1/conversations/{id}", "500"): 1,
    }


def test_metrics_are_served_in_the_format_asked_for(client: TestClient) -> None:
    client.get("/v1/conversations/a")
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert 'simmer_http_requests_total{method="GET",route="/v1/conversations/{id}",status="200"} 1.0' in plain.text
    asked = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "image/png", ";;;,,,", "text/plain; version=x", "application/openmetrics-text; version=x", "x" * 5_000],
)
def test_an_odd_accept_header_gets_metrics(client: TestClient, accept: str) -> None:
    assert "simmer_shed_total" in client.get("/metrics", headers={"accept": accept}).text


def run(metrics: Metrics, app_sends: list[Message], error: BaseException | None = None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in app_sends:
            await send(message)
        if error is not None:
            raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    asyncio.run(HttpMetrics(app, metrics)({"type": "http", "method": "GET", "headers": []}, receive, send))  # type: ignore[arg-type]


def test_a_caller_who_goes_away_is_counted_as_such(metrics: Metrics) -> None:
    run(metrics, [])
    with pytest.raises(asyncio.CancelledError):
        run(metrics, [], asyncio.CancelledError())
    assert counted(metrics) == {("GET", "other", "499"): 2}


def test_an_answer_that_breaks_half_way_is_counted_once(metrics: Metrics) -> None:
    with pytest.raises(RuntimeError):
        run(metrics, [{"type": "http.response.start", "status": 200, "headers": []}], RuntimeError("half way"))
    assert counted(metrics) == {("GET", "other", "200"): 1}
