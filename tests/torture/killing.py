"""Kill a server at random moments under load, and hold what it acknowledged against what it kept.

    ledger = Ledger()
    with Server(command, port) as server:
        kill_in_a_loop(server, ledger, rounds=3, writers=16)
        replay(server, ledger)
        ledger.check(kept_over_http(server))

Speaks the API's contract alone: POST /v1/conversations/{id}/messages acknowledges, GET /v1/conversations/{id} tells
what is kept, GET /readyz says when to begin. Knows no database.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent.parent
STARTS_WITHIN = 60.0  # seconds, on a busy machine
Kept = Callable[[str], Sequence[Mapping[str, Any]]]  # the turns of a conversation


@dataclass(frozen=True)
class Effort:
    """How long and how hard: short in continuous integration, long for `make torture`."""

    rounds: int
    writers: int
    seconds: float  # under load before each kill, at most

    @classmethod
    def asked(cls) -> Effort:
        """SIMMER_TORTURE=long, or the short one."""
        return cls(60, 64, 4.0) if os.environ.get("SIMMER_TORTURE") == "long" else cls(3, 16, 0.8)


@dataclass
class Ledger:
    """What was sent, and the answer to what was acknowledged, by (conversation, message)."""

    sent: dict[tuple[str, str], str] = field(default_factory=dict)
    acknowledged: dict[tuple[str, str], Any] = field(default_factory=dict)
    contradicted: list[tuple[str, str]] = field(default_factory=list)  # answered otherwise the second time

    def acknowledge(self, place: tuple[str, str], answer: dict[str, Any]) -> None:
        """Note an answer, which is the same each time a message is sent."""
        if _answer(self.acknowledged.setdefault(place, answer)) != _answer(answer):
            self.contradicted.append(place)

    def check(self, kept: Kept) -> None:
        """Every acknowledged message is kept once as it was sent; nothing is kept twice or was never sent."""
        lost, wrong = dict.fromkeys(self.acknowledged), []
        for conversation in sorted({conversation for conversation, _ in self.sent}):
            seen: set[str] = set()
            for turn in kept(conversation):
                place = (conversation, turn["id"])
                if turn["id"] in seen or self.sent.get(place) != turn["text"]:
                    wrong.append(place)
                seen.add(turn["id"])
                lost.pop(place, None)
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged messages are lost: {list(lost)[:5]}"
        assert not self.contradicted, f"answered otherwise the second time: {self.contradicted[:5]}"
        assert not wrong, f"kept twice or otherwise than sent: {wrong[:5]}"


@dataclass
class Server:
    """A server process on a port of loopback that can be killed and started again."""

    command: Sequence[str]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path(os.devnull)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start it and wait until it is ready; after how many seconds it was."""
        begun = time.monotonic()
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.environment}
            self._process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while not self._ready():
            assert self._process.poll() is None, f"the server ended: {_end(self.log)}"
            assert time.monotonic() - begun < STARTS_WITHIN, f"the server is not ready: {_end(self.log)}"
            time.sleep(0.05)
        return time.monotonic() - begun

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default without a chance to say good-bye."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(STARTS_WITHIN)
            self._process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


def kill_in_a_loop(
    server: Server, ledger: Ledger, effort: Effort, headers: Mapping[str, str] | None = None, seed: int | None = None
) -> None:
    """Load a server, kill it at a random moment and start it again, a number of rounds; acknowledgements are noted.

    A message without an answer is sent again under the same id, as a client would, after the next start.
    """
    chance = random.Random(seed)
    unanswered: list[tuple[str, str]] = []
    for turn in range(effort.rounds):
        load = Load(server.url, ledger, effort.writers, turn, unanswered, dict(headers or {}))
        load.start()
        load.wait()
        time.sleep(chance.uniform(0.0, effort.seconds))
        server.kill()
        unanswered = load.stop()
        server.start()
    last = Load(server.url, ledger, effort.writers, effort.rounds, unanswered, dict(headers or {}))
    last.start()
    last.wait()
    time.sleep(effort.seconds)
    last.stop()


