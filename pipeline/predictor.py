"""Inputs to calibrated probabilities: encode, batch by length, run, calibrate.

Knows nothing of answers, abstention or priority; training uses it for parity, serving for everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.encode import Encoded, Encoder, Input
from pipeline.engine import Engine
from pipeline.heads import Calibration, Floats, probabilities
from pipeline.vocabulary import Vocabulary

BATCH_TOKENS = 1024  # padded tokens in one run: enough to fill the core, small enough for its cache


class Predictor:
    """One trained network behind its tokenizer and its calibration."""

    def __init__(self, encoder: Encoder, engine: Engine, vocabulary: Vocabulary, calibration: Calibration) -> None:
        self.encoder = encoder
        self.engine = engine
        self.vocabulary = vocabulary
        self.calibration = calibration

    def predict(self, given: Sequence[Input]) -> Floats:
        """Calibrated probabilities [inputs, outputs], in the order of the inputs."""
        return self.calibrate(self.logits(self.encoder.encode_many(given)))

    def logits(self, encoded: Sequence[Encoded]) -> NDArray[np.float32]:
        """Uncalibrated logits [rows, outputs], in the order given."""
        result = np.empty((len(encoded), self.vocabulary.size), dtype=np.float32)
        for rows in batches([len(row.ids) for row in encoded]):
            result[rows] = self.run([encoded[row] for row in rows])
        return result

    def run(self, batch: Sequence[Encoded], length: int = 0) -> NDArray[np.float32]:
        """Uncalibrated logits [rows, outputs] of one run, padded to `length` tokens or the longest row's."""
        ids = pad_rows([row.ids for row in batch], self.encoder.pad, length)
        return self.engine.run(ids, pad_rows([row.segments for row in batch], 0, length))

    def calibrate(self, logits: NDArray[np.float32]) -> Floats:
        """Calibrated probabilities [rows, outputs] of logits."""
        return probabilities(logits, self.vocabulary, self.calibration)


def batches(lengths: Sequence[int], budget: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Row numbers grouped so that rows of like length share a batch of at most `budget` padded tokens."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pad_rows(rows: Sequence[Sequence[int]], value: int, length: int = 0) -> NDArray[np.int64]:
    """Rows of unequal length as one array [rows, longest], or [rows, length] where that is longer."""
    padded = np.full((len(rows), max(length, *(len(row) for row in rows))), value, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded
