"""Bytes no client would send: refused with the one shape of failure or taken rightly, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.operation.server import ServerConfig
from serving.security.limits import DeadlineConfig
from tests.serving.api.wire import Reply, Wire, listening
from tests.serving.toy import toy_config

SECRET = "kneecap"  # what a customer wrote; no line of the log may hold it
MESSAGE = json.dumps({"id": "a", "text": f"I am furious about my {SECRET}"}).encode()
HEAD = b"POST /v1/score HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def wire(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A server that loses patience quickly."""
    config = toy_config(toy, tmp_path_factory.mktemp("wire"))
    limits = config.limits.model_copy(update={"body": DeadlineConfig(seconds=0.3), "max_body_bytes": 200_000})
    server = ServerConfig(head_timeout_s=0.5, keep_alive_s=2)
    with listening(config.model_copy(update={"limits": limits, "server": server})) as wire:
        yield wire


@pytest.fixture(autouse=True)
def unharmed(wire: Wire) -> Iterator[None]:
    """Whatever was sent, the next request is answered, and the log says nothing of what was written."""
    yield
    assert wire.alive()
    log = wire.log.getvalue()
    assert SECRET not in log
    assert "Traceback" not in log
    assert '"level":"error"' not in log


def failed(reply: Reply | None, *statuses: int) -> dict[str, Any]:
    assert reply is not None
    assert reply.status in statuses, (reply.status, reply.body)
    assert reply.headers["content-type"] == "application/json"
    problem: dict[str, Any] = json.loads(reply.body)["error"]
    assert set(problem) == {"code", "message", "field", "request_id"}
    return problem


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/conversations/a%2Fb", 404),
        ("/v1/conversations/..", 422),
        ("/v1/conversations/%2e%2e", 422),
        ("/v1/conversations/%2e", 422),
        ("/v1/conversations/../../etc/passwd", 404),
        ("/v1/conversations/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/conversations/%00", 422),
        ("/v1/conversations/a%00b", 422),
        ("/v1/conversations/a%0d%0aset-cookie:x", 422),
        ("/v1/conversations/%ff%fe", 422),
        ("/v1/conversations/%ed%a0%80", 422),
        ("/v1/conversations/" + "a" * 201, 422),
        ("/v1/conversations/" + "%F0%9F%98%A1" * 201, 422),
        ("/v1/conversations/" + "a" * 5_000, 414),
        ("/v1/conversations/", 404),
        ("/v1/conversations/a/", 404),
        ("/v1//conversations/a", 404),
        ("//v1/conversations/a", 404),
        ("/V1/conversations/a", 404),
        ("/v1/conversations/a;b=c", 404),
        ("/v1/conversations/a%3Fb", 404),
        ("/v1/conversations/%zz", 404),
        ("/v1/queue?limit=1&limit=0", 422),
        ("/v1/queue?limit=%00", 422),
        ("/v1/queue?queue=%ff", 422),
        ("/v1/queue?" + "a=b&" * 900, 200),
        ("/v1/queue?" + "a" * 5_000, 414),
        ("/v1/queue#fragment", 200),
        ("http://127.0.0.1/healthz", 200),
        ("http://evil.example/v1/queue", 200),  # it is the Host that counts, and the path
        ("*", 404),
    ],
)
def test_paths(wire: Wire, path: str, status: int) -> None:
    reply = wire.get(path)
    assert reply is not None
    if status == 200:
        assert reply.status == 200, reply.body
    else:
        failed(reply, status)


@pytest.mark.parametrize("step", [".", "..", "%2e%2e"])
def test_nobody_is_called_like_a_step_in_an_address(wire: Wire, step: str) -> None:
    problem = failed(wire.post(f"/v1/conversations/{step}/messages", MESSAGE), 422)
    assert problem["field"] == "path.id"


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        'it\'s "quoted"',
        "'; DROP TABLE conversations; --",
        "<script>alert(1)</script>".replace("/", "|"),
        "%25%00".replace("%", "٪"),
        "{{7*7}}",
        "😡😡",
        "é" * 200,
        "a+b",
        "con:1@x,y=z&w",
        "~",
        "...",
    ],
)
def test_strange_names_are_names(wire: Wire, name: str) -> None:
    spelt = "".join(f"%{byte:02X}" for byte in name.encode())
    taken = wire.post(f"/v1/conversations/{spelt}/messages", MESSAGE)
    assert taken is not None
    assert taken.status == 201, taken.body
    found = wire.get(f"/v1/conversations/{spelt}")
    assert found is not None
    assert found.headers["content-type"] == "application/json"
    assert json.loads(found.body)["conversation"]["id"] == name


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "BREW"])
def test_methods_that_are_not_there(wire: Wire, method: str) -> None:
    reply = wire.get("/v1/queue", method=method)
    assert reply is not None
    assert reply.status in (400, 405)
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"get /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: a\0b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\xff" * 100 + b"\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1e3\r\n\r\n",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_or_ends(wire: Wire, raw: bytes) -> None:
    reply = wire.send(raw, half=True)
    if reply is not None:
        assert reply.status in (400, 405, 408, 413, 415), reply.body


