"""Servers as processes: started on given cores, watched, and always stopped.

What a server costs is read from the kernel: processor time and resident memory of the process and all its children.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

HOST = "127.0.0.1"
PATIENCE = 120.0  # seconds until a server must be ready
GRACE = 10.0  # seconds a server gets to stop by itself
POLL = 0.02
LAST_WORDS = 1500  # characters of a server's output that an error quotes


class ServerFailed(RuntimeError):
    """A server that did not start; the message carries its last words."""


@dataclass(frozen=True)
class Request:
    """One request as the load generator sends it."""

    method: str
    path: str
    body: str = ""


@dataclass(frozen=True)
class Server:
    """How a server is started and asked: its command for a port, and its request for a message with an id."""

    name: str
    command: Callable[[int], Sequence[str]]
    ready: str
    ask: Callable[[str, str], Request]
    environment: Mapping[str, str] = field(default_factory=dict)


class Running:
    """A server that is up."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, seconds_to_ready: float) -> None:
        self.port = port
        self.address = f"http://{HOST}:{port}"
        self.seconds_to_ready = seconds_to_ready
        self._process = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system, of the process and its children, ended ones included."""
        return sum(self._cpu(one) for one in self._family())

    def resident_bytes(self) -> int:
        """Resident memory; pages that processes share count once each."""
        return sum(self._resident(one) for one in self._family())

    def alive(self) -> bool:
        """Whether the process still runs."""
        return bool(self._process.is_running()) and self._process.status() != psutil.STATUS_ZOMBIE

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _cpu(process: psutil.Process) -> float:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system + times.children_user + times.children_system)

    @staticmethod
    def _resident(process: psutil.Process) -> int:
        try:
            return int(process.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0


@contextmanager
def running(server: Server, cores: Sequence[int], logs: Path) -> Iterator[Running]:
    """The server on these cores, stopped afterwards with all its children. Raises ServerFailed."""
    port, log = free_port(), logs / f"{server.name}.log".replace(" ", "-")
    logs.mkdir(parents=True, exist_ok=True)
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *server.command(port)]
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            pinned,
            env={**os.environ, **server.environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_ready(f"http://{HOST}:{port}{server.ready}", process, log)
        yield Running(process, port, time.monotonic() - started)
    finally:
        stop(process)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the URL answers 200. Raises ServerFailed when the process ends or time runs out."""
    until = time.monotonic() + PATIENCE
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < until and process.poll() is None:
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(POLL)
    said = log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]
    raise ServerFailed(f"{log.stem} did not become ready: {said}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and every process it started: asked first, then made to."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
    process.wait(GRACE)
