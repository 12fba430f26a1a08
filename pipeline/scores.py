"""Agreement measures that both the corpus check and the evaluation use. Plain numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def quadratic_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights between two integer labellings (Cohen 1968); 1.0 where both are constant and equal."""
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
