"""Measurements of one running server under load: what was asked, answered and refused, when, and at what cost.

Figures come from two sides that share no clock but the machine's: the load generator says when each request was due and
done, the kernel says what the server spent and held meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Phase, Plan
from benchmarks.servers import HOST, Request, Running, Server
from pipeline.config import ROOT

Floats = NDArray[np.float64]

LATE = 1.0  # seconds; an answer later than this is no use to who asked
SUSTAINED = 0.98  # share of what was offered that must be answered
BACKLOG = 0.25  # seconds after the last arrival by which a server that keeps up has answered
WATCH_EVERY = 0.1  # seconds between looks at the server's memory
CLOSED_LOOP_MOST = 2500  # requests a second of a closed loop for which requests are made ready


@dataclass(frozen=True)
class Run:
    """What became of each request of one run, times in seconds from its start, and what it cost."""

    due: Floats
    sent: Floats
    done: Floats
    status: NDArray[np.int16]
    retry_after: Floats
    server_cpu: float
    client_cpu: float
    memory: tuple[tuple[float, int], ...]  # (seconds from the start, resident bytes)

    @property
    def good(self) -> NDArray[np.bool_]:
        """Answered, and not with a refusal."""
        return np.asarray((self.status >= 200) & (self.status < 300))

    @property
    def useful(self) -> NDArray[np.bool_]:
        """Answered well within a second of being due."""
        return np.asarray(self.good & (self.latency <= LATE))

    @property
    def latency(self) -> Floats:
        """Seconds from being due to being done."""
        return np.asarray(self.done - self.due)

    def between(self, start: float, end: float) -> Run:
        """The requests that were due in a span of time; costs are the whole run's."""
        chosen = (self.due >= start) & (self.due < end)
        names = ("due", "sent", "done", "status", "retry_after")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def quantile(self, share: float) -> float:
        """A quantile of the latency of good answers, in seconds; infinite where there is none."""
        return float(np.quantile(self.latency[self.good], share)) if self.good.any() else float("inf")

    def rate(self, seconds: float) -> float:
        """Useful answers a second."""
        return float(self.useful.sum()) / seconds

    def kept_up(self, seconds: float) -> bool:
        """Whether, over so many seconds, almost all was answered, 99 in 100 within a second, and no backlog grew."""
        if not len(self.due):
            return False
        in_time = self.good & (self.done <= seconds + BACKLOG)
        return float(in_time.mean()) >= SUSTAINED and self.quantile(0.99) <= LATE

    @property
    def per_cpu_second(self) -> float:
        """Good answers a second of the server's processor time."""
        return float(self.good.sum()) / self.server_cpu if self.server_cpu else float("nan")


class Messages:
    """Different messages, handed out once each, from the top again only when all were used."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._numbers = count()

    def take(self, number: int) -> list[tuple[str, str]]:
        """The next messages, each with an id of its own."""
        return [(f"m{n}", self._texts[n % len(self._texts)]) for n in islice(self._numbers, number)]


@dataclass(frozen=True)
class Bench:
    """One running server and what it is asked."""

    server: Server
    running: Running
    messages: Messages
    generator_cores: Sequence[int]

    def open_loop(self, *phases: Phase, seed: int = 0, timeout: float = 10.0) -> Run:
        """Poisson arrivals in phases."""
        most = int(sum(phase.rate * phase.seconds for phase in phases) * 1.2) + 200
        given: dict[str, Any] = {"phases": [phase.model_dump() for phase in phases], "seed": seed, "timeout": timeout}
        return self.run(self._asked(most), given)

    def closed_loop(self, writers: int, seconds: float) -> Run:
        """So many writers, each waiting for its answer before it asks again."""
        return self.run(self._asked(int(CLOSED_LOOP_MOST * seconds)), {"writers": writers, "seconds": seconds})

    def _asked(self, number: int) -> Iterator[Request]:
        return (self.server.ask(name, text) for name, text in self.messages.take(number))

    def run(self, requests: Iterable[Request], given: dict[str, Any]) -> Run:
        """Carry out a plan in a generator's process of its own."""
        with tempfile.TemporaryDirectory() as name, watching(self.running) as memory:
            folder = Path(name)
            lines = (json.dumps([r.method, r.path, r.body]) for r in requests)
            (folder / "requests.jsonl").write_text("\n".join(lines), encoding="utf-8")
            plan = Plan.model_validate(
                {
                    "host": HOST,
                    "port": self.running.port,
                    "requests": folder / "requests.jsonl",
                    "outcome": folder / "outcome.npz",
                    **given,
                }
            )
            before = self.running.cpu_seconds()
            client_cpu = generate(plan, folder, self.generator_cores)
            spent = self.running.cpu_seconds() - before
            with np.load(plan.outcome) as found:
                started = float(found["started"])
                arrays = {key: found[key] for key in ("due", "sent", "done", "status", "retry_after")}
        seen = tuple((at - started, held) for at, held in memory)
        return Run(**arrays, server_cpu=spent, client_cpu=client_cpu, memory=seen)


def generate(plan: Plan, folder: Path, cores: Sequence[int]) -> float:
    """Run the load generator on these cores; its processor seconds."""
    file = folder / "plan.json"
    file.write_text(plan.model_dump_json(), encoding="utf-8")
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "benchmarks.load", str(file)]
    longest = sum(phase.seconds for phase in plan.phases) + plan.seconds + plan.timeout + 60
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=longest)
    return float(json.loads(done.stdout)["cpu_seconds"])


@contextmanager
def watching(running: Running) -> Iterator[list[tuple[float, int]]]:
    """A list that fills with (monotonic time, resident bytes) while the block runs."""
    seen: list[tuple[float, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_EVERY):
            seen.append((time.monotonic(), running.resident_bytes()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
