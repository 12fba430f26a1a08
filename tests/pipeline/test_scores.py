from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from sklearn.metrics import cohen_kappa_score, f1_score

from pipeline.heads import choose, expected, no_calibration, probabilities, softmax
from pipeline.scores import expected_calibration_error, flags_f1, macro_f1, quadratic_kappa, with_interval
from pipeline.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
LEVELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60)


@given(LEVELS)
def test_kappa_is_what_scikit_learn_says(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    if len({*first, *second}) > 1:
        reference = cohen_kappa_score(first, second, labels=range(4), weights="quadratic")
        assert quadratic_kappa(first, second) == pytest.approx(reference)
        assert quadratic_kappa(second, first) == pytest.approx(reference)


@given(LEVELS)
def test_macro_f1_is_what_scikit_learn_says(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    assert macro_f1(first, second, 4) == pytest.approx(f1_score(first, second, average="macro"))


def test_flags_f1() -> None:
    assert flags_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]]) == pytest.approx(0.8)
    assert flags_f1([[0]], [[0]]) == 1.0


def test_calibration_error_of_honest_and_of_boastful_promises() -> None:
    target = np.array([[1.0]] * 8 + [[0.0]] * 2)
    assert expected_calibration_error(np.full((10, 1), 0.8), target, exclusive=False, bins=10) == pytest.approx(0.0)
    assert expected_calibration_error(np.full((10, 1), 0.99), target, exclusive=False, bins=10) == pytest.approx(0.19)


def test_an_interval_holds_the_value_and_narrows_with_rows() -> None:
    def width(rows: int) -> float:
        hits = np.arange(rows) % 4 > 0
        found = with_interval(lambda chosen: float(hits[chosen].mean()), np.arange(rows), 200, 1)
        assert found["low"] <= found["value"] <= found["high"]
        return found["high"] - found["low"]

    assert width(1000) < width(50)


@given(nps.arrays(np.float64, (3, VOCABULARY.size), elements=st.floats(-1e4, 1e4)))
def test_probabilities_are_probabilities(logits: np.ndarray) -> None:
    found = probabilities(logits, VOCABULARY, no_calibration(VOCABULARY))
    assert ((found >= 0) & (found <= 1)).all()
    for name, where in VOCABULARY.slices().items():
        if VOCABULARY.heads[name].exclusive:
            assert found[:, where].sum(axis=1) == pytest.approx(1.0)


def test_an_ordinal_head_is_read_at_its_expected_value() -> None:
    split = np.array([[0.45, 0.0, 0.1, 0.45]])
    head = VOCABULARY.heads["frustration"]
    assert expected(split, head)[0] == pytest.approx(1.55)
    assert choose(split, head)[0] == 2


def test_a_categorical_head_is_read_at_its_likeliest_value() -> None:
    assert choose(softmax(np.array([[0.0, 3.0, 0.0, 0.0, 2.9]])), VOCABULARY.heads["sentiment"])[0] == 1
