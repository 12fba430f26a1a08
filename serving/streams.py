"""How many streams, of how many threads each, are quickest on this machine: measured, in a few seconds.

    python -m serving.streams [BUNDLE]

Measures the bare engine on full batches and on lone messages. What comes out best belongs into the batcher's
`streams` and `threads`. Knows nothing of tokenizers or of HTTP.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.bundle import LAYOUT
from pipeline.engine import Engine, OpenVinoEngine
from serving.batcher import BatcherConfig
from serving.buckets import most_rows
from serving.config import load_serve_config, served_bundle

TOKENS = 32  # of a message
SECONDS = 1.0


@dataclass(frozen=True)
class Arrangement:
    """What an arrangement does: messages a second of all streams when busy, and milliseconds of a lone message."""

    streams: int
    threads: int
    rate: float
    lone: float


def arrangements(cores: int) -> Iterator[tuple[int, int]]:
    """Streams and threads each that share so many cores, no more than a thread a core."""
    yield from ((streams, cores // streams) for streams in range(1, cores + 1) if cores % streams == 0)
    if cores > 1:
        yield 1, 1


def measure(load: Callable[[int, int], Engine], streams: int, threads: int, seconds: float = SECONDS) -> Arrangement:
    """Measure one arrangement; `load` gives the engine for streams and threads."""
    engine = load(streams, threads)
    rows = most_rows(TOKENS, BatcherConfig().batch_tokens)
    done = [0] * streams

    def work(stream: int, until: float) -> None:
        while time.perf_counter() < until:
            _run(engine, rows)
            done[stream] += rows

    _run(engine, rows)
    started = time.perf_counter()
    workers = [threading.Thread(target=work, args=(stream, started + seconds)) for stream in range(streams)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rate = sum(done) / (time.perf_counter() - started)
    return Arrangement(streams, threads, rate, 1000 * _lone(engine))


def _lone(engine: Engine) -> float:
    _run(engine, 1)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        _run(engine, 1)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _run(engine: Engine, rows: int) -> None:
    engine.run(np.ones((rows, TOKENS), dtype=np.int64), np.zeros((rows, TOKENS), dtype=np.int64))


def main() -> None:
    """Measure every arrangement and say which is quickest."""
    parser = argparse.ArgumentParser(description="Measure streams and threads of the engine on this machine.")
    parser.add_argument("model", type=Path, nargs="?", help="a bundle; the served one where not given")
    model = parser.parse_args().model or served_bundle(load_serve_config())

    def load(streams: int, threads: int) -> Engine:
        return OpenVinoEngine(model / LAYOUT.engine, threads, streams)

    found = [measure(load, *one) for one in arrangements(len(os.sched_getaffinity(0)))]
    table = Table("streams", "threads each", "messages/s, busy", "ms of a lone message")
    for one in sorted(found, key=lambda one: one.rate, reverse=True):
        table.add_row(str(one.streams), str(one.threads), f"{one.rate:.0f}", f"{one.lone:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
