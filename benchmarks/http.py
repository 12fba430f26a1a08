"""Over HTTP: our server beside its peers, with arrivals that do not wait for answers.

    python -m benchmarks.http [--json build/bench/http.json] [--quick] [--ours] [--model models/current]

Rounds alternate between servers, so that noise hits all of them, and each server is started afresh in each round; the
figures are medians over rounds with the lowest and the highest. Later rounds are left out when time runs short.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.markup import escape
from tokenizers import Tokenizer

from benchmarks.bare import bare
from benchmarks.measure import Bench, Messages
from benchmarks.ours import NAME, durable, simmer
from benchmarks.overload import REFUSED, overload
from benchmarks.peers.installed import BENCH, Home, NotInstalled, install, peers, prepare
from benchmarks.saturation import Step, climb, step
from benchmarks.servers import Request, Running, Server, ServerFailed, running
from benchmarks.store import stored
from benchmarks.texts import different_messages
from pipeline.bundle import LAYOUT
from pipeline.config import Config
from pipeline.stage import MODELS, write_json

LOGS = BENCH / "logs"
WRITERS = 64
SERVER_CORES = 2
MESSAGES = 100_000


class Settings(Config):
    """How long everything takes."""

    rounds: int
    step_seconds: float
    single_seconds: float
    share_seconds: float  # at 70 % of our own saturation, and in each half of the durable comparison
    curve: tuple[float, ...]  # shares of saturation at which every server's latency is taken
    overload_seconds: float
    bare_seconds: float
    limit_seconds: float  # no round begins that would probably end after this


FULL = Settings(
    rounds=3,
    step_seconds=2.5,
    single_seconds=1.5,
    share_seconds=4,
    curve=(0.25, 0.5),
    overload_seconds=5,
    bare_seconds=2,
    limit_seconds=680,
)
QUICK = Settings(
    rounds=1,
    step_seconds=1.2,
    single_seconds=0.7,
    share_seconds=1.5,
    curve=(0.4,),
    overload_seconds=1.5,
    bare_seconds=1,
    limit_seconds=90,
)


@dataclass
class Findings:
    """Everything measured, ready for JSON: lists hold one entry a round."""

    machine: dict[str, Any]
    servers: dict[str, dict[str, list[Any]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    bare_per_cpu_second: list[float] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    store: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self) | {"servers": {name: dict(found) for name, found in self.servers.items()}}


class Missing(RuntimeError):
    """Something to be measured that this version of the server does not have."""


@dataclass(frozen=True)
class Place:
    """Which bundle is measured, on which cores, with what to say."""

    model: Path
    texts: Sequence[str]
    server_cores: tuple[int, ...]
    generator_cores: tuple[int, ...]
    settings: Settings
    console: Console

    def bench(self, server: Server, up: Running) -> Bench:
        return Bench(server, up, Messages(self.texts), self.generator_cores)


def cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The server's two cores, and the generator's: others where there are any, the same where not."""
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[:SERVER_CORES]), tuple(allowed[SERVER_CORES:] or allowed)


def measure(place: Place, others: Sequence[Server]) -> Findings:
    """All rounds that there is time for, then the store."""
    findings, begun, longest = Findings(machine()), time.monotonic(), 0.0
    for number in range(place.settings.rounds):
        started = time.monotonic()
        if started - begun + longest > place.settings.limit_seconds:
            findings.skipped["rounds"] = f"{number} of {place.settings.rounds}: time was short"
            break
        one_round(place, others, findings, number)
        longest = max(longest, time.monotonic() - started)
    with part("store", place, findings):
        found = stored(place.model, place.texts, place.server_cores, place.generator_cores, LOGS)
        findings.store = asdict(found)
    return findings


def one_round(place: Place, others: Sequence[Server], findings: Findings, number: int) -> None:
    """Ours and each peer, one after the other, the bare engine before and after."""
    measure_bare(place, findings)
    with tempfile.TemporaryDirectory() as name:
        ours = simmer(place.model, f"sqlite:///{name}/store.db")
        with part(NAME, place, findings):
            one_server(place, ours, findings, number)
        with part("durable", place, findings):
            compare_durable(place, ours, findings)
    for server in others:
        with part(server.name, place, findings):
            one_server(place, server, findings, number)
    measure_bare(place, findings)


def measure_bare(place: Place, findings: Findings) -> None:
    """The engine alone, on the server's cores."""
    findings.bare_per_cpu_second.append(bare(place.model, place.settings.bare_seconds, place.server_cores))


