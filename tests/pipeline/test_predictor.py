import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.encode import Encoded, Encoder, EncodingConfig, Input
from pipeline.heads import no_calibration
from pipeline.predictor import BATCH_TOKENS, Predictor, batches, pad_rows
from pipeline.text import Cleaned
from pipeline.vocabulary import Head, Hot, Vocabulary
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, load_tokenizer

FLAGS = Head(kind="multilabel", values=("loud", "late"), wording="")
VOCABULARY = Vocabulary(heads={"flags": FLAGS}, hot=Hot(frustration=2, signals=(), horizon=3))
ENCODING = EncodingConfig(max_tokens=64, message_tokens=60, turn_tokens=8, earlier_turns=1)
ENCODER = Encoder(load_tokenizer(TrainedEncoder(name=BUNDLED_ENCODER)), ENCODING)


class Adder:
    """Logits are the sums of ids and of segments; pads, being zero, must not be seen in them."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        assert ids.shape == segments.shape
        self.shapes.append(ids.shape)
        return np.stack([ids.sum(axis=1), segments.sum(axis=1)], axis=1).astype(np.float32)


def predictor(engine: Adder) -> Predictor:
    return Predictor(ENCODER, engine, VOCABULARY, no_calibration(VOCABULARY))


ENCODED = st.lists(st.integers(1, 90), max_size=60).map(
    lambda lengths: [Encoded([n + 1] * length, [n % 2] * length) for n, length in enumerate(lengths)]
)


@given(encoded=ENCODED)
def test_logits_come_in_the_order_asked(encoded: list[Encoded]) -> None:
    found = predictor(Adder()).logits(encoded)
    assert found.tolist() == [[sum(row.ids), sum(row.segments)] for row in encoded]


@given(lengths=st.lists(st.integers(1, 300), max_size=60), budget=st.integers(100, 1000))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_rows_of_like_length_share_a_batch() -> None:
    assert list(batches([90, 10, 95, 12], budget=200)) == [[1, 3], [0, 2]]


def test_a_run_is_no_larger_than_the_cache() -> None:
    engine = Adder()
    predictor(engine).logits([Encoded([1] * 64, [0] * 64)] * 100)
    assert len(engine.shapes) > 1
    assert all(rows * length <= BATCH_TOKENS for rows, length in engine.shapes)


def test_rows_are_padded_on_the_right() -> None:
    assert pad_rows([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]


def test_nothing_asked_is_nothing_answered() -> None:
    engine = Adder()
    assert predictor(engine).predict([]).shape == (0, 2)
    assert engine.shapes == []


def test_predictions_are_calibrated_probabilities() -> None:
    given = [Input(Cleaned("late"), ()), Input(Cleaned(""), ())]
    found = predictor(Adder()).predict(given)
    assert found[:, 0].tolist() == pytest.approx([1.0, 1.0])
    assert found[:, 1].tolist() == [0.5, 0.5]


@given(encoded=ENCODED.filter(bool), length=st.integers(0, 80))
def test_a_run_may_be_padded_further(encoded: list[Encoded], length: int) -> None:
    engine = Adder()
    found = predictor(engine).run(encoded, length)
    assert found.tolist() == [[sum(row.ids), sum(row.segments)] for row in encoded]
    assert engine.shapes == [(len(encoded), max(length, *(len(row.ids) for row in encoded)))]
