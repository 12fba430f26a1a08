"""DVC stage `evaluate`: how good the model is on conversations that neither training nor calibration saw.

    python -m training.evaluate          metrics/evaluate.json, metrics/plots/

Figures stand for each corpus by itself too, and carry a bootstrap interval over conversations, but for calibration
error, single flags, a queue's ceiling and turns ahead; slices show where the model is weak. What is worth beating is
measured by `training.baselines`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset, load_from_disk
from numpy.typing import NDArray

from pipeline.config import current_profile, load_config
from pipeline.heads import Calibration, Floats, probabilities
from pipeline.prepare import DATASET
from pipeline.stage import METRICS, progress, run
from pipeline.vocabulary import load_vocabulary
from training.bootstrap import Resampling
from training.calibrate import read_calibration
from training.checkpoint import MODEL, load_model
from training.foresight import conversation_report, forecasts, sweep, turn_report
from training.hot import Turns, hot_probability, hot_report, hot_turns, queue_curve, queue_report
from training.labelled import Labelled, score_split
from training.measures import Bools, Judged, Measuring, by_source, fine_rows, leading
from training.plots import write_curves, write_plots
from training.slices import slices
from training.tracking import finish_stage

PLOTS = METRICS / "plots"
SMALLEST_SLICE = 20


class EvaluateConfig(Measuring):
    """Bootstrap rounds, their seed, and the bins of calibration error; slices are many and make do with fewer."""

    slice_bootstrap: int


def evaluate(
    labelled: Labelled, chances: Floats, rows: Dataset, calibration: Calibration, config: EvaluateConfig
) -> dict[str, Any]:
    """Figures per head, of hot turns and their queue, of foresight, and per slice of rows.

    `chances` are calibrated probabilities [rows, outputs].
    """
    sources = np.array([str(name) for name in rows["source"]])
    heads = judged_heads(labelled, chances, rows, calibration)
    return {
        "rows": len(rows),
        "heads": {
            name: by_source(judged, sources[labelled.known[name]], config)
            for name, judged in progress(list(heads.items()), "resampling")
        },
        **hot_section(labelled, chances, rows, config),
        "foresight": foresight_section(labelled, chances, rows, config),
        "slices": {
            name: slice_report(heads, labelled, chosen, config)
            for name, chosen in progress(list(slices(rows)), "slicing")
            if chosen.sum() >= SMALLEST_SLICE
        },
    }


def judged_heads(labelled: Labelled, chances: Floats, rows: Dataset, calibration: Calibration) -> dict[str, Judged]:
    """Every head's probabilities beside what holds, in the rows that know it."""
    groups = np.unique(rows["conversation"], return_inverse=True)[1]
    sources = np.array([str(name) for name in rows["source"]])
    heads = labelled.vocabulary.heads
    return {
        name: Judged(
            head=heads[name],
            chance=labelled.among(name, chances),
            target=labelled.among(name, labelled.target),
            thresholds=np.array(calibration.thresholds[where]),
            groups=groups[labelled.known[name]],
            fine=fine_rows(heads[name], labelled.among(name, labelled.target), sources[labelled.known[name]]),
        )
        for name, where in labelled.vocabulary.slices().items()
    }


def turns_of(labelled: Labelled, chances: Floats, rows: Dataset) -> tuple[Turns, Bools]:
    """The turns whose labels say whether they are hot, and which of the rows [rows] they are."""
    hot, known = hot_turns(labelled)
    everything = Turns(
        chance=hot_probability(chances, labelled.vocabulary),
        hot=hot,
        groups=np.unique(rows["conversation"], return_inverse=True)[1],
        order=np.array(rows["turn"], dtype=np.intp),
        sources=np.array([str(name) for name in rows["source"]]),
    )
    return everything.among(known), known


def hot_section(labelled: Labelled, chances: Floats, rows: Dataset, config: EvaluateConfig) -> dict[str, Any]:
    """How well hot turns are told, and what a queue in that order is worth, over all and per corpus."""
    turns, known = turns_of(labelled, chances, rows)
    if not known.any():
        return {}
    return {
        name: {
            **report(turns, config),
            "sources": {source: report(part, config) for source, part in turns.parts().items()},
        }
        for name, report in (("hot", hot_report), ("queue", queue_report))
    }


def foresight_section(labelled: Labelled, chances: Floats, rows: Dataset, config: EvaluateConfig) -> dict[str, Any]:
    """What the boil-over head foresees, beside its baselines; nothing where the model has no such head."""
    if "boil_over" not in labelled.vocabulary.heads:
        return {}
    turns, known = turns_of(labelled, chances, rows)
    scores = forecasts(turns, boil_over_of(labelled, chances)[known])
    report: dict[str, Any] = {"conversations": conversation_report(scores, turns, config)}
    told = labelled.known["boil_over"][known]
    if told.any():
        truth = boil_over_of(labelled, labelled.target)[known][told] > 0.5
        told_scores = {name: score[told] for name, score in scores.items()}
        report["turns"] = turn_report(told_scores, truth, turns.among(told), config)
    return report


def boil_over_of(labelled: Labelled, values: Floats) -> Floats:
    """Of values [rows, outputs] the boil-over head's [rows]."""
    return np.asarray(values[:, labelled.vocabulary.slices()["boil_over"].start])


def slice_report(
    heads: dict[str, Judged], labelled: Labelled, chosen: NDArray[np.bool_], config: EvaluateConfig
) -> dict[str, Any]:
    """Rows, and each main head's leading figure with its interval and its own rows, over some of the rows [rows]."""
    report: dict[str, Any] = {"rows": int(chosen.sum())}
    rounds = Resampling(bootstrap=config.slice_bootstrap, seed=config.seed)
    for name, judged in heads.items():
        if judged.head.auxiliary:
            continue
        found = leading(judged.among(chosen[labelled.known[name]]), rounds)
        if found and found[2] >= SMALLEST_SLICE:
            measure, figure, count = found
            report[name] = {
                "rows": count,
                "measure": measure,
                measure: figure["value"],
                "low": figure["low"],
                "high": figure["high"],
            }
    return report


def curves(labelled: Labelled, chances: Floats, rows: Dataset) -> dict[str, list[tuple[Any, ...]]]:
    """The queue's and the forecasts' curves, by the name of their plot."""
    turns, known = turns_of(labelled, chances, rows)
    if not known.any():
        return {"queue": [], "foresight": []}
    parts = {"all": turns, **turns.parts()}
    queue = [(name, *step) for name, part in parts.items() for step in queue_curve(part)]
    if "boil_over" not in labelled.vocabulary.heads:
        return {"queue": queue, "foresight": []}
    return {"queue": queue, "foresight": sweep(forecasts(turns, boil_over_of(labelled, chances)[known]), turns)}


def main() -> None:
    """Run the stage for the current profile."""
    config = load_config(EvaluateConfig, "train.yaml", "evaluate", current_profile())
    model, vocabulary = load_model(MODEL)
    rows = load_from_disk(str(DATASET))["test"]
    labelled = score_split(model, rows, load_vocabulary(), vocabulary, "evaluating")
    calibration = read_calibration()
    chances = probabilities(labelled.logits, vocabulary, calibration)
    write_plots(PLOTS, judged_heads(labelled, chances, rows, calibration), config.ece_bins)
    write_curves(PLOTS, **curves(labelled, chances, rows))
    finish_stage("evaluate", config, evaluate(labelled, chances, rows, calibration, config), PLOTS)


if __name__ == "__main__":
    run(main)
