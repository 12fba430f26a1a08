"""The server's end and its limits, over real sockets: what is under way finishes, and nothing holds the process."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from serving.operation.drain import Drain
from tests.conftest import ROOT

QUICK = {"drain_delay_s": 0.5, "drain_timeout_s": 3.0}


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path, trust_env=False, timeout=20)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def told(self, sig: int) -> None:
        self.process.send_signal(sig)

    def end(self, timeout: float = 10) -> tuple[int, str]:
        """Exit status and what was said."""
        said = self.process.communicate(timeout=timeout)[1]
        return self.process.returncode, said


@contextmanager
def served(**settings: Any) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.serving.operation.served", json.dumps({**QUICK, **settings})]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "http://" in line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found
        yield Served(process, int(found[1]))
    finally:
        process.kill()
        process.communicate()


def test_sigterm_lets_requests_finish_and_exits_with_0() -> None:
    with served() as server, ThreadPoolExecutor() as pool:
        under_way = pool.submit(server.get, "/slow?s=1.5")
        stream = pool.submit(server.get, "/stream")
        time.sleep(0.3)
        began = time.monotonic()
        server.told(signal.SIGTERM)
        time.sleep(0.25)
        with server.connect() as late:
            late.sendall(b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n")
            assert everything(late).startswith(b"HTTP/1.1 503")  # and nothing more: the connection was not kept
        assert under_way.result().json() == {"done": True}
        assert stream.result().text == ": hello\n\n: goodbye\n\n"
        status, said = server.end()
        assert status == 0, said
        assert time.monotonic() - began < QUICK["drain_delay_s"] + QUICK["drain_timeout_s"]
        assert said.index("draining") < said.index("flushed")
        assert "Traceback" not in said
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_sigint_does_not_wait_for_load_balancers() -> None:
    with served(drain_delay_s=30) as server:
        assert server.get("/ready").status_code == 200
        began = time.monotonic()
        server.told(signal.SIGINT)
        assert server.end()[0] == 0
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(second: signal.Signals) -> None:
    with served(drain_delay_s=30) as server, ThreadPoolExecutor() as pool:
        pool.submit(server.get, "/slow?s=20")
        time.sleep(0.3)
        server.told(signal.SIGTERM)
        time.sleep(0.2)
        began = time.monotonic()
        server.told(second)
        assert server.end()[0] == -second
        assert time.monotonic() - began < 1


def test_a_request_that_takes_too_long_is_cut_off() -> None:
    with served(drain_delay_s=0, drain_timeout_s=2) as server, ThreadPoolExecutor() as pool:
        pool.submit(server.get, "/slow?s=60")
        time.sleep(0.3)
        began = time.monotonic()
        server.told(signal.SIGTERM)
        status, said = server.end()
        assert status == 0, said
        assert time.monotonic() - began < 2.5
        assert "flushed" in said


@pytest.mark.parametrize("path", ["/block", "/stuck"])
def test_nothing_holds_the_process_longer_than_it_may_take(path: str) -> None:
    with served(drain_delay_s=0, drain_timeout_s=1) as server, ThreadPoolExecutor() as pool:
        pool.submit(server.get, path)
        time.sleep(0.3)
        began = time.monotonic()
        server.told(signal.SIGTERM)
        status, said = server.end()
        assert (status, "Timeout" in said) == (1, True), said
        assert time.monotonic() - began < 3.5


def test_idle_and_half_sent_connections_do_not_hold_up_the_end() -> None:
    with (
        served(drain_delay_s=0) as server,
        server.connect() as idle,
        server.connect() as head,
        server.connect() as body,
    ):
        head.sendall(b"GET /ready HT")
        body.sendall(b"POST /slow?s=0 HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf")
        time.sleep(0.2)
        began = time.monotonic()
        server.told(signal.SIGTERM)
        assert idle.recv(100) == b""
        assert server.end()[0] == 0
        assert time.monotonic() - began < 3.5


def refused(answer: bytes) -> tuple[int, str]:
    """Status and code of a failure in the API's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "field", "request_id"}
    return int(head.split()[1]), error["code"]


