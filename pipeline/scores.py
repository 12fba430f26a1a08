"""How close two labellings are, and how sure one can be of it. Plain numpy, used by corpus checks and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def quadratic_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights between two integer labellings (Cohen 1968).

    1.0 where both are constant and equal.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    expected = a.var() + b.var() + (a.mean() - b.mean()) ** 2  # mean squared difference of unrelated pairs
    return float(1.0 - np.mean((a - b) ** 2) / expected) if expected > 0 else 1.0


def flags_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Micro-F1 over 0/1 matrices (rows, flags); 1.0 where nothing is flagged in either."""
    t, p = np.asarray(truth, dtype=bool), np.asarray(predicted, dtype=bool)
    both, either = int((t & p).sum()), int(t.sum() + p.sum())
    return 2 * both / either if either else 1.0


def hot_targets(hot: Sequence[bool | None], horizon: int) -> list[bool | None]:
    """For each customer turn, whether one of the next `horizon` is hot; None where that is not known.

    After the last turn of a conversation nothing follows, which counts as not hot.
    """
    targets: list[bool | None] = []
    for index in range(len(hot)):
        ahead = hot[index + 1 : index + 1 + horizon]
        targets.append(True if any(ahead) else (None if None in ahead else False))
    return targets


def expected_calibration_error(probabilities: ArrayLike, target: ArrayLike, exclusive: bool, bins: int) -> float:
    """Mean distance between what was promised and what held, over equal-width bins (Guo et al. 2017).

    Shapes: probabilities and target weights [rows, values]. Of an exclusive head the likeliest value's
    promise is held against the truth; otherwise each flag's own is, and flags are averaged.
    """
    p, t = np.asarray(probabilities, dtype=float), np.asarray(target, dtype=float)
    if exclusive:
        best = p.argmax(axis=1)
        rows = np.arange(len(p))
        return _binned_error(p[rows, best], t[rows, best] > 0, bins)
    return float(np.mean([_binned_error(p[:, i], t[:, i] > 0.5, bins) for i in range(p.shape[1])]))


def _binned_error(promised: ArrayLike, held: ArrayLike, bins: int) -> float:
    p, h = np.asarray(promised, dtype=float), np.asarray(held, dtype=float)
    index = np.minimum((p * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=p - h, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


Measure = Callable[[NDArray[np.intp]], float]
"""A score over some of the rows."""


def accuracy(truth: ArrayLike, chosen: ArrayLike) -> float:
    """Share of rows where both are equal."""
    return float((np.asarray(truth) == np.asarray(chosen)).mean())


def macro_f1(truth: ArrayLike, chosen: ArrayLike, values: int) -> float:
    """Mean F1 over the values (integers below `values`) that are true or chosen at least once."""
    t, c = np.asarray(truth, dtype=int), np.asarray(chosen, dtype=int)
    both = np.bincount(t[t == c], minlength=values)
    either = np.bincount(t, minlength=values) + np.bincount(c, minlength=values)
    return float((2 * both[either > 0] / either[either > 0]).mean())


def with_interval(measure: Measure, groups: NDArray[np.intp], rounds: int, seed: int) -> dict[str, float]:
    """A measure over all rows, with its 95 % interval from resampling whole groups (conversations).

    `groups` [rows] tells which conversation each row belongs to.
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    rng = np.random.default_rng(seed)
    draws = [
        measure(np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]))
        for _ in range(rounds)
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    value = measure(np.arange(len(groups)))
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def share_with_interval(count: int, total: int) -> dict[str, float]:
    """A share of `total` rows (at least one) with its 95 % score interval (Wilson 1927), rows taken as independent."""
    z = 1.959964
    share, spread = count / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * (share * (1 - share) / total + spread / (4 * total)) ** 0.5 / (1 + spread)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"value": round(share, 4), "low": round(low, 4), "high": round(high, 4)}
