"""Limits of a request: refused in the API's shape before the application hears, over ASGI and over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from threading import Thread
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.security.limits import (
    BodyConfig,
    BodyDeadline,
    BodyLimit,
    ConcurrencyConfig,
    ConcurrencyLimit,
    DeadlineConfig,
    HeaderConfig,
    HeaderLimit,
    LocalOnly,
    TooDeep,
    check_depth,
    refuse,
    request_id,
)

Headers = Sequence[tuple[bytes, bytes]]


class Heard:
    """An application that reads the body whole and tells its size; what it heard stays."""

    def __init__(self) -> None:
        self.body = b""
        self.disconnected = False
        self.called = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.called = True
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected = True
                raise ConnectionError("the client went away")
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(len(self.body)).encode()})


def scope_of(headers: Headers = (), path: str = "/v1/score", **more: Any) -> Scope:
    raw = {"path": path, "raw_path": path.encode(), "query_string": b"", "headers": list(headers)}
    return {"type": "http", "method": "POST", "http_version": "1.1", "client": ("127.0.0.1", 1), **raw, **more}


def parts(*chunks: bytes) -> Callable[[], Awaitable[Message]]:
    """A client that sends a body in these chunks."""
    left = list(chunks)

    async def receive() -> Message:
        chunk = left.pop(0) if left else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive


def ask(app: ASGIApp, scope: Scope, receive: Receive | None = None) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and decoded body of the one answer that an application gave."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive or parts(b"{}"), send))  # type: ignore[arg-type]
    start, body = sent
    return start["status"], dict(start["headers"]), json.loads(body["body"])


def failed(answer: tuple[int, dict[bytes, bytes], Any], status: int, code: str) -> None:
    """Checks that an answer is a failure in the API's shape."""
    got, headers, body = answer
    assert got == status
    assert body["error"].keys() == {"code", "message", "field", "request_id"}
    assert body["error"]["code"] == code
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x-request-id"].decode() == body["error"]["request_id"] != ""


def test_a_request_within_the_limits_passes_whole() -> None:
    app = Heard()
    guarded = HeaderLimit(BodyDeadline(BodyLimit(app, BodyConfig(max_bytes=10)), DeadlineConfig()), HeaderConfig())
    headers = [(b"content-length", b"10"), (b"content-encoding", b"identity")]
    assert ask(guarded, scope_of(headers), parts(b"12345", b"67890"))[::2] == (200, 10)


def test_an_announced_size_is_refused_before_anything_is_read() -> None:
    app = Heard()
    answer = ask(BodyLimit(app, BodyConfig(max_bytes=10)), scope_of([(b"content-length", b"11")]))
    failed(answer, 413, "too_large")
    assert answer[1][b"connection"] == b"close"
    assert not app.called


@pytest.mark.parametrize("length", [None, b"3", b"-5", b"x", b"9" * 30, "١٢".encode()])
def test_what_comes_is_counted_whatever_was_announced(length: bytes | None) -> None:
    app = Heard()
    headers = [(b"content-length", length)] if length else []
    failed(
        ask(BodyLimit(app, BodyConfig(max_bytes=10)), scope_of(headers), parts(b"12345", b"67890", b"1", b"2")),
        413,
        "too_large",
    )
    assert app.body == b"1234567890"
    assert app.disconnected


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"deflate", b"GZIP", b"identity, gzip", b"zstd", b"x"])
def test_a_compressed_body_is_refused(encoding: bytes) -> None:
    app = Heard()
    headers = [(b"content-encoding", b"identity"), (b"content-encoding", encoding)]
    failed(ask(BodyLimit(app, BodyConfig(max_bytes=10)), scope_of(headers)), 415, "unsupported_encoding")
    assert not app.called


@given(st.lists(st.binary(max_size=8), max_size=12), st.integers(1, 30))
def test_exactly_what_is_too_large_is_refused(chunks: list[bytes], limit: int) -> None:
    app = Heard()
    status, _, _ = ask(BodyLimit(app, BodyConfig(max_bytes=limit)), scope_of(), parts(*chunks))
    size = sum(map(len, chunks))
    assert status == (200 if size <= limit else 413)
    assert len(app.body) <= limit


def test_a_slow_client_is_given_up() -> None:
    async def stalls() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    app = Heard()
    began = time.perf_counter()
    failed(ask(BodyDeadline(app, DeadlineConfig(seconds=0.1)), scope_of(), stalls), 408, "timeout")
    assert time.perf_counter() - began < 10
    assert app.disconnected
    assert app.body


def test_a_slow_application_is_not_the_clients_fault() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        await Heard()(scope, receive, send)

    assert ask(BodyDeadline(slow, DeadlineConfig(seconds=0.02)), scope_of(), parts(b"12"))[::2] == (200, 2)