def one_server(place: Place, server: Server, findings: Findings, number: int) -> None:
    """One round of one server: alone, up to its limit, at 70 % and all of it, and at twice as much."""
    s, found = place.settings, findings.servers[server.name]
    with running(server, place.server_cores, LOGS) as up:
        bench = place.bench(server, up)
        bench.closed_loop(8, s.single_seconds)  # first requests are slow everywhere
        found["seconds_to_ready"].append(up.seconds_to_ready)
        found["single"].append(bench.closed_loop(1, s.single_seconds).quantile(0.5))
        climbed = climb(bench, s.step_seconds, number, expected(found))
        rate = climbed.saturation
        place.console.print(f"round {number + 1}: {server.name} keeps up with {rate:.0f} a second")
        if not rate:
            raise Missing("it kept up with no rate that was tried")
        found["saturation"].append(rate)
        found["curve"] += [figures(one) for one in climbed.steps]
        found["at_100"].append(figures(step(bench, rate, s.share_seconds, number)))
        if number == 0:
            found["curve"] += [figures(step(bench, share * rate, s.step_seconds, number)) for share in s.curve]
        if server.name == NAME:
            found["at_70"].append(figures(step(bench, 0.7 * rate, s.share_seconds, number)))
        if server.name == NAME or number == 0:
            found["overload"].append(asdict(overload(bench, rate, s.overload_seconds, number)))
        found["resident_bytes"].append(up.resident_bytes())


def expected(found: dict[str, list[Any]]) -> float | None:
    """The saturation of earlier rounds, where there were any."""
    return statistics.median(found["saturation"]) if found["saturation"] else None


def figures(taken: Step) -> dict[str, Any]:
    """One step in numbers. Latencies in seconds."""
    run = taken.run
    return {
        "offered": taken.offered,
        "sustained": taken.sustained,
        "answered": run.rate(taken.seconds),
        "median": run.quantile(0.5),
        "p99": run.quantile(0.99),
        "per_cpu_second": run.per_cpu_second,
        "server_cpu": run.server_cpu,
        "client_cpu": run.client_cpu,
        "sent_late_p99": float(np.nanquantile(run.sent - run.due, 0.99)),
        "refused": int((run.status == REFUSED).sum()),
        "errors": int((~run.good & (run.status != REFUSED)).sum()),
    }


def compare_durable(place: Place, server: Server, findings: Findings) -> None:
    """The durable path and the stateless one by turns, 64 writers each, on one server. Raises Missing."""
    seconds = place.settings.share_seconds
    kept = replace(server, ask=durable)
    with running(server, place.server_cores, LOGS) as up:
        require(up, durable("probe", "hello there"))
        found, rates = findings.servers[NAME], {}
        for name, asked in (("stateless", server), ("durable", kept)):
            bench = place.bench(asked, up)
            bench.closed_loop(WRITERS, 0.5)
            run = bench.closed_loop(WRITERS, seconds)
            rates[name] = float(run.good.sum()) / seconds
            found[f"{name}_{WRITERS}_writers"].append(rates[name])
        found["durable_share"].append(rates["durable"] / rates["stateless"])


def require(up: Running, request: Request) -> None:
    """Raise Missing where the server has no such path."""
    answer = httpx.request(request.method, up.address + request.path, content=request.body, trust_env=False)
    if answer.status_code in (404, 405):
        raise Missing(f"{request.method} {request.path} answers {answer.status_code}")


@contextmanager
def part(name: str, place: Place, findings: Findings) -> Iterator[None]:
    """What fails here is left out, by name, and the rest is still measured."""
    try:
        yield
    except (Missing, ServerFailed, httpx.HTTPError, subprocess.SubprocessError) as error:
        findings.skipped[name] = str(error)
        place.console.print(f"[yellow]{name}: left out: {escape(str(error))}[/]", highlight=False)


def machine() -> dict[str, Any]:
    """What this was measured on."""
    server, generator = cores()
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    load = os.getloadavg()[0]
    return {"processor": model, "server_cores": server, "generator_cores": generator, "load_before": load}


def installed(bundle: Path, console: Console) -> list[Server]:
    """The peers that can be had here, installed and prepared; those that cannot are left out by name."""
    home = Home()
    try:
        for name in ("infinity", "litserve", "mlflow"):
            with console.status(f"installing {name} (once)"):
                install(name, home)
        with console.status("preparing the peers' models (once)"):
            prepare(bundle, home)
    except NotInstalled as error:
        console.print(f"[yellow]no peers: {escape(str(error))}[/]", highlight=False)
        return []
    return peers(home, SERVER_CORES)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description="Throughput and latency over HTTP, beside peers.")
    parser.add_argument("--json", type=Path, default=BENCH / "http.json")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--ours", action="store_true", help="our server alone")
    parser.add_argument("--model", type=Path, default=MODELS / "current")
    given = parser.parse_args()
    console = Console()
    others = [] if given.ours else installed(given.model, console)
    texts = different_messages(MESSAGES, Tokenizer.from_file(str(given.model / LAYOUT.tokenizer)))
    place = Place(given.model, texts, *cores(), QUICK if given.quick else FULL, console)
    write_json(given.json, measure(place, others).as_json())


if __name__ == "__main__":
    main()
