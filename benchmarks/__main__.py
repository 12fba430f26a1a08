"""Everything that is measured, in one run: the engine in process, then the service over HTTP beside its peers.

    python -m benchmarks [--quick] [--ours] [--model models/current]

Prints tables, and writes build/bench/engine.json, http.json and bench.png. A quarter of an hour on a quiet machine, the
peers' installation (once, some minutes) not counted; `--quick` takes three minutes and says less.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.findings import rates, show
from benchmarks.peers.installed import BENCH
from benchmarks.plot import draw
from pipeline.config import ROOT
from pipeline.stage import MODELS, read_json


def main() -> None:
    """Run both benchmarks, each in a process of its own, and show what came out."""
    parser = argparse.ArgumentParser(description="Measure the engine and the service.")
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--ours", action="store_true", help="no peers")
    parser.add_argument("--model", type=Path, default=MODELS / "current")
    given = parser.parse_args()
    model = ["--model", str(given.model.resolve())]
    options = [name for name, chosen in (("--quick", given.quick), ("--ours", given.ours)) if chosen]
    _run("engine", *model, "--json", str(BENCH / "engine.json"), *(["--runs", "1"] if given.quick else []))
    _run("http", *model, "--json", str(BENCH / "http.json"), *options)
    report(Console())


def report(console: Console) -> None:
    """Show what the HTTP benchmark found last, and draw it."""
    found = read_json(BENCH / "http.json")
    show(found, console)
    if rates(found):
        draw(found, BENCH / "bench.png")
        console.print(f"drawn: {(BENCH / 'bench.png').relative_to(ROOT)}")


def _run(module: str, *options: str) -> None:
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