def test_waiting_for_a_disconnect_has_no_deadline() -> None:
    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1"})

    whole = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if whole:
            return whole.pop()
        await asyncio.sleep(60)
        raise AssertionError

    assert ask(BodyDeadline(listening, DeadlineConfig(seconds=0.02)), scope_of(), receive)[0] == 200


def test_an_error_of_the_applications_is_not_hidden() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    for app in (BodyDeadline(broken, DeadlineConfig()), BodyLimit(broken, BodyConfig(max_bytes=1))):
        with pytest.raises(ZeroDivisionError):
            ask(app, scope_of())


@pytest.mark.parametrize(
    ("scope", "status", "code"),
    [
        (scope_of([(b"x", b"")] * 65), 431, "headers_too_large"),
        (scope_of([(b"x", b"y" * 20_000)]), 431, "headers_too_large"),
        (scope_of([(b"x" * 20_000, b"")]), 431, "headers_too_large"),
        (scope_of(path="/" + "a" * 5000), 414, "target_too_long"),
        (scope_of(query_string=b"q" * 5000), 414, "target_too_long"),
    ],
)
def test_headers_and_target_are_bounded(scope: Scope, status: int, code: str) -> None:
    app = Heard()
    failed(ask(HeaderLimit(app, HeaderConfig()), scope), status, code)
    assert not app.called


def test_so_many_requests_at_a_time() -> None:
    gate = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/healthz":
            await gate.wait()
        await Heard()(scope, receive, send)

    app = ConcurrencyLimit(waiting, ConcurrencyConfig(max_requests=3, exempt=frozenset({"/healthz"})))

    async def one(path: str = "/v1/score") -> tuple[int, dict[bytes, bytes]]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope_of(path=path), parts(b""), send)  # type: ignore[arg-type]
        return sent[0]["status"], dict(sent[0]["headers"])

    async def crowd() -> None:
        first = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(0)
        assert app.running == 3
        status, headers = await one()
        assert (status, headers[b"retry-after"]) == (429, b"1")
        assert (await one("/healthz"))[0] == 200
        first[0].cancel()
        await asyncio.sleep(0)
        assert app.running == 2
        gate.set()
        assert [status for status, _ in await asyncio.gather(*first[1:], one())] == [200] * 3
        assert app.running == 0

    asyncio.run(crowd())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"host", b"localhost:8000")], 200),
        ([(b"host", b"127.0.0.1")], 200),
        ([(b"host", b"[::1]:8000"), (b"origin", b"http://localhost:8000")], 200),
        ([(b"host", b"rebound.example:8000")], 403),
        ([(b"host", b"localhost.evil.example")], 403),
        ([(b"host", b"localhost:8000"), (b"origin", b"https://evil.example")], 403),
        ([(b"host", b"localhost:8000"), (b"origin", b"null")], 403),
        ([(b"host", b"[")], 403),
        ([(b"host", b"127.0.0.1:8000"), (b"x-forwarded-for", b"203.0.113.9")], 403),
        ([(b"host", b"127.0.0.1:8000"), (b"forwarded", b"for=203.0.113.9")], 403),
        ([(b"host", b"127.0.0.1:8000"), (b"x-real-ip", b"203.0.113.9")], 403),
        ([], 403),
    ],
)
def test_without_keys_no_page_of_another_site_may_call(headers: Headers, status: int) -> None:
    app = Heard()
    assert ask(LocalOnly(app), scope_of(headers))[0] == status
    assert app.called is (status == 200)


def test_other_protocols_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    for guarded in (
        HeaderLimit(app, HeaderConfig()),
        ConcurrencyLimit(app, ConcurrencyConfig(max_requests=1)),
        BodyDeadline(app, DeadlineConfig()),
        BodyLimit(app, BodyConfig(max_bytes=1)),
        LocalOnly(app),
    ):
        asyncio.run(guarded({"type": "lifespan"}, parts(b""), None))  # type: ignore[arg-type]
    assert seen == ["lifespan"] * 5


@pytest.mark.parametrize("bad", [b"", b"a b", b"x" * 65, b"a\r\nset-cookie: x", "é".encode()])
def test_a_request_keeps_a_plain_number_and_gets_one_otherwise(bad: bytes) -> None:
    scope = scope_of([(b"x-request-id", b"abc-1")])
    assert request_id(scope) == request_id(scope) == "abc-1"
    assert scope["state"]["request_id"] == "abc-1"
    other = scope_of([(b"x-request-id", bad)])
    assert request_id(other) == request_id(other)
    assert len(request_id(other)) == 32