def replay(server: Server, ledger: Ledger, most: int = 50, headers: Mapping[str, str] | None = None) -> None:
    """Send acknowledged messages again: each gets the answer it got the first time."""
    with httpx.Client(base_url=server.url, headers=dict(headers or {}), timeout=60, trust_env=False) as client:
        for (conversation, message), first in list(ledger.acknowledged.items())[-most:]:
            body = {"id": message, "role": "customer", "text": ledger.sent[conversation, message]}
            again = client.post(f"/v1/conversations/{conversation}/messages", json=body).raise_for_status().json()
            assert _answer(again) == _answer(first), f"{conversation} {message}:\n{first}\n{again}"


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    """What is said of a message; the conversation beside it is told as it is now."""
    return {name: value for name, value in body.items() if name != "conversation"}


@dataclass
class Load:
    """Writers that post messages one after the other, each to a conversation of its own and to a shared one."""

    url: str
    ledger: Ledger
    writers: int
    turn: int
    again: list[tuple[str, str]]
    headers: dict[str, str]
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _unanswered: list[tuple[str, str]] = field(default_factory=list)

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until something new was acknowledged: a slow machine is killed under load too."""
        known, until = len(self.ledger.acknowledged), time.monotonic() + STARTS_WITHIN
        while len(self.ledger.acknowledged) == known:
            assert time.monotonic() < until, "nothing was acknowledged"
            time.sleep(0.01)

    def stop(self) -> list[tuple[str, str]]:
        """End the load; the messages that were sent and got no answer."""
        self._ending.set()
        assert self._thread is not None
        self._thread.join(STARTS_WITHIN)
        return self._unanswered

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self.writers)
        async with httpx.AsyncClient(
            base_url=self.url, headers=self.headers, timeout=30, trust_env=False, limits=limits
        ) as client:
            share = [self.again[n :: self.writers] for n in range(self.writers)]
            await asyncio.gather(*(self._writer(client, n, share[n]) for n in range(self.writers)))

    async def _writer(self, client: httpx.AsyncClient, name: int, again: list[tuple[str, str]]) -> None:
        for place in again:
            await self._post(client, place)
        number = 0
        while not self._ending.is_set():
            conversation = "shared" if number % 5 == 0 else f"writer-{name}"
            place = (conversation, f"{self.turn}-{name}-{number}")
            if not await self._post(client, place):
                await asyncio.sleep(0.02)
            number += 1

    async def _post(self, client: httpx.AsyncClient, place: tuple[str, str]) -> bool:
        conversation, message = place
        text = self.ledger.sent.setdefault(place, f"Message {message} of {conversation}: still no refund!")
        body = {"id": message, "role": "customer", "text": text}
        try:
            answer = await client.post(f"/v1/conversations/{conversation}/messages", json=body)
        except httpx.HTTPError:
            self._unanswered.append(place)
            return False
        if answer.is_success:
            self.ledger.acknowledge(place, answer.json())
            return True
        assert answer.status_code in (429, 503), f"{answer.status_code}: {answer.text}"
        self._unanswered.append(place)
        return False


def kept_over_http(server: Server, headers: Mapping[str, str] | None = None) -> Kept:
    """What a server says that it keeps."""

    def kept(conversation: str) -> Sequence[Mapping[str, Any]]:
        url = f"{server.url}/v1/conversations/{conversation}"
        answer = httpx.get(url, headers=dict(headers or {}), timeout=60, trust_env=False)
        if answer.status_code == 404:
            return []
        turns: Sequence[Mapping[str, Any]] = answer.raise_for_status().json()["turns"]
        return turns

    return kept


def python(*arguments: str) -> list[str]:
    """The command of a Python program of the project."""
    return [sys.executable, *arguments]


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.is_file() else json.dumps(str(log))
