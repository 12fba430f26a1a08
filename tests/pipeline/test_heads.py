import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.heads import Calibration, Floats, choose, expected, no_calibration, probabilities, sigmoid, softmax
from pipeline.vocabulary import Head, Hot, Vocabulary

MOOD = Head(kind="categorical", values=("bad", "so-so", "good"), numbers=(-1, 0, 1), wording="")
HEAT = Head(kind="ordinal", values=("none", "mild", "strong"), numbers=(0, 1, 2), wording="")
FLAGS = Head(kind="multilabel", values=("loud", "late"), wording="")
VOCABULARY = Vocabulary(
    heads={"mood": MOOD, "heat": HEAT, "flags": FLAGS}, hot=Hot(frustration=2, signals=(), horizon=3)
)

FINITE = st.floats(-1e6, 1e6)
LOGITS = st.integers(1, 4).flatmap(lambda rows: arrays(np.float64, (rows, VOCABULARY.size), elements=FINITE))


@given(logits=LOGITS)
def test_exclusive_heads_sum_to_one_and_flags_stand_alone(logits: Floats) -> None:
    found = probabilities(logits, VOCABULARY, no_calibration(VOCABULARY))
    assert np.allclose(found[:, :3].sum(axis=1), 1)
    assert np.allclose(found[:, 3:6].sum(axis=1), 1)
    assert np.allclose(found[:, 6:], sigmoid(logits[:, 6:]))
    assert ((found >= 0) & (found <= 1)).all()


@given(logits=arrays(np.float64, (3, 5), elements=st.floats(-1e300, 1e300)))
def test_softmax_sums_to_one_without_overflow(logits: Floats) -> None:
    assert np.allclose(softmax(logits).sum(axis=-1), 1)


@given(logits=arrays(np.float64, 4, elements=st.floats(-50, 50)), shift=st.floats(-100, 100))
def test_softmax_looks_at_differences_alone(logits: Floats, shift: float) -> None:
    assert np.allclose(softmax(logits), softmax(logits + shift))


@given(logits=arrays(np.float64, 4, elements=st.floats(-30, 30)))
def test_sigmoid_is_the_logistic_function(logits: Floats) -> None:
    assert np.allclose(sigmoid(logits), 1 / (1 + np.exp(-logits)))


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e300, 0.0, 1e300])).tolist() == [0.0, 0.5, 1.0]


def test_calibration_scales_and_shifts_each_output() -> None:
    size = VOCABULARY.size
    calibration = Calibration(scale=(2.0,) * size, shift=(*[0.0] * (size - 1), 1.0), thresholds=(0.5,) * size)
    logits = np.arange(size, dtype=np.float32)[None] / 4
    found = probabilities(logits, VOCABULARY, calibration)
    assert np.allclose(found[0, :3], softmax(np.array([0.0, 0.5, 1.0])))
    assert found[0, -2] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert found[0, -1] == pytest.approx(1 / (1 + np.exp(-4.5)))


@pytest.mark.parametrize(
    ("head", "distribution", "number", "value"),
    [
        (MOOD, [0.4, 0.25, 0.35], -0.05, 0),
        (HEAT, [0.4, 0.25, 0.35], 0.95, 1),
        (HEAT, [0.8, 0.1, 0.1], 0.3, 0),
        (HEAT, [0.0, 0.4, 0.6], 1.6, 2),
    ],
)
def test_categories_are_read_as_likeliest_and_levels_as_nearest(
    head: Head, distribution: list[float], number: float, value: int
) -> None:
    row = np.array([distribution])
    assert expected(row, head)[0] == pytest.approx(number)
    assert choose(row, head).tolist() == [value]