def test_no_connection_header_where_the_protocol_has_none() -> None:
    scope = scope_of([(b"content-length", b"11")], http_version="2")
    assert b"connection" not in ask(BodyLimit(Heard(), BodyConfig(max_bytes=10)), scope)[1]


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError):
        BodyConfig(max_bytes=0)
    with pytest.raises(ValidationError):
        DeadlineConfig(minutes=1)  # type: ignore[call-arg]


def deep(value: Any) -> int:
    """How deep a decoded JSON value is nested."""
    if isinstance(value, dict):
        return 1 + max(map(deep, value.values()), default=0)
    return 1 + max(map(deep, value), default=0) if isinstance(value, list) else 0


TEXT = st.text() | st.text(alphabet='[]{}"\\ab', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=30,
)


@given(JSON, st.booleans())
def test_depth_is_what_a_parser_finds(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    depth = deep(json.loads(body.decode("utf-8", "surrogatepass")))
    check_depth(body, depth)
    if depth:
        with pytest.raises(TooDeep):
            check_depth(body, depth - 1)


@given(st.binary() | st.text(alphabet='[]{}",:\\1').map(str.encode), st.integers(0, 5))
def test_depth_of_anything_raises_nothing_else(body: bytes, limit: int) -> None:
    try:
        check_depth(body, limit)
    except TooDeep:
        assert body.count(b"[") + body.count(b"{") > limit


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 2_000_000,
        b"[" * 1_000_000 + b"]" * 1_000_000,
        b'{"a":' * 400_000,
        b'"\\' + b"[" * 100 + b'"' + b"[" * 9,
    ],
    ids=["open", "closed", "objects", "after a string"],
)
def test_deep_nesting_is_found(body: bytes) -> None:
    with pytest.raises(TooDeep):
        check_depth(body, 8)


@pytest.mark.parametrize(
    "body",
    [b"[" * 8, b"[],".join([b"{}"] * 500_000), b'["' + b"[" * 2_000_000, b'["' + b"\\[" * 1_000_000],
    ids=["few", "wide", "quoted", "escaped"],
)
def test_what_is_wide_or_quoted_is_not_deep_and_soon_seen(body: bytes) -> None:
    began = time.perf_counter()
    check_depth(body, 8)
    assert time.perf_counter() - began < 2


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with all the limits over an application of FastAPI's, with a middleware of its kind in between."""
    inner = FastAPI()

    @inner.middleware("http")
    async def passing(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    @inner.post("/size")
    async def size(request: Request) -> JSONResponse:
        return JSONResponse(len(await request.body()))

    limited = BodyDeadline(BodyLimit(inner, BodyConfig(max_bytes=100_000)), DeadlineConfig(seconds=1))
    config = uvicorn.Config(HeaderLimit(limited, HeaderConfig()), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def exchange(port: int, *sent: bytes) -> bytes:
    """All that the server says until it closes the connection, having been sent this."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as client:
        for part in sent:
            try:
                client.sendall(part)
            except ConnectionError:
                break  # the server has heard enough
        said = b""
        while part := client.recv(65_536):
            said += part
        return said


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /size HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]).encode()


def test_a_server_takes_a_body_within_the_limits(port: int) -> None:
    said = exchange(port, head("Content-Length: 100000"), b"x" * 100_000)
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"\r\n\r\n100000")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([head("Content-Length: 100001")], b"413"),
        (
            [head("Transfer-Encoding: chunked"), b"10000\r\n" + b"x" * 65_536 + b"\r\n", b"10000\r\n" + b"x" * 65_536],
            b"413",
        ),
        ([head("Content-Length: 100")], b"408"),
        ([head("Content-Length: 100"), b"half"], b"408"),
        ([head("Transfer-Encoding: chunked"), b"5\r\nab"], b"408"),
        ([head("Content-Encoding: gzip", "Content-Length: 3"), b"\x1f\x8b\x08"], b"415"),
        ([head(*[f"x-{n}: 1" for n in range(80)], "Content-Length: 0")], b"431"),
    ],
)
def test_a_server_refuses_and_closes(port: int, sent: list[bytes], status: bytes) -> None:
    said = exchange(port, *sent)
    assert said.startswith(b"HTTP/1.1 " + status)
    assert said.count(b"HTTP/1.1") == 1
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["request_id"]


def test_a_refusal_is_heard_though_much_was_sent(port: int) -> None:
    said = exchange(port, head("Content-Length: 20000000"), b"x" * 20_000_000)
    assert said.startswith(b"HTTP/1.1 413")


def test_refuse_writes_what_headers_it_is_given() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await refuse(scope, send, 401, "unauthenticated", "no key", [("www-authenticate", "Bearer")])

    answer = ask(app, scope_of())
    failed(answer, 401, "unauthenticated")
    assert answer[1][b"www-authenticate"] == b"Bearer"
