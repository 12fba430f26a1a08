"""What the HTTP benchmark found, beside what the service must reach: medians over rounds, with the lowest and highest.

Reads the JSON that `benchmarks.http` writes; measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.ours import NAME

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Target:
    """One figure with its rounds, and what it must be at least, or at most."""

    name: str
    rounds: tuple[float, ...]
    least: float | None = None
    most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool:
        """Whether the median is what it must be."""
        return (self.least is None or self.median >= self.least) and (self.most is None or self.median <= self.most)


def rates(found: dict[str, Any]) -> dict[str, list[float]]:
    """Sustained messages a second of each server, one a round."""
    return {name: server["saturation"] for name, server in found["servers"].items() if server.get("saturation")}


def targets(found: dict[str, Any]) -> list[Target]:
    """Every figure that can be told from what was measured."""
    ours = found["servers"].get(NAME, {})
    if not ours.get("saturation"):
        return []
    return [
        *_beside_peers(found),
        *_cost_and_latency(found, ours),
        *_overload(ours),
        *(
            [_target("durable beside stateless, 64 writers", ours["durable_share"], least=0.7)]
            if _durable(ours)
            else []
        ),
        *_store(found["store"]),
    ]


def _target(name: str, rounds: Iterable[float], least: float | None = None, most: float | None = None) -> Target:
    return Target(name, tuple(rounds), least, most)


def _durable(ours: dict[str, Any]) -> bool:
    return bool(ours.get("durable_share"))


def _beside_peers(found: dict[str, Any]) -> list[Target]:
    """Our throughput as a multiple of each peer's, round by round."""
    ours, least = found["servers"][NAME]["saturation"], {"mlflow models serve": 8.0, "Infinity, torch": 3.0}
    return [
        _target(f"sustained, times {name}", (a / b for a, b in zip(ours, theirs, strict=False)), least.get(name, 1.0))
        for name, theirs in rates(found).items()
        if name != NAME
    ]


def _cost_and_latency(found: dict[str, Any], ours: dict[str, Any]) -> list[Target]:
    bare = found["bare_per_cpu_second"]
    beside = [(bare[2 * i] + bare[2 * i + 1]) / 2 for i in range(len(bare) // 2)]
    cost = [step["per_cpu_second"] / engine for step, engine in zip(ours["at_100"], beside, strict=False)]
    slower = [step["p99"] / alone for step, alone in zip(ours["at_70"], ours["single"], strict=False)]
    return [
        _target("messages a CPU-second, beside the bare engine", cost, least=0.75),
        _target("p99 at 70 % of saturation, times a lone request", slower, most=5.0),
    ]


def _overload(ours: dict[str, Any]) -> list[Target]:
    runs, peaks = ours["overload"], ours["saturation"]
    return [
        _target("goodput at twice saturation, beside saturation", _each(runs, "goodput", peaks), least=0.9),
        _target("refusals with Retry-After, of all refusals", (run["refused_with_retry_after"] for run in runs), 1.0),
        _target("neither answered nor refused", (run["other_share"] for run in runs), most=0.0),
        _target("memory, most beside before", (run["memory_most"] / run["memory_before"] for run in runs), most=1.1),
        _target("seconds until it is itself again", (run["recovery_seconds"] for run in runs), most=2.0),
    ]


def _each(runs: Sequence[dict[str, Any]], key: str, of: Sequence[float]) -> Iterable[float]:
    return (run[key] / whole for run, whole in zip(runs, of, strict=False))


def _store(stored: dict[str, Any] | None) -> list[Target]:
    if stored is None:
        return []
    count = f"{stored['conversations']:,} conversations"
    return [
        _target(f"seconds to ready, {count}", [stored["seconds_to_ready"]], most=3.0),
        _target(f"resident MiB, {count}", [stored["resident_bytes"] / MEBIBYTE], most=450),
        _target(f"queue in ms, median, {count}", [1000 * stored["queue_median"]], most=20),
        _target(f"queue in ms, p99, {count}", [1000 * stored["queue_p99"]], most=20),
    ]


def show(found: dict[str, Any], console: Console) -> None:
    """Print what each server does, what ours must reach, and what was left out."""
    console.print(servers_table(found))
    table = Table("must reach", "measured", "lowest to highest", "bound", "")
    for target in targets(found):
        bound = f"≥ {target.least:g}" if target.least is not None else f"≤ {target.most:g}"
        low, high = min(target.rounds), max(target.rounds)
        mark = "[green]✓[/]" if target.met else "[bold red]✗[/]"
        table.add_row(target.name, f"{target.median:.3g}", f"{low:.3g} to {high:.3g}", bound, mark)
    console.print(table)
    for name, why in found["skipped"].items():
        console.print(f"[yellow]left out: {name}:[/] {why}", markup=True, highlight=False)


def servers_table(found: dict[str, Any]) -> Table:
    """One row a server, at its own saturation."""
    table = Table("over HTTP, 2 cores", "sustained/s", "lowest to highest", "a CPU-second", "lone, ms", "p99, ms", "2x")
    for name, server in found["servers"].items():
        if not server.get("saturation"):
            continue
        reached, at = server["saturation"], server["at_100"]
        goodput = statistics.median(_each(server["overload"], "goodput", reached))
        table.add_row(
            name,
            f"{statistics.median(reached):.0f}",
            f"{min(reached):.0f} to {max(reached):.0f}",
            f"{statistics.median(step['per_cpu_second'] for step in at):.0f}",
            f"{1000 * statistics.median(server['single']):.1f}",
            f"{1000 * statistics.median(step['p99'] for step in at):.0f}",
            f"{goodput:.0%}",
        )
    return table
