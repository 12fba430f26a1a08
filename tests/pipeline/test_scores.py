import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, f1_score

from pipeline.scores import (
    accuracy,
    expected_calibration_error,
    flags_f1,
    hot_targets,
    macro_f1,
    quadratic_kappa,
    with_interval,
)

LEVELS = st.integers(0, 3)
PAIRS = st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=40).map(lambda pairs: tuple(zip(*pairs, strict=True)))
FLAGS = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=20).map(np.array)


@given(pairs=PAIRS)
def test_kappa_is_symmetric_and_at_most_one(pairs: tuple[list[int], list[int]]) -> None:
    assert quadratic_kappa(*pairs) == pytest.approx(quadratic_kappa(*pairs[::-1]))
    assert -1 - 1e-9 <= quadratic_kappa(*pairs) <= 1


@given(labels=st.lists(LEVELS, min_size=1))
def test_kappa_of_equal_labellings_is_one(labels: list[int]) -> None:
    assert quadratic_kappa(labels, labels) == 1.0


@settings(deadline=None)
@given(pairs=PAIRS)
def test_kappa_is_cohens(pairs: tuple[list[int], list[int]]) -> None:
    assume(len(set(pairs[0]) | set(pairs[1])) > 1)
    reference = cohen_kappa_score(*pairs, weights="quadratic", labels=[0, 1, 2, 3])
    assert quadratic_kappa(*pairs) == pytest.approx(reference, abs=1e-9)


def test_kappa_punishes_a_far_miss_more_than_a_near_one() -> None:
    truth = [0, 0, 1, 2, 3, 3]
    assert quadratic_kappa(truth, [0, 0, 1, 2, 3, 2]) > quadratic_kappa(truth, [0, 0, 1, 2, 3, 0])


@given(flags=FLAGS)
def test_flags_agree_with_themselves(flags: NDArray[np.bool_]) -> None:
    assert flags_f1(flags, flags) == 1.0


def test_flags_count_over_all_cells() -> None:
    assert flags_f1([[1, 0], [1, 1]], [[1, 1], [0, 0]]) == pytest.approx(2 * 1 / (3 + 2))
    assert flags_f1([[0, 0]], [[0, 1]]) == 0.0


@pytest.mark.parametrize(
    ("hot", "horizon", "targets"),
    [
        ([False, False, True, False], 3, [True, True, False, False]),
        ([False, False, False, False, True], 3, [False, True, True, True, False]),
        ([True], 3, [False]),
        ([True, False], 1, [False, False]),
        ([False, None, False], 3, [None, False, False]),
        ([False, None, True], 3, [True, True, False]),
        ([False, False, None], 1, [False, None, False]),
        ([], 3, []),
    ],
)
def test_boil_over_looks_at_the_next_turns_alone(
    hot: list[bool | None], horizon: int, targets: list[bool | None]
) -> None:
    assert hot_targets(hot, horizon) == targets


@pytest.mark.parametrize(
    ("probabilities", "target", "exclusive", "error"),
    [
        ([[0.9, 0.1]] * 10, [[1, 0]] * 9 + [[0, 1]], True, 0.0),
        ([[0.9, 0.1]] * 10, [[0, 1]] * 10, True, 0.9),
        ([[1.0, 0.0], [0.6, 0.4]], [[1, 0], [0, 1]], True, 0.3),
        ([[0.6, 0.4]], [[1, 1]], True, 0.4),
        ([[0.2], [0.2], [0.2], [0.2], [0.2]], [[1], [0], [0], [0], [0]], False, 0.0),
        ([[0.2, 1.0]], [[1, 1]], False, 0.4),
    ],
)
def test_calibration_error_is_promise_less_what_held(
    probabilities: list[list[float]], target: list[list[float]], exclusive: bool, error: float
) -> None:
    assert expected_calibration_error(probabilities, target, exclusive, 10) == pytest.approx(error)


def test_accuracy_is_the_share_of_equal_rows() -> None:
    assert accuracy([0, 1, 2, 3], [0, 1, 2, 0]) == 0.75


@settings(deadline=None)
@given(pairs=PAIRS)
def test_macro_f1_is_the_mean_over_values_seen(pairs: tuple[list[int], list[int]]) -> None:
    seen = sorted(set(pairs[0]) | set(pairs[1]))
    reference = f1_score(*pairs, average="macro", labels=seen, zero_division=0.0)
    assert macro_f1(*pairs, values=4) == pytest.approx(reference)


def interval(values: NDArray[np.float64], groups: NDArray[np.intp], seed: int = 1) -> dict[str, float]:
    return with_interval(lambda rows: float(values[rows].mean()), groups, rounds=300, seed=seed)


VALUES = np.repeat(np.arange(20.0), 5)


def test_an_interval_holds_its_value() -> None:
    found = interval(VALUES, np.arange(100))
    assert found["value"] == 9.5
    assert found["low"] < 9.5 < found["high"]


def test_an_interval_resamples_whole_conversations() -> None:
    by_row, by_conversation = interval(VALUES, np.arange(100)), interval(VALUES, np.repeat(np.arange(20), 5))
    assert by_conversation["high"] - by_conversation["low"] > 1.5 * (by_row["high"] - by_row["low"])


def test_rows_of_a_conversation_need_not_stand_together() -> None:
    order = np.random.default_rng(3).permutation(100)
    groups = np.repeat(np.arange(20), 5)
    assert interval(VALUES[order], groups[order]) == interval(VALUES, groups)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert interval(VALUES, np.arange(100)) == interval(VALUES, np.arange(100))
    assert interval(VALUES, np.arange(100), seed=2) != interval(VALUES, np.arange(100))