def drip(connection: socket.socket, piece: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(piece)
        time.sleep(0.002)


def everything(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


@pytest.fixture(scope="module")
def limited() -> Iterator[Served]:
    with served(head_timeout_s=0.5, max_head_bytes=4096, keep_alive_s=1) as server:
        yield server


def test_a_head_that_never_comes_ends_the_connection(limited: Served) -> None:
    with limited.connect() as connection:
        began = time.monotonic()
        assert everything(connection) == b""
        assert time.monotonic() - began < 2


def test_a_head_that_drips_is_refused(limited: Served) -> None:
    with limited.connect() as connection:
        for letter in (b"G", b"E", b"T"):
            connection.sendall(letter)
            time.sleep(0.1)
        assert refused(everything(connection)) == (408, "timeout")


def test_a_head_without_end_is_refused(limited: Served) -> None:
    with limited.connect() as connection:
        connection.sendall(b"GET /ready HTTP/1.1\r\n")
        answer = b""
        try:
            drip(connection, b"x: " + b"y" * 100 + b"\r\n", 200)
            answer = everything(connection)
        except (BrokenPipeError, ConnectionResetError):
            return  # it stopped listening
        assert refused(answer)[0] in (400, 431)


def test_a_second_head_is_bounded_while_the_first_answer_lasts(limited: Served) -> None:
    with limited.connect() as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
        connection.recv(1000)
        connection.sendall(b"GET /ready HTTP/1.1\r\nx: ")
        time.sleep(0.8)
        assert limited.get("/ready").status_code == 200
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(connection, b"y" * 1000, 100)


def test_a_long_body_in_pieces_and_a_slow_answer_are_not_taken_for_a_head(limited: Served) -> None:
    with limited.connect() as connection:
        for _ in range(2):
            connection.sendall(b"POST /slow?s=0.8 HTTP/1.1\r\nhost: a\r\ncontent-length: 40000\r\n\r\n")
            drip(connection, b"z" * 10_000, 4)
            answer = connection.recv(4096)
            while not answer.endswith(b'{"done":true}') and (more := connection.recv(4096)):
                answer += more
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert answer.endswith(b'{"done":true}')


def test_nothing_is_written_into_an_answer_that_is_on_its_way(limited: Served) -> None:
    with limited.connect() as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
        time.sleep(0.2)
        connection.sendall(b"\0garbage\r\n\r\n")
        assert everything(connection).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "garbage", [b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /a b c HTTP/9\r\n\r\n"]
)
def test_what_is_not_http_is_refused_in_the_apis_shape(limited: Served, garbage: bytes) -> None:
    with limited.connect() as connection:
        connection.sendall(garbage)
        assert refused(everything(connection)) == (400, "bad_request")


def test_a_connection_serves_many_requests_with_heads_in_pieces(limited: Served) -> None:
    with limited.connect() as connection:
        for _ in range(5):
            for piece in (b"GET /rea", b"dy HTTP/1.1\r\nho", b"st: a\r\n\r\n"):
                connection.sendall(piece)
                time.sleep(0.02)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.2)


def test_an_address_that_is_taken_is_an_error(limited: Served) -> None:
    code = (
        "from serving.operation.server import *; d = Drain();"
        f"serve(lambda *a: None, '127.0.0.1', {limited.port}, ServerConfig(), d)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "address already in use" in done.stderr


def test_everyone_is_told_of_a_drain_once() -> None:
    drain, told = Drain(), []

    def broken() -> None:
        raise RuntimeError("not me")

    drain.when_begun(broken)
    drain.when_begun(lambda: told.append("early"))
    drain.begin()
    drain.begin()
    drain.when_begun(lambda: told.append("late"))
    assert told == ["early", "late"]
