"""DVC stage `evaluate`: how good the model is on conversations that neither training nor calibration saw.

    python -m training.evaluate          metrics/evaluate.json, metrics/plots/

Every figure carries a bootstrap interval over conversations; slices show where the model is weak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset, load_from_disk
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.config import Config, current_profile, load_config
from pipeline.heads import Calibration, Floats, choose, probabilities
from pipeline.prepare import DATASET
from pipeline.scores import (
    Measure,
    accuracy,
    expected_calibration_error,
    flags_f1,
    macro_f1,
    quadratic_kappa,
    with_interval,
)
from pipeline.stage import METRICS, progress, run
from pipeline.text import normalise
from pipeline.vocabulary import Head, load_vocabulary
from training.calibrate import read_calibration
from training.checkpoint import MODEL, load_model
from training.labelled import Labelled, score_split
from training.plots import write_plots
from training.tracking import finish_stage

PLOTS = METRICS / "plots"
SMALLEST_SLICE = 20

_NEGATION = re.compile(r"\b(?:not?|never|nothing|nobody|none|neither|nor|without|hardly|cannot)\b|n['’]t\b", re.I)


class EvaluateConfig(Config):
    """Bootstrap rounds, their seed, and the bins of calibration error."""

    bootstrap: int
    seed: int
    ece_bins: int


def evaluate(
    labelled: Labelled, chances: Floats, rows: Dataset, calibration: Calibration, config: EvaluateConfig
) -> dict[str, Any]:
    """Metrics per head over all rows, and per slice of rows. `chances` are calibrated probabilities [rows, outputs]."""
    groups = np.unique(rows["conversation"], return_inverse=True)[1]
    return {
        "rows": len(rows),
        "heads": {
            name: head_metrics(name, labelled, chances, calibration, groups, config)
            for name in progress(list(labelled.vocabulary.heads), "resampling")
        },
        "slices": {
            name: slice_metrics(labelled, chances, chosen)
            for name, chosen in slices(rows)
            if chosen.sum() >= SMALLEST_SLICE
        },
    }


def head_metrics(
    name: str,
    labelled: Labelled,
    chances: Floats,
    calibration: Calibration,
    groups: NDArray[np.intp],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """What is said of one head: counts, scores, and 95 % intervals of the scores."""
    head, where = labelled.vocabulary.heads[name], labelled.vocabulary.slices()[name]
    chance, target = labelled.among(name, chances), labelled.among(name, labelled.target)
    if not len(chance):
        return {"rows": 0}
    if head.exclusive:
        measures = exclusive_measures(chance, target, head)
    else:
        measures = flag_measures(chance, target, np.array(calibration.thresholds[where]))
    report: dict[str, Any] = {"rows": len(chance)}
    for measure_name, measure in measures.items():
        report[measure_name] = with_interval(measure, groups[labelled.known[name]], config.bootstrap, config.seed)
    report["ece"] = round(expected_calibration_error(chance, target, head.exclusive, config.ece_bins), 4)
    if not head.exclusive:
        report["values"] = flag_report(chance, target, np.array(calibration.thresholds[where]), head)
    return report


def exclusive_measures(chance: Floats, target: Floats, head: Head) -> dict[str, Measure]:
    """Accuracy, macro-F1 and quadratic kappa of the chosen values against the true ones."""
    truth, chosen = target.argmax(axis=1), choose(chance, head)
    return {
        "accuracy": lambda rows: accuracy(truth[rows], chosen[rows]),
        "macro_f1": lambda rows: macro_f1(truth[rows], chosen[rows], len(head.values)),
        "quadratic_kappa": lambda rows: quadratic_kappa(truth[rows], chosen[rows]),
    }


def flag_measures(chance: Floats, target: Floats, thresholds: Floats) -> dict[str, Measure]:
    """Micro-F1 at the thresholds, and mean average precision over the flags that are given at all."""
    truth, given = target > 0.5, chance >= thresholds

    def precision(rows: NDArray[np.intp]) -> float:
        scores = [
            average_precision_score(truth[rows, i], chance[rows, i])
            for i in range(truth.shape[1])
            if truth[rows, i].any()
        ]
        return float(np.mean(scores)) if scores else float("nan")

    return {
        "micro_f1": lambda rows: flags_f1(truth[rows], given[rows]),
        "average_precision": precision,
    }


def flag_report(chance: Floats, target: Floats, thresholds: Floats, head: Head) -> dict[str, Any]:
    """Per flag: how often it is true, precision and recall at its threshold, and ranking quality."""
    report = {}
    for index, value in enumerate(head.values):
        truth, given = target[:, index] > 0.5, chance[:, index] >= thresholds[index]
        hits = int((truth & given).sum())
        report[value] = {
            "positives": int(truth.sum()),
            "precision": _ratio(hits, int(given.sum())),
            "recall": _ratio(hits, int(truth.sum())),
            "average_precision": round(float(average_precision_score(truth, chance[:, index])), 4)
            if truth.any()
            else None,
            "roc_auc": round(float(roc_auc_score(truth, chance[:, index])), 4)
            if truth.any() and not truth.all()
            else None,
        }
    return report


def slice_metrics(labelled: Labelled, chances: Floats, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Rows, and the one leading score of each exclusive head, over some of the rows."""
    report: dict[str, Any] = {"rows": int(chosen.sum())}
    for name, head in labelled.vocabulary.heads.items():
        rows = labelled.known[name] & chosen
        if not head.exclusive or not rows.any():
            continue
        where = labelled.vocabulary.slices()[name]
        truth, found = labelled.target[rows][:, where].argmax(axis=1), choose(chances[rows][:, where], head)
        report[name] = {
            "accuracy": round(accuracy(truth, found), 4),
            "quadratic_kappa": round(quadratic_kappa(truth, found), 4),
        }
    return report


def slices(rows: Dataset) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Named subsets of the rows [rows]: by channel, industry and source, and by what makes a text hard."""
    for field in ("channel", "industry", "source"):
        values = np.array([str(value) for value in rows[field]])
        for value in np.unique(values):
            yield f"{field} {value}", values == value
    texts = list(rows["text"])
    yield "short (up to 4 words)", np.array([len(text.split()) <= 4 for text in texts])
    yield "long (over 60 words)", np.array([len(text.split()) > 60 for text in texts])
    yield "negated", np.array([bool(_NEGATION.search(text)) for text in texts])
    yield "shouted", np.array([" ^" in normalise(text) for text in texts])
    yield "with emoji", np.array([normalise(text).count(" :") > text.count(" :") for text in texts])
    yield "later turns", np.array([turn > 0 for turn in rows["turn"]])


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def main() -> None:
    """Run the stage for the current profile."""
    config = load_config(EvaluateConfig, "train.yaml", "evaluate", current_profile())
    model, vocabulary = load_model(MODEL)
    rows = load_from_disk(str(DATASET))["test"]
    labelled = score_split(model, rows, load_vocabulary(), vocabulary, "evaluating")
    calibration = read_calibration()
    chances = probabilities(labelled.logits, vocabulary, calibration)
    write_plots(PLOTS, labelled, chances, config.ece_bins)
    finish_stage("evaluate", config, evaluate(labelled, chances, rows, calibration, config), PLOTS)


if __name__ == "__main__":
    run(main)
