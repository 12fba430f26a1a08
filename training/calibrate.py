"""DVC stage `calibrate`: make the scores mean what they say, on validation data, head by head.

    python -m training.calibrate         build/calibration.json, metrics/calibrate.json

Categorical heads get one scale, the temperature of Guo et al. 2017: shifts would teach them how often validation gives
each value, which other customers do not share. Ordinal heads get a scale and a shift per value, flags both each (Platt
1999). Flags get the threshold that serves F1 best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_from_disk
from numpy.typing import NDArray
from scipy.optimize import minimize

from pipeline.config import Config, current_profile, load_config
from pipeline.heads import Calibration, Floats, no_calibration, probabilities, softmax
from pipeline.prepare import DATASET
from pipeline.scores import expected_calibration_error
from pipeline.stage import BUILD, run, write_json
from pipeline.vocabulary import Head, Vocabulary, load_vocabulary
from training.checkpoint import MODEL, load_model
from training.labelled import Labelled, score_split
from training.tracking import finish_stage

CALIBRATION = BUILD / "calibration.json"


class CalibrateConfig(Config):
    """How strongly calibration is held back, and which flags' thresholds are worth choosing."""

    l2: float
    min_positives: int


def calibrate(labelled: Labelled, vocabulary: Vocabulary, config: CalibrateConfig) -> Calibration:
    """Scales and shifts that minimise the likelihood loss on these rows, then thresholds.

    A head without rows stays as it is.
    """
    scale, shift = np.ones(vocabulary.size), np.zeros(vocabulary.size)
    for name, where in vocabulary.slices().items():
        logits, target = labelled.of(name)
        if len(logits):
            scale[where], shift[where] = fit_head(logits, target, vocabulary.heads[name], config)
    fitted = Calibration(scale=tuple(scale), shift=tuple(shift), thresholds=no_calibration(vocabulary).thresholds)
    thresholds = choose_thresholds(labelled, vocabulary, fitted, config)
    return fitted.model_copy(update={"thresholds": thresholds})


def fit_head(logits: Floats, target: Floats, head: Head, config: CalibrateConfig) -> tuple[Floats, Floats]:
    """Scale and shift [values] of one head from its logits and target weights [rows, values]."""
    values = logits.shape[1]
    scales = 1 if head.exclusive else values
    shifts = 0 if head.kind == "categorical" else values

    def unpack(x: Floats) -> tuple[Floats, Floats]:
        return np.broadcast_to(np.exp(x[:scales]), (values,)), x[scales:] if shifts else np.zeros(values)

    def loss(x: Floats) -> float:
        scale, shift = unpack(x)
        return float(mean_loss(logits * scale + shift, target, head.exclusive) + config.l2 * np.square(x).sum())

    found = minimize(loss, np.zeros(scales + shifts), method="L-BFGS-B")
    return unpack(found.x)


def mean_loss(logits: Floats, target: Floats, exclusive: bool) -> float:
    """Mean negative log-likelihood of target weights under logits [rows, values]."""
    if exclusive:
        return float(-np.log(np.maximum((softmax(logits) * target).sum(axis=1), 1e-12)).mean())
    return float((np.logaddexp(0.0, logits) - target * logits).sum(axis=1).mean())


def choose_thresholds(
    labelled: Labelled, vocabulary: Vocabulary, calibration: Calibration, config: CalibrateConfig
) -> tuple[float, ...]:
    """For every flag the threshold with the best F1; 0.5 where a flag is given too rarely to choose, and elsewhere."""
    thresholds = list(calibration.thresholds)
    chances = probabilities(labelled.logits, vocabulary, calibration)
    for name, where in vocabulary.slices().items():
        if vocabulary.heads[name].exclusive:
            continue
        known = labelled.known[name]
        for output in range(where.start, where.stop):
            truth = labelled.target[known, output] > 0.5
            if truth.sum() >= config.min_positives:
                thresholds[output] = best_threshold(truth, chances[known, output])
    return tuple(thresholds)


def best_threshold(truth: NDArray[np.bool_], chance: Floats) -> float:
    """The threshold with the best F1, halfway to the next lower score so that it does not hang on one row."""
    order = np.argsort(-chance)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(truth) + 1) + truth.sum())
    best = int(f1.argmax())
    below = chance[order[best + 1]] if best + 1 < len(order) else 0.0
    return float(round((chance[order[best]] + below) / 2, 4))


def summary(labelled: Labelled, vocabulary: Vocabulary, calibration: Calibration, bins: int = 10) -> dict[str, Any]:
    """Likelihood loss and calibration error per head, before and after, on the rows calibration saw."""
    report: dict[str, Any] = {}
    before, after = (
        probabilities(labelled.logits, vocabulary, one) for one in (no_calibration(vocabulary), calibration)
    )
    for name, where in vocabulary.slices().items():
        logits, target = labelled.of(name)
        if not len(logits):
            continue
        head = vocabulary.heads[name]
        scaled = logits * np.array(calibration.scale[where]) + np.array(calibration.shift[where])
        report[name] = {
            "loss_before": round(mean_loss(logits, target, head.exclusive), 4),
            "loss_after": round(mean_loss(scaled, target, head.exclusive), 4),
            "ece_before": round(
                expected_calibration_error(labelled.among(name, before), target, head.exclusive, bins), 4
            ),
            "ece_after": round(
                expected_calibration_error(labelled.among(name, after), target, head.exclusive, bins), 4
            ),
        }
    return report


def read_calibration(path: Path = CALIBRATION) -> Calibration:
    """The stage's output. Raises pydantic's ValidationError."""
    return Calibration.model_validate_json(path.read_text(encoding="utf-8"))


def load_validation() -> Dataset:
    """The rows that calibration looks at."""
    return load_from_disk(str(DATASET))["validation"]


def main() -> None:
    """Run the stage for the current profile."""
    config = load_config(CalibrateConfig, "train.yaml", "calibrate", current_profile())
    model, vocabulary = load_model(MODEL)
    labelled = score_split(model, load_validation(), load_vocabulary(), vocabulary, "calibrating")
    calibration = calibrate(labelled, vocabulary, config)
    write_json(CALIBRATION, calibration.model_dump())
    finish_stage("calibrate", config, summary(labelled, vocabulary, calibration))


if __name__ == "__main__":
    run(main)
