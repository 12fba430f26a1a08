"""The load generator: it asks when it is due, whatever the server does, and says truly what became of each request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load import FAILED, TIMED_OUT, Phase, Plan, Response, arrivals, run

HOLD = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("hang"):
            HOLD.wait(5)
        body = b"{}"
        self.send_response(asked.get("status", 200))
        if "retry" in asked:
            self.send_header("retry-after", asked["retry"])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        HOLD.set()
        server.shutdown()


def outcome(tmp_path: Path, port: int, bodies: list[Any], **given: Any) -> dict[str, Any]:
    requests = tmp_path / "requests.jsonl"
    requests.write_text("\n".join(json.dumps(["POST", "/", json.dumps(body)]) for body in bodies), encoding="utf-8")
    plan = Plan(
        host="127.0.0.1",
        port=port,
        requests=requests,
        outcome=tmp_path / "outcome.npz",
        warm_connections=2,
        **given,
    )
    cost = run(plan)
    assert cost["cpu_seconds"] > 0
    with np.load(plan.outcome) as found:
        return {name: found[name] for name in found.files}


def test_every_request_is_answered_and_timed_from_when_it_was_due(tmp_path: Path, port: int) -> None:
    found = outcome(tmp_path, port, [{}], phases=(Phase(rate=100, seconds=0.5),))
    assert (found["status"] == 200).all()
    assert len(found["due"]) == 50
    assert (found["sent"] >= found["due"]).all()
    assert (found["done"] >= found["sent"]).all()


def test_a_server_that_hangs_does_not_slow_the_questions_down(tmp_path: Path, port: int) -> None:
    found = outcome(tmp_path, port, [{"hang": True}], phases=(Phase(rate=60, seconds=0.5),), timeout=1.0)
    assert (found["status"] == TIMED_OUT).all()
    assert (found["sent"] - found["due"] < 0.4).all()
    assert (found["done"] - found["due"] >= 1.0).all()


def test_refusals_keep_their_status_and_when_to_come_back(tmp_path: Path, port: int) -> None:
    bodies = [{"status": 429, "retry": "3"}, {"status": 500}]
    found = outcome(tmp_path, port, bodies, phases=(Phase(rate=40, seconds=0.5),))
    assert set(found["status"].tolist()) == {429, 500}
    assert (found["retry_after"][found["status"] == 429] == 3).all()
    assert np.isnan(found["retry_after"][found["status"] == 500]).all()


def test_nobody_there_is_no_exception_once_it_runs(tmp_path: Path, port: int) -> None:
    found = outcome(tmp_path, port, [{}], phases=(Phase(rate=20, seconds=0.2),), max_connections=1)
    assert (found["status"] == 200).all()
    assert FAILED not in found["status"]


def test_a_closed_loop_asks_again_when_it_was_answered(tmp_path: Path, port: int) -> None:
    found = outcome(tmp_path, port, [{}] * 5000, writers=4, seconds=0.3)
    assert 4 < len(found["due"]) < 5000
    assert (found["status"] == 200).all()
    assert np.nanmax(found["due"]) <= 0.35


@given(st.lists(st.tuples(st.floats(1, 500), st.floats(0.1, 3)), max_size=4), st.integers(0, 99))
def test_arrivals_are_as_many_as_asked_in_order_and_within_their_phase(
    phases: list[tuple[float, float]], seed: int
) -> None:
    given_phases = tuple(Phase(rate=rate, seconds=seconds) for rate, seconds in phases)
    times = arrivals(given_phases, seed)
    assert len(times) == sum(round(rate * seconds) for rate, seconds in phases)
    assert (np.diff(times) >= 0).all()
    assert not len(times) or 0 <= times[0] <= times[-1] <= sum(seconds for _, seconds in phases)
    assert (arrivals(given_phases, seed) == times).all()


WHOLE = (
    b"HTTP/1.1 503 no\r\nContent-Length: 4\r\nRetry-After: 2\r\n\r\nbody",
    b"HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\nRetry-After: 2\r\nConnection: close\r\n\r\n"
    b"4\r\nbody\r\n0\r\n\r\n",
)


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 120), max_size=6))
def test_a_response_may_come_in_any_pieces(whole: bytes, cuts: list[int]) -> None:
    response = Response()
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    found = [response.feed(whole[start:end]) for start, end in pairwise(edges)]
    assert found[-1]
    assert not any(done for done, end in zip(found, edges[1:], strict=True) if end < len(whole))
    assert (response.status, response.retry_after) == (503, 2)
    assert response.closes == (b"close" in whole)
