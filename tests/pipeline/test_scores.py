from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, f1_score

from pipeline.heads import choose, expected, no_calibration, probabilities, softmax
from pipeline.scores import (
    accuracy,
    expected_calibration_error,
    flags_f1,
    hot_targets,
    macro_f1,
    quadratic_kappa,
    share_with_interval,
    with_interval,
)
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


@given(st.lists(st.integers(0, 3), min_size=1))
def test_kappa_of_equal_labellings_is_one(labels: list[int]) -> None:
    assert quadratic_kappa(labels, labels) == 1.0


def test_kappa_punishes_a_far_miss_more_than_a_near_one() -> None:
    truth = [0, 0, 1, 2, 3, 3]
    assert quadratic_kappa(truth, [0, 0, 1, 2, 3, 2]) > quadratic_kappa(truth, [0, 0, 1, 2, 3, 0])


def test_accuracy_is_the_share_of_equal_rows() -> None:
    assert accuracy([0, 1, 2, 3], [0, 1, 2, 0]) == 0.75


@pytest.mark.parametrize(
    ("hot", "horizon", "targets"),
    [
        ([True], 3, [False]),
        ([True, False], 1, [False, False]),
        ([False, False, None], 1, [False, None, False]),
        ([], 3, []),
    ],
)
def test_after_the_last_turn_nothing_follows(hot: list[bool | None], horizon: int, targets: list[bool | None]) -> None:
    assert hot_targets(hot, horizon) == targets


@pytest.mark.parametrize(
    ("promised", "target", "exclusive", "error"),
    [
        ([[0.9, 0.1]] * 10, [[1, 0]] * 9 + [[0, 1]], True, 0.0),
        ([[0.9, 0.1]] * 10, [[0, 1]] * 10, True, 0.9),
        ([[1.0, 0.0], [0.6, 0.4]], [[1, 0], [0, 1]], True, 0.3),
        ([[0.6, 0.4]], [[1, 1]], True, 0.4),
        ([[0.2, 1.0]], [[1, 1]], False, 0.4),
    ],
)
def test_calibration_error_is_the_gap_between_promise_and_truth(
    promised: list[list[float]], target: list[list[float]], exclusive: bool, error: float
) -> None:
    assert expected_calibration_error(promised, target, exclusive, 10) == pytest.approx(error)


VALUES = np.repeat(np.arange(20.0), 5)
CHATS = np.repeat(np.arange(20), 5)


def interval(values: NDArray[np.float64], groups: NDArray[np.intp], seed: int = 1) -> dict[str, float]:
    return with_interval(lambda rows: float(values[rows].mean()), groups, rounds=300, seed=seed)


def test_an_interval_resamples_whole_conversations() -> None:
    by_row, by_chat = interval(VALUES, np.arange(100)), interval(VALUES, CHATS)
    assert by_chat["high"] - by_chat["low"] > 1.5 * (by_row["high"] - by_row["low"])


def test_rows_of_a_conversation_need_not_stand_together() -> None:
    order = np.random.default_rng(3).permutation(100)
    assert interval(VALUES[order], CHATS[order]) == interval(VALUES, CHATS)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert interval(VALUES, CHATS) == interval(VALUES, CHATS)
    assert interval(VALUES, CHATS, seed=2) != interval(VALUES, CHATS)


def test_a_share_has_wilsons_interval() -> None:
    assert share_with_interval(1, 10) == {"value": 0.1, "low": 0.0179, "high": 0.4042}
    assert share_with_interval(0, 50)["low"] == 0.0
    assert share_with_interval(50, 50) == {"value": 1.0, "low": 0.9287, "high": 1.0}
