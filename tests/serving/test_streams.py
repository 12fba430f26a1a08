"""Measuring streams: every arrangement fits the cores, and what is measured is what the engine did."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.streams import arrangements, measure


class Slow:
    """An engine that takes a while, and says how many ran at a time."""

    def __init__(self) -> None:
        self.now, self.most, self.lock = 0, 0, threading.Lock()

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self.lock:
            self.now -= 1
        return np.zeros((len(ids), 1), dtype=np.float32)


@pytest.mark.parametrize(("cores", "found"), [(1, [(1, 1)]), (2, [(1, 2), (2, 1), (1, 1)])])
def test_arrangements_use_the_cores(cores: int, found: list[tuple[int, int]]) -> None:
    assert list(arrangements(cores)) == found


@pytest.mark.parametrize("streams", [1, 3])
def test_streams_run_at_a_time(streams: int) -> None:
    engine = Slow()
    found = measure(lambda *_: engine, streams, 1, seconds=0.2)
    assert engine.most == streams
    assert 0 < found.rate <= streams * 16 / 0.01
    assert found.lone >= 10
