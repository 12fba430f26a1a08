"""The load generator: a process of its own that sends requests when they are due, not when the server is free.

    python -m benchmarks.load PLAN.json

Open loop: arrivals are Poisson, their times drawn beforehand, and latency counts from the time a request was due, so
that a slow server cannot slow the questions down (no coordinated omission). Closed loop, for comparing two paths of one
server: so many writers, each sends its next request when the last is answered.

Timers tick in milliseconds, so a request leaves up to one after it was due; `sent` says when it did. Knows nothing of
what it sends. HTTP/1.1 over kept-alive connections, one request at a time on each, no TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import time
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.config import Config

LEAD = 0.3  # seconds between being ready and the first arrival
SWEEP = 0.1  # seconds between looks for requests that took too long
FAILED, TIMED_OUT, NOT_SENT = 0, -1, -2  # in the place of an HTTP status

Floats = NDArray[np.float64]


class Phase(Config):
    """So many requests a second for so long."""

    rate: float = Field(gt=0)
    seconds: float = Field(gt=0)


class Plan(Config):
    """One run: where to, what, when, and where the outcome goes."""

    host: str
    port: int
    requests: Path = Field(description="JSON lines of [method, path, body], used in order, then again")
    outcome: Path
    phases: tuple[Phase, ...] = Field(default=(), description="open loop")
    writers: int = Field(default=0, ge=0, description="closed loop, instead of phases")
    seconds: float = Field(default=0.0, ge=0, description="how long the closed loop lasts")
    seed: int = 0
    warm_connections: int = Field(default=64, ge=0)
    max_connections: int = Field(default=800, ge=1)
    timeout: float = Field(default=10.0, gt=0, description="seconds after a request was due until it is given up")


def arrivals(phases: tuple[Phase, ...], seed: int) -> Floats:
    """When each request is due, in seconds from the start: each phase a Poisson process, given how many arrive in it.

    The number is fixed, so that what is offered is what was asked for; given the number, arrivals are uniform.
    """
    draw, start, times = np.random.default_rng(seed), 0.0, [np.empty(0)]
    for phase in phases:
        times.append(start + np.sort(draw.uniform(0, phase.seconds, round(phase.rate * phase.seconds))))
        start += phase.seconds
    return np.concatenate(times)


def rendered(path: Path, host: str) -> list[bytes]:
    """The requests as they go over the wire."""
    whole = []
    for line in path.read_bytes().splitlines():
        method, target, body = json.loads(line)
        content = body.encode()
        head = f"{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(content)}\r\n"
        whole.append(head.encode() + b"content-type: application/json\r\naccept: application/json\r\n\r\n" + content)
    return whole


class Response:
    """One response, read as it comes: its status, Retry-After, and when it is whole. No HEAD, no 1xx, no 204."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None  # None: chunked
        self._body = -1  # where the body begins, -1 before it is known
        self.status = FAILED
        self.retry_after = float("nan")
        self.closes = False

    def feed(self, data: bytes) -> bool:
        """Take data; whether the response is whole. Raises ValueError for what is no such response."""
        self._buffer += data
        if self._body < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._read_head(bytes(self._buffer[:end]))
            self._body = end + 4
        if self._length is None:
            return self._buffer.endswith(b"\r\n0\r\n\r\n")
        return len(self._buffer) - self._body >= self._length

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        self.status = int(first.split(b" ", 2)[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if b"chunked" not in fields.get(b"transfer-encoding", b""):
            self._length = int(fields.get(b"content-length", b"0"))
        self.closes = fields.get(b"connection", b"").lower() == b"close"
        if b"retry-after" in fields:
            self.retry_after = float(fields[b"retry-after"])


class Outcome:
    """What became of each request; times in seconds from the start."""

    def __init__(self, capacity: int) -> None:
        self.due = np.full(capacity, np.nan)
        self.sent = np.full(capacity, np.nan)
        self.done = np.full(capacity, np.nan)
        self.status = np.full(capacity, NOT_SENT, dtype=np.int16)
        self.retry_after = np.full(capacity, np.nan)

    def save(self, path: Path, count: int, started: float) -> None:
        """Write the first `count` requests and when it all started, on the machine's monotonic clock."""
        names = ("due", "sent", "done", "status", "retry_after")
        np.savez(path, started=started, **{name: getattr(self, name)[:count] for name in names})


class Connection(asyncio.Protocol):
    """One kept-alive connection of the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._response = Response()
        self.transport: asyncio.Transport | None = None
        self.number = -1  # of the request on its way, -1 when idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, number: int, content: bytes) -> None:
        """Send request `number`."""
        assert self.transport is not None
        self.number, self._response = number, Response()
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        try:
            whole = self._response.feed(data)
        except (ValueError, IndexError):
            self.give_up(FAILED)
            return
        if whole and self.number >= 0:
            number, self.number = self.number, -1
            self._pool.answered(self, number, self._response)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        if self.number >= 0:
            number, self.number = self.number, -1
            self._pool.failed(number, FAILED)

    def give_up(self, status: int) -> None:
        """Close the connection; its request ends with this status."""
        number, self.number = self.number, -1
        if self.transport is not None:
            self.transport.abort()
        if number >= 0:
            self._pool.failed(number, status)


class Pool:
    """Connections, those that are idle, and the requests that wait for one."""

    def __init__(self, plan: Plan, requests: list[bytes], outcome: Outcome) -> None:
        self.plan, self.requests, self.outcome = plan, requests, outcome
        self.started = 0.0
        self.open = 0
        self.pending = 0
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._waiting: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        """Seconds from the start."""
        return time.monotonic() - self.started

    async def warm(self, count: int) -> None:
        """Open connections before they are needed. Raises OSError."""
        await asyncio.gather(*(self._open() for _ in range(count)))

    def submit(self, number: int, due: float) -> None:
        """Send request `number`, which is due, on an idle connection or a new one, or let it wait."""
        self.outcome.due[number] = due
        self.pending += 1
        if self._idle:
            self._send(self._idle.pop(), number)
            return
        self._waiting.append(number)
        if self.open < self.plan.max_connections:
            task = asyncio.ensure_future(self._try_to_open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def answered(self, connection: Connection, number: int, response: Response) -> None:
        """A whole response came."""
        self.outcome.retry_after[number] = response.retry_after
        self._settle(number, response.status)
        if response.closes:
            connection.give_up(FAILED)
        else:
            self._put_to_use(connection)

    def failed(self, number: int, status: int) -> None:
        """A request came to nothing."""
        self._settle(number, status)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection in self._all:
            self._all.discard(connection)
            self.open -= 1
            if connection in self._idle:
                self._idle.remove(connection)

    def sweep(self) -> None:
        """Give up what was due too long ago."""
        oldest = self.now() - self.plan.timeout
        while self._waiting and self.outcome.due[self._waiting[0]] < oldest:
            self._settle(self._waiting.popleft(), TIMED_OUT)
        for connection in [c for c in self._all if c.number >= 0 and self.outcome.due[c.number] < oldest]:
            connection.give_up(TIMED_OUT)

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            connection.give_up(TIMED_OUT)

    def _settle(self, number: int, status: int) -> None:
        self.outcome.done[number] = self.now()
        self.outcome.status[number] = status
        self.pending -= 1
        self.settled(number)

    def settled(self, number: int) -> None:
        """For a closed loop: called when a request has ended."""

    def _send(self, connection: Connection, number: int) -> None:
        self.outcome.sent[number] = self.now()
        connection.send(number, self.requests[number % len(self.requests)])

    def _put_to_use(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    async def _open(self) -> None:
        self.open += 1
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(self), self.plan.host, self.plan.port)
        except OSError:
            self.open -= 1
            raise
        self._all.add(connection)
        self._put_to_use(connection)

    async def _try_to_open(self) -> None:
        try:
            await self._open()
        except OSError:
            if self._waiting:
                self.failed(self._waiting.popleft(), FAILED)


class Writers(Pool):
    """A pool whose requests follow each other: the closed loop."""

    def __init__(self, plan: Plan, requests: list[bytes], outcome: Outcome) -> None:
        super().__init__(plan, requests, outcome)
        self.next = 0

    def begin(self) -> None:
        """Each writer's first request."""
        for _ in range(self.plan.writers):
            self._follow()

    def settled(self, number: int) -> None:
        asyncio.get_running_loop().call_soon(self._follow)

    def _follow(self) -> None:
        if self.now() < self.plan.seconds and self.next < len(self.outcome.due):
            number, self.next = self.next, self.next + 1
            self.submit(number, self.now())


async def run_open(plan: Plan, requests: list[bytes]) -> tuple[Outcome, int, float]:
    """Send every request when it is due; the outcome, how many, and when it started."""
    times = arrivals(plan.phases, plan.seed)
    pool = Pool(plan, requests, Outcome(len(times)))
    await pool.warm(plan.warm_connections)
    pool.started = time.monotonic() + LEAD
    sweeper = asyncio.ensure_future(_sweep(pool))
    for number, due in enumerate(times.tolist()):
        if (wait := due - pool.now()) > 0:
            await asyncio.sleep(wait)
        pool.submit(number, due)
    await _finish(pool, sweeper)
    return pool.outcome, len(times), pool.started


async def run_closed(plan: Plan, requests: list[bytes]) -> tuple[Outcome, int, float]:
    """Let the writers write; the outcome, how many requests there were, and when it started."""
    pool = Writers(plan, requests, Outcome(len(requests)))
    await pool.warm(plan.writers)
    pool.started = time.monotonic()
    sweeper = asyncio.ensure_future(_sweep(pool))
    pool.begin()
    await asyncio.sleep(plan.seconds)
    await _finish(pool, sweeper)
    return pool.outcome, pool.next, pool.started


async def _sweep(pool: Pool) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        pool.sweep()


async def _finish(pool: Pool, sweeper: asyncio.Task[None]) -> None:
    until = time.monotonic() + pool.plan.timeout + 1
    while pool.pending and time.monotonic() < until:
        await asyncio.sleep(0.01)
    sweeper.cancel()
    pool.close()


def run(plan: Plan) -> dict[str, float]:
    """Carry out a plan; how many requests it sent and what that cost."""
    requests = rendered(plan.requests, f"{plan.host}:{plan.port}")
    gc.freeze()  # what was loaded stays: looking through it would be a pause in the arrivals
    before = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.monotonic()
    outcome, count, started = asyncio.run(run_closed(plan, requests) if plan.writers else run_open(plan, requests))
    after = resource.getrusage(resource.RUSAGE_SELF)
    outcome.save(plan.outcome, count, started)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"requests": count, "cpu_seconds": cpu, "wall_seconds": time.monotonic() - wall}


def main() -> None:
    """Read the plan, carry it out."""
    parser = argparse.ArgumentParser(description="Send requests on schedule.")
    parser.add_argument("plan", type=Path)
    plan = Plan.model_validate_json(parser.parse_args().plan.read_bytes())
    print(json.dumps(run(plan)))


if __name__ == "__main__":
    main()