def test_a_body_in_chunks_is_a_body(wire: Wire) -> None:
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (1, MESSAGE[n : n + 1]) for n in range(len(MESSAGE)))
    reply = wire.post("/v1/score", chunks + b"0\r\ntrailer: x\r\n\r\n", "transfer-encoding: chunked")
    assert reply is not None
    assert reply.status == 200, reply.body


def test_a_body_that_is_half_sent_is_not_taken(wire: Wire) -> None:
    path = b"POST /v1/conversations/half/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n"
    wire.send(path % len(MESSAGE) + MESSAGE[:-5], half=True)
    wire.send(path % (len(MESSAGE) + 1) + MESSAGE, half=True)
    found = wire.get("/v1/conversations/half")
    failed(found, 404)


def test_a_slow_body_is_given_up(wire: Wire) -> None:
    head = HEAD + b"content-length: %d\r\n\r\n" % len(MESSAGE)
    assert failed(wire.send(head, MESSAGE[:9]), 408)["code"] == "timeout"
    drops = [MESSAGE[n : n + 1] for n in range(20)]
    failed(wire.send(head, *drops, pause=0.05), 408)


def test_a_slow_head_is_given_up(wire: Wire) -> None:
    failed(wire.send(HEAD), 408)
    assert wire.send(b"") is None


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip", "x" * 500])
def test_what_is_compressed_is_refused(wire: Wire, encoding: str) -> None:
    reply = wire.post("/v1/score", b"\x1f\x8b\x08" + bytes(500), f"content-encoding: {encoding}")
    assert failed(reply, 415)["code"] == "unsupported_encoding"


def test_a_large_body_is_refused_by_what_it_says_and_by_what_comes(wire: Wire) -> None:
    failed(wire.post("/v1/score", b"{", "content-length: 200001"), 413)
    failed(wire.post("/v1/score", b"%x\r\n" % 300_000 + b"x" * 300_000, "transfer-encoding: chunked"), 413)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"x-{n}: y" for n in range(80)], 431),
        (["x-long: " + "y" * 20_000], 431),
        (["x-long: " + "y" * 60_000], 431),
        (["x-deadline-ms: 5000", "x-deadline-ms: nonsense"], 200),
        (["x-deadline-ms: nonsense"], 400),
        (["x-deadline-ms: -1"], 400),
        (["x-deadline-ms: 1e3"], 400),
        (["x-deadline-ms: 0x10"], 400),
        (["x-deadline-ms: \xb2"], 400),
        (["x-deadline-ms: " + "9" * 400], 400),
        (["x-deadline-ms: 999999999"], 200),
        (["x-deadline-ms:"], 400),
        (["content-type: text/plain"], 200),
        (["content-type: application/xml; charset=utf-7"], 200),
        (["expect: 100-continue"], 200),
        (["upgrade: websocket", "connection: upgrade"], 400),
        (["upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"], 200),
        (["x-forwarded-for: 10.0.0.1"], 403),  # it came by a proxy: who sent it is not this machine
        (["forwarded: for=evil"], 403),
        (["x-http-method-override: DELETE"], 200),
        (["authorization: Bearer simmer_nothing"], 200),
        (["cookie: " + "a=b; " * 100], 200),
        (["accept: application/xml"], 200),
        (["origin: https://evil.example"], 403),
        (["host: evil.example"], 200),  # a second one; the first counts
    ],
)
def test_headers(wire: Wire, headers: list[str], status: int) -> None:
    text = json.dumps({"id": "a", "text": f"{SECRET} {len(headers)} {headers[0][:40]}"}).encode()
    reply = wire.post("/v1/score", text, *headers)
    assert reply is not None
    assert reply.status == status, reply.body
    if status != 200:
        failed(reply, status)


def test_whoever_waits_no_longer_is_told_so(wire: Wire) -> None:
    body = json.dumps({"id": "a", "text": "urgent, urgent: my lawyer"}).encode()  # not answered before
    failed(wire.post("/v1/score", body, "x-deadline-ms: 0"), 504)


def test_without_a_host_nobody_knows_whom_it_was_for(wire: Wire) -> None:
    failed(wire.send(b"GET /v1/queue HTTP/1.0\r\n\r\n"), 403)
