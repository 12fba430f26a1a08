from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.bundle import Bundle
from pipeline.encode import Encoded
from pipeline.predictor import Predictor, batches, pad_rows


class FirstToken:
    """An engine whose every logit is the row's first token."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(ids[:, :1], self.outputs, axis=1).astype(np.float32)


@given(st.lists(st.integers(1, 96), max_size=200), st.integers(96, 2048))
def test_every_row_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[row] for row in batch) <= budget for batch in found)


def test_results_keep_the_order_of_the_rows(bundle: Bundle) -> None:
    one = bundle.predictor
    predictor = Predictor(one.encoder, FirstToken(one.vocabulary.size), one.vocabulary, one.calibration)
    rows = [Encoded([number] * (1 + number % 7), [0] * (1 + number % 7)) for number in range(50)]
    assert predictor.logits(rows)[:, 0].tolist() == list(range(50))


def test_rows_are_padded_to_the_longest() -> None:
    assert pad_rows([[1, 2, 3], [4]], 0).tolist() == [[1, 2, 3], [4, 0, 0]]
