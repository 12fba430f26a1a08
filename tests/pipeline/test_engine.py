"""The engine: several threads may run it at once, and each gets its own logits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle import LAYOUT
from pipeline.engine import OpenVinoEngine


def batch(rows: int, tokens: int) -> NDArray[np.int64]:
    return np.random.default_rng(rows * tokens).integers(1000, 2000, (rows, tokens))


def test_threads_that_share_an_engine_get_their_own_logits(bundle_path: Path) -> None:
    engine = OpenVinoEngine(bundle_path / LAYOUT.engine, threads=1, streams=2)
    given = [batch(rows, tokens) for rows in (1, 3) for tokens in (8, 24)] * 5
    wanted = [engine.run(ids, np.zeros_like(ids)) for ids in given]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda ids: engine.run(ids, np.zeros_like(ids)), given))
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(ours, theirs)


def test_what_was_given_back_stays_as_it_was(bundle_path: Path) -> None:
    engine = OpenVinoEngine(bundle_path / LAYOUT.engine)
    first = engine.run(batch(2, 8), np.zeros((2, 8), dtype=np.int64))
    kept = first.copy()
    engine.run(batch(2, 8) + 1, np.zeros((2, 8), dtype=np.int64))
    assert np.array_equal(first, kept)
