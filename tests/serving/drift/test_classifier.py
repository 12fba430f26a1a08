"""The classifier two-sample test: it tells what differs, and what does not no more often than chance."""

from __future__ import annotations

import numpy as np
import pytest

from serving.drift.classifier import auc, cross_validated, fit, tell_apart

ROWS, FEATURES = 200, 30


def drawn(seed: int, moved: float = 0.0, rows: int = ROWS) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    chances = np.linspace(0.05, 0.5, FEATURES)
    chances[:5] += moved
    return (rng.random((rows, FEATURES)) < chances).astype(float)


def test_it_tells_samples_that_differ() -> None:
    found = tell_apart(drawn(1), drawn(2, moved=0.3), rounds=99, most=1_000)
    assert found.auc > 0.75
    assert found.p == pytest.approx(0.01)


def test_without_a_difference_p_is_as_small_as_chance_makes_it() -> None:
    found = [tell_apart(drawn(seed), drawn(seed + 500), rounds=49, most=1_000, seed=seed) for seed in range(50)]
    assert sum(one.p <= 0.02 for one in found) <= 4  # of 50, where 1 is expected
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.02)


def test_the_larger_sample_is_cut() -> None:
    assert tell_apart(drawn(1, rows=60), drawn(2), rounds=19, most=1_000).rows == 60
    assert tell_apart(drawn(1), drawn(2), rounds=19, most=40).rows == 40


def test_messages_that_are_all_alike_are_not_told_apart() -> None:
    same = np.ones((50, FEATURES))
    found = tell_apart(same, same, rounds=19, most=100)
    assert found.p > 0.05
    assert 0.3 < found.auc < 0.7


def test_auc_is_the_share_of_pairs_in_order() -> None:
    scores, labels = np.array([[0.9], [0.8], [0.3], [0.1]]), np.array([[1.0], [0.0], [1.0], [0.0]])
    assert auc(scores, labels)[0] == 0.75
    assert auc(scores, np.ones((4, 1)))[0] == 0.5


def test_the_regression_is_the_penalised_maximum() -> None:
    """At the maximum the gradient is nothing."""
    rows = np.column_stack([drawn(3), np.ones(ROWS)])
    labels = (np.random.default_rng(4).random((ROWS, 2)) < 0.5).astype(float)
    weights = fit(rows, labels)
    gradient = rows.T @ (labels - 1 / (1 + np.exp(-rows @ weights))) - 2.0 * weights
    assert np.abs(gradient).max() < 0.05


def test_every_column_is_judged_as_if_it_were_alone() -> None:
    rows = np.column_stack([drawn(5), np.ones(ROWS)])
    labels = (np.random.default_rng(6).random((ROWS, 3)) < 0.5).astype(float)
    alone = [float(cross_validated(rows, labels[:, [column]])[0]) for column in range(3)]
    assert list(cross_validated(rows, labels)) == pytest.approx(alone)
