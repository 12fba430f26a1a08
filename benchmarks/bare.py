"""The bare engine: the bundle's int8 network fed ideal batches, with no server around it.

    python -m benchmarks.bare BUNDLE --seconds 2

`bare` runs a copy on each of the server's cores at once, since a core's speed depends on what its neighbour does; the
figure is messages for each second of processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks.texts import TOKENS, different_messages
from pipeline.bundle import LAYOUT
from pipeline.config import ROOT
from pipeline.engine import OpenVinoEngine

BATCH = 32
BATCHES = 16


def messages_per_cpu_second(bundle: Path, seconds: float) -> float:
    """Measured in this process, one thread."""
    tokenizer = Tokenizer.from_file(str(bundle / LAYOUT.tokenizer))
    tokenizer.no_padding()
    texts = different_messages(BATCH * BATCHES, tokenizer)
    rows = np.array([e.ids for e in tokenizer.encode_batch_fast(texts)], dtype=np.int64).reshape(BATCHES, BATCH, TOKENS)
    engine, segments = OpenVinoEngine(bundle / LAYOUT.engine), np.zeros((BATCH, TOKENS), dtype=np.int64)
    engine.run(rows[0], segments)
    begun, until, done = time.process_time(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        engine.run(rows[done % BATCHES], segments)
        done += 1
    return done * BATCH / (time.process_time() - begun)


def bare(bundle: Path, seconds: float, cores: Sequence[int]) -> float:
    """Messages a second of processor time, one copy on each core at once; the mean over them."""
    command = [sys.executable, "-m", "benchmarks.bare", str(bundle.resolve()), "--seconds", str(seconds)]
    copies = [
        subprocess.Popen(["taskset", "-c", str(core), *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for core in cores
    ]
    found = [json.loads(copy.communicate(timeout=seconds + 60)[0]) for copy in copies]
    return float(np.mean(found))


def main() -> None:
    """Measure and print one number."""
    parser = argparse.ArgumentParser(description="The bare engine, one thread.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(messages_per_cpu_second(given.bundle, given.seconds)))


if __name__ == "__main__":
    main()
