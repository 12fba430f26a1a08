"""Findings are read, held against their bounds, shown and drawn, with whatever was left out."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.findings import show, targets
from benchmarks.http import FULL, QUICK, Findings
from benchmarks.peers.installed import Home, peers
from benchmarks.plot import draw


def step(offered: float, **other: Any) -> dict[str, Any]:
    answer = {"sustained": True, "answered": offered, "median": 0.01, "p99": 0.02, "per_cpu_second": 400.0}
    return {"offered": offered, **answer, **other}


def server(rates: list[float]) -> dict[str, Any]:
    over = {"offered": 2 * rates[0], "goodput": 0.95 * rates[0], "refused_with_retry_after": 1.0, "other_share": 0.0}
    over |= {"memory_before": 100, "memory_most": 105, "recovery_seconds": 0.5}
    return {
        "saturation": rates,
        "single": [0.005] * len(rates),
        "curve": [step(rate * share) for rate in rates for share in (0.5, 0.8)],
        "at_70": [step(0.7 * rate) for rate in rates],
        "at_100": [step(rate) for rate in rates],
        "overload": [over],
    }


def findings(**other: Any) -> dict[str, Any]:
    return {
        "machine": {},
        "servers": {"Simmer": server([800.0, 900.0]), "mlflow models serve": server([100.0, 90.0])},
        "bare_per_cpu_second": [500.0, 500.0, 400.0, 600.0],
        "skipped": {},
        "store": None,
        **other,
    }


def test_ratios_are_taken_round_by_round() -> None:
    found = {target.name: target for target in targets(findings())}
    beside = found["sustained, times mlflow models serve"]
    assert beside.rounds == (8.0, 10.0)
    assert beside.met
    cost = found["messages a CPU-second, beside the bare engine"]
    assert cost.rounds == (0.8, 0.8)
    assert found["p99 at 70 % of saturation, times a lone request"].rounds == (4.0, 4.0)


def test_a_figure_that_falls_short_is_shown_so_and_nothing_left_out_is_hidden() -> None:
    slow = findings(skipped={"durable": "answers 404"})
    slow["servers"]["Simmer"]["saturation"] = [400.0, 400.0]
    shown = StringIO()
    show(slow, Console(file=shown, width=140))
    row = next(line for line in shown.getvalue().splitlines() if "times mlflow" in line)
    assert "✗" in row
    assert "4.22" in row
    assert "left out: durable: answers 404" in shown.getvalue()


def test_the_store_and_the_durable_path_are_held_against_their_bounds() -> None:
    found = findings(
        store={
            "conversations": 100_000,
            "seconds_to_ready": 2.0,
            "resident_bytes": 500 * 2**20,
            "queue_median": 0.004,
            "queue_p99": 0.03,
        }
    )
    found["servers"]["Simmer"]["durable_share"] = [0.6, 0.9]
    met = {target.name: target.met for target in targets(found)}
    assert met["durable beside stateless, 64 writers"]
    assert met["seconds to ready, 100,000 conversations"]
    assert not met["resident MiB, 100,000 conversations"]
    assert not met["queue in ms, p99, 100,000 conversations"]


def test_without_our_server_there_is_nothing_to_hold_against_anything() -> None:
    assert targets(findings(servers={})) == []
    show(findings(servers={}), Console(file=StringIO()))


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_is_drawn(tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"bench.{ending}"
    draw(findings(), target)
    assert target.stat().st_size > 10_000


def test_findings_are_plain_json() -> None:
    found = Findings({"processor": "x"})
    found.servers["a"]["saturation"].append(1.0)
    assert found.as_json()["servers"] == {"a": {"saturation": [1.0]}}
    assert type(found.as_json()["servers"]["a"]) is dict


def test_the_quick_run_is_the_shorter_one() -> None:
    assert QUICK.limit_seconds < FULL.limit_seconds
    assert QUICK.rounds < FULL.rounds


def test_peers_are_asked_as_their_own_documentation_says(tmp_path: Path) -> None:
    found = {peer.name: peer for peer in peers(Home(tmp_path), cores=2)}
    assert len(found) == 4
    for peer in found.values():
        request = peer.ask("m1", 'a "quoted" text')
        assert request.method == "POST"
        assert '\\"quoted\\"' in request.body
        assert str(tmp_path) in " ".join(peer.command(8000))
