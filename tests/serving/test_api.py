"""The HTTP API: answers as on the command line, one shape of failure, and a readiness that means something."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from numpy.typing import NDArray
from starlette.types import Message
from typer.testing import CliRunner

from pipeline.bundle import Bundle
from pipeline.engine import Engine
from pipeline.predictor import Predictor
from serving import cli
from serving.answers import Answer
from serving.api import create_app
from serving.config import ServeConfig, load_serve_config
from serving.examples import ANSWER, REQUESTS
from serving.policy import load_policy
from serving.scorer import Job, Scorer

CONFIG = load_serve_config()
MANY = [
    {"id": "a", "text": "Where is my parcel?"},
    {"id": "b", "turns": [{"role": "customer", "text": "Hi"}, {"role": "agent", "text": "Hello! Your number?"}]},
    {"id": "c", "text": "I want a manager NOW", "channel": "email", "meta": {"waiting_minutes": 90}},
    {"id": "d", "text": "😡"},
]


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> TestClient:
    return TestClient(create_app(scorer, CONFIG))


@pytest.fixture(scope="module")
def narrow(scorer: Scorer) -> TestClient:
    """An API that takes 300 bytes and three conversations."""
    config: ServeConfig = CONFIG.model_copy(update={"max_body_bytes": 300, "max_conversations": 3})
    return TestClient(create_app(scorer, config))


def post(client: TestClient, body: object, **query: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/score", content=content, params=query)


def answered(client: TestClient, body: object, **query: str) -> Any:
    response = post(client, body, **query)
    assert response.status_code == 200, response.text
    return response.json()


def assert_failure(response: Any, status: int, code: str, field: str | None = None, message: str = "") -> None:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    problem = response.json()["error"]
    assert list(problem) == ["code", "message", "field", "request_id"]
    assert (problem["code"], problem["field"]) == (code, field)
    assert message in problem["message"]
    assert problem["request_id"] == response.headers["x-request-id"]


def test_one_conversation(client: TestClient) -> None:
    answer = answered(client, MANY[1])
    assert (answer["id"], answer["turn"]) == ("b", 0)
    assert Answer.model_validate(answer).abstained is None


def test_many_conversations_keep_their_order(client: TestClient) -> None:
    results = answered(client, {"conversations": MANY})["results"]
    assert [answer["id"] for answer in results] == ["a", "b", "c", "d"]
    assert [answer["abstained"] is None for answer in results] == [True, True, True, False]


@pytest.mark.parametrize("value", ["true", "1"])
def test_every_turn(client: TestClient, value: str) -> None:
    turns = [{"role": role, "text": "Hello?"} for role in ("customer", "bot", "customer", "agent")]
    one = answered(client, {"id": "a", "turns": turns}, every_turn=value)
    assert [answer["turn"] for answer in one["results"]] == [0, 2]
    two = answered(client, {"conversations": [{"id": "a", "turns": turns}, {"id": 5}, MANY[0]]}, every_turn=value)
    assert [(r["id"], r.get("turn")) for r in two["results"]] == [("a", 0), ("a", 2), (None, None), ("a", 0)]


def test_a_bad_row_loses_no_other(client: TestClient) -> None:
    bad: list[Any] = [{"id": "x", "text": 5}, [], None, {"id": "y", "turns": [{"role": "boss", "text": ""}]}]
    results = answered(client, {"conversations": [MANY[0], *bad, MANY[2]]})["results"]
    assert [r["id"] if r else r for r in results] == ["a", "x", None, None, "y", "c"]
    assert [list(r) for r in results[1:5]] == [["id", "index", "error"]] * 4
    assert [r["index"] for r in results[1:5]] == [1, 2, 3, 4]
    assert [word in r["error"] for word, r in zip(("text", "array", "null", "role"), results[1:5], strict=True)] == [
        True
    ] * 4
    assert Answer.model_validate(results[5])


def test_answers_are_those_of_the_command_line(client: TestClient, bundle_path: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in MANY), encoding="utf-8")
    arguments = ["score", str(source), "-o", str(target), "--model", str(bundle_path)]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert written == answered(client, {"conversations": MANY})["results"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "a"}, "turns"),
        ({"id": "a", "turns": []}, "turns"),
        ({"text": "hi"}, "id"),
        ({"id": "a", "text": "hi", "turns": []}, "text"),
        ({"id": "a", "turns": [{"role": "boss", "text": "hi"}]}, "turns.0.role"),
        ({"id": "a", "text": "hi", "channel": "fax"}, "channel"),
        ({"id": "a", "text": "hi", "mood": "bad"}, "mood"),
        ({"conversations": []}, "conversations"),
        ({"conversations": {"id": "a"}}, "conversations"),
        ({"conversations": MANY, "mood": "bad"}, "mood"),
        ({}, "id"),
        ([], None),
        (None, None),
        ("hi", None),
        (b"5", None),
    ],
)
def test_what_is_no_conversation_is_refused_by_field(client: TestClient, body: object, field: str | None) -> None:
    assert_failure(post(client, body), 422, "invalid", field)


@pytest.mark.parametrize("every", ["maybe", "", "2"])
def test_a_wrong_query_is_refused_by_field(client: TestClient, every: str) -> None:
    assert_failure(post(client, MANY[0], every_turn=every), 422, "invalid", "query.every_turn")


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b'{"id": "a"', b"{'id': 'a'}", b"\xff\xfe\xfa", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000],
)
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    assert_failure(post(client, body), 400, "bad_request")


@pytest.mark.parametrize("depth", [50, 300, 900])
def test_deep_nesting_is_refused(client: TestClient, depth: int) -> None:
    deep = b'{"id": "a", "text": ' + b"[" * depth + b"]" * depth + b"}"
    response = post(client, deep)
    assert response.status_code in (400, 422)
    assert_failure(response, response.status_code, response.json()["error"]["code"], response.json()["error"]["field"])
    results = answered(client, b'{"conversations": [' + deep + b', {"id": "b", "text": "hi"}]}')["results"]
    assert ("error" in results[0], results[1]["id"]) == (True, "b")


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "a", "text": "hi", "\\ud800": 1}',
        b'{"conversations": [], "\\ud800": 1}',
        b'{"conversations": [], "\xed\xa0\x80": 1}',
    ],
)
def test_lone_surrogates_in_field_names_are_refused(client: TestClient, body: bytes) -> None:
    response = post(client, body)
    assert_failure(response, 422, "invalid", response.json()["error"]["field"])


def test_lone_surrogates_in_a_batch_lose_no_other(client: TestClient) -> None:
    body = (
        b'{"conversations": [{"id": "\\ud800", "text": "x"}, {"id": "a", "text": "\\udfff"}, {"id": "b", "text": "x"}]}'
    )
    results = answered(client, body)["results"]
    assert results[1]["abstained"]["reason"] == "no_words"
    assert ["error" in found for found in results] == [False, False, False]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 4000])
def test_numbers_without_bounds_are_no_trouble(client: TestClient, number: bytes) -> None:
    given = b'{"id": "a", "text": "hi", "meta": {"waiting_minutes": ' + number + b"}}"
    answer = answered(client, given)
    assert json.dumps(answer, allow_nan=False)
    assert_failure(post(client, b'{"id": "a", "text": ' + number + b"}"), 422, "invalid", "text")


def test_paths_and_methods_that_are_not_there(client: TestClient) -> None:
    assert_failure(client.get("/v1/nothing"), 404, "not_found")
    assert_failure(client.post("/healthz"), 405, "method_not_allowed")
    refused = client.get("/v1/score")
    assert_failure(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


def test_a_body_that_is_too_large_is_refused(narrow: TestClient) -> None:
    row = {"id": "a", "text": "hi"}
    full = json.dumps(row).encode().ljust(300)
    assert post(narrow, full).status_code == 200
    assert_failure(post(narrow, full + b" "), 413, "too_large", message="300")


def test_a_body_that_never_ends_is_refused_on_the_way(narrow: TestClient) -> None:
    received = 0
    sent: list[Message] = []

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": received < 1000}

    async def send(message: Message) -> None:
        sent.append(message)

    async def request() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/score", "query_string": b"", "headers": []}
        await narrow.app(scope, receive, send)

    asyncio.run(request())
    assert sent[0]["status"] == 413
    assert received <= 5


def test_too_many_conversations_are_refused(narrow: TestClient) -> None:
    rows = [{"id": f"m{n}", "text": "hi"} for n in range(4)]
    assert len(answered(narrow, {"conversations": rows[:3]})["results"]) == 3
    assert_failure(post(narrow, {"conversations": rows}), 413, "too_large", "conversations", message="3")


def test_request_ids_are_echoed_or_made(client: TestClient) -> None:
    given = "Root=1-67891233-abcdef;7/x+y"
    assert client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given
    failed = client.get("/v1/nothing", headers={"x-request-id": given})
    assert failed.headers["x-request-id"] == failed.json()["error"]["request_id"] == given
    made = {client.get("/healthz").headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5


@pytest.mark.parametrize(
    "hostile",
    [b"a\r\nset-cookie: evil=1", b"a\nb", b"\x1b[31mred", b"\xff\xfe\x85", b"\0", b"   ", b"", b"x" * 100_000, b'"},"'],
)
def test_hostile_request_ids_are_harmless(client: TestClient, hostile: bytes) -> None:
    response = client.get("/v1/nothing", headers=[(b"x-request-id", hostile)])
    assert_failure(response, 404, "not_found")
    assert re.fullmatch(r"[!-~]{1,64}", response.headers["x-request-id"])
    assert "set-cookie" not in response.headers


def test_an_error_of_ours_has_the_same_shape_and_tells_nothing(bundle: Bundle) -> None:
    class Broken(Scorer):
        def score(self, jobs: Sequence[Job]) -> list[Answer]:
            raise RuntimeError(jobs[0].conversation.turns[0].text)

    scorer = Broken(bundle, load_policy(bundle.card.labels))
    client = TestClient(create_app(scorer, CONFIG), raise_server_exceptions=False)
    response = post(client, {"id": "a", "text": "my secret"})
    assert_failure(response, 500, "error", message="request id")
    assert "secret" not in response.text


def test_it_is_alive(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}


class Recorded:
    """An engine that counts what it is given, and may spoil what comes out."""

    def __init__(self, engine: Engine, spoil: float = 0.0) -> None:
        self.engine, self.spoil, self.rows = engine, spoil, 0

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        self.rows += len(ids)
        return self.engine.run(ids, segments) + np.float32(self.spoil)


def with_engine(bundle: Bundle, engine: Engine) -> TestClient:
    predictor = Predictor(bundle.predictor.encoder, engine, bundle.card.labels, bundle.card.calibration)
    scorer = Scorer(replace(bundle, predictor=predictor), load_policy(bundle.card.labels))
    return TestClient(create_app(scorer, CONFIG))


def test_ready_means_that_golden_inputs_were_scored(bundle: Bundle) -> None:
    engine = Recorded(bundle.predictor.engine)
    response = with_engine(bundle, engine).get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    assert engine.rows == len(bundle.card.golden) > 0


@pytest.mark.parametrize("spoil", [3.0, float("nan")])
def test_a_spoilt_engine_is_not_ready(bundle: Bundle, spoil: float) -> None:
    client = with_engine(bundle, Recorded(bundle.predictor.engine, spoil))
    assert_failure(client.get("/readyz"), 503, "not_ready", message="golden input")
    assert client.get("/healthz").status_code == 200


def test_the_model_introduces_itself(client: TestClient, bundle: Bundle) -> None:
    found = client.get("/v1/model").json()
    assert found["bundle"] == bundle.digest
    assert found["languages"] == list(bundle.card.languages)
    assert found["labels"] == {name: list(head.values) for name, head in bundle.card.labels.heads.items()}
    assert found["metrics"] == bundle.card.metrics["test"]
    assert {"version", "profile", "encoder", "slices", "git_revision", "data_hash", "mlflow_run_id"} <= set(found)


def test_the_openapi_document_is_valid(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert OpenAPI.model_validate(document).openapi.startswith("3.1")
    assert set(document["paths"]) == {"/v1/score", "/v1/model", "/healthz", "/readyz"}
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    referred = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(referred) <= set(schemas)
    assert {"400", "413", "422"} <= set(document["paths"]["/v1/score"]["post"]["responses"])
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]


@pytest.mark.parametrize("name", REQUESTS)
def test_documented_requests_really_score(client: TestClient, name: str) -> None:
    content = client.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    example = content["application/json"]["examples"][name]["value"]
    Draft202012Validator(content["application/json"]["schema"]).validate(example)
    found = answered(client, example)
    for answer in found.get("results", [found]):
        assert Answer.model_validate(answer).abstained is None


def test_the_documented_answer_is_one(client: TestClient) -> None:
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(part) for key, part in value.items()}
        return type(value) if not isinstance(value, list) or not value or isinstance(value[0], str) else len(value)

    found = answered(client, REQUESTS["one message"]["value"])
    found["model"]["version"] = "3"  # the bundle under test may never have been registered
    assert shape(Answer.model_validate(ANSWER).model_dump()) == shape(found)


@pytest.fixture
def server(bundle_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`simmer serve` as a process group of its own on a free port, and that port."""
    command = [str(Path(sys.executable).parent / "simmer"), "serve", "--port", "0", "--model", str(bundle_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "http://" in line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found, said
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def hang_up_half_way(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b'POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 500\r\n\r\n{"id": "a"')


def test_a_served_scorer_is_ready_and_stops_when_told(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        assert client.post("/v1/score", json=MANY[0]).json()["id"] == "a"
        hang_up_half_way(port)
        assert client.get("/healthz").status_code == 200
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=30)[1]
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
