"""Model outputs to calibrated probabilities, and probabilities to labels. Plain numpy, shared by training and serving.

Shapes: logits and probabilities are [rows, outputs], heads side by side in vocabulary order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.vocabulary import Head, Vocabulary

Floats = NDArray[np.float64]


class Calibration(Config):
    """What calibration found: logits become `scale * logit + shift`, one pair per output; flags are given
    from their threshold on."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    thresholds: tuple[float, ...]


def no_calibration(vocabulary: Vocabulary) -> Calibration:
    """Leaves every logit as it is."""
    size = vocabulary.size
    return Calibration(scale=(1.0,) * size, shift=(0.0,) * size, thresholds=(0.5,) * size)


def probabilities(logits: NDArray[np.floating], vocabulary: Vocabulary, calibration: Calibration) -> Floats:
    """Calibrated probabilities [rows, outputs]: softmax within exclusive heads, sigmoid elsewhere."""
    scaled: Floats = logits.astype(np.float64) * np.array(calibration.scale) + np.array(calibration.shift)
    result = np.empty_like(scaled)
    for name, where in vocabulary.slices().items():
        squash = softmax if vocabulary.heads[name].exclusive else sigmoid
        result[:, where] = squash(scaled[:, where])
    return result


def softmax(logits: Floats) -> Floats:
    """Along the last axis, without overflow."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: Floats) -> Floats:
    """Elementwise, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def expected(distribution: Floats, head: Head) -> Floats:
    """Expected number [rows] of an exclusive head's distribution [rows, values]."""
    return np.asarray(distribution @ np.array(head.numbers))


def choose(distribution: Floats, head: Head) -> NDArray[np.intp]:
    """The value's index [rows] that a distribution [rows, values] is read as.

    Ordinal heads give the value nearest to the expected one, which is what squared distance rewards;
    categorical heads give the likeliest.
    """
    if head.kind != "ordinal":
        return np.asarray(distribution.argmax(axis=-1))
    distance = np.abs(expected(distribution, head)[:, None] - np.array(head.numbers)[None, :])
    return np.asarray(distance.argmin(axis=-1))
