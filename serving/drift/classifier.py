"""A classifier two-sample test: can a logistic regression tell the messages of two samples apart?

Its cross-validated AUC is 0.5 where it cannot (Lopez-Paz and Oquab 2017). How often chance gives as much is counted by
giving the same messages shuffled sides, all at once: the curvature is bounded by X'X/4 (Böhning and Lindsay 1988), so
one inverse serves every shuffle. Rows must be independent: one message a conversation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.heads import Floats, sigmoid

FOLDS = 5
PENALTY = 2.0
STEPS = 25


@dataclass(frozen=True)
class ToldApart:
    """How well two samples of `rows` messages each are told apart, and how often chance gives as much."""

    rows: int
    auc: float
    p: float


def tell_apart(first: Floats, second: Floats, rounds: int, most: int, seed: int = 17) -> ToldApart:
    """The test between rows [messages, features] of two samples, each cut to the smaller one's size and to `most`."""
    rng = np.random.default_rng(seed)
    size = min(len(first), len(second), most)
    sides = [side[rng.permutation(len(side))[:size]] for side in (first, second)]
    rows = np.concatenate(sides)
    truth = np.repeat([1.0, 0.0], size)
    order = rng.permutation(2 * size)  # so that equal scores fall in no order of sides
    rows, truth = _centred(rows[order]), truth[order]
    labels = np.column_stack([truth, *(rng.permutation(truth) for _ in range(rounds))])
    found = cross_validated(rows, labels)
    p = (1 + int((found[1:] >= found[0]).sum())) / (1 + rounds)
    return ToldApart(size, float(found[0]), p)


def cross_validated(rows: Floats, labels: Floats) -> Floats:
    """The mean AUC over folds, for every column of labels [rows, columns]."""
    fold = np.arange(len(rows)) % FOLDS
    found = []
    for held in range(FOLDS):
        weights = fit(rows[fold != held], labels[fold != held])
        found.append(auc(rows[fold == held] @ weights, labels[fold == held]))
    return np.asarray(np.mean(found, axis=0))


def fit(rows: Floats, labels: Floats) -> Floats:
    """Weights [features, columns] of a penalised logistic regression for every column of labels."""
    bound = np.linalg.inv(rows.T @ rows / 4 + PENALTY * np.eye(rows.shape[1]))
    weights = np.zeros((rows.shape[1], labels.shape[1]))
    for _ in range(STEPS):
        weights += bound @ (rows.T @ (labels - sigmoid(rows @ weights)) - PENALTY * weights)
    return weights


def auc(scores: Floats, labels: Floats) -> Floats:
    """How often a row of label 1 scores above one of label 0, for every column; 0.5 where one label is missing."""
    ranks = np.empty_like(scores)
    place = np.arange(1, len(scores) + 1)[:, None]
    np.put_along_axis(ranks, scores.argsort(axis=0, kind="stable"), place, axis=0)
    ones = labels.sum(axis=0)
    zeros = len(labels) - ones
    wins = (ranks * labels).sum(axis=0) - ones * (ones + 1) / 2
    return np.asarray(np.where(ones * zeros > 0, wins / np.maximum(ones * zeros, 1), 0.5))


def _centred(rows: Floats) -> Floats:
    """Columns of mean 0 and of deviation 1 at most, and a constant beside them."""
    centred = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1.0)
    return np.column_stack([centred, np.ones(len(rows))])
