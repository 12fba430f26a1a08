"""Does the model see a conversation boil over before it does? Turn by turn, and conversation by conversation.

Beside the boil-over head stand two baselines: `last_turn`, the same model's hot probability of the turn just read, and
`constant`, which says the same of every turn. A conversation can be foreseen where its first labelled turn is calm: a
forecast counts when it fires on a calm turn before the first hot one, however far ahead, and is a false alarm when it
fires anywhere in a conversation that stays calm. Forecasts are compared at equal rates of false alarms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.heads import Floats
from training.bootstrap import Resampling, Weights, intervals
from training.hot import Turns
from training.measures import Bools, divided, ranking_measures

FALSE_ALARMS = (0.05, 0.10, 0.20)  # of conversations that stay calm
SWEEP = np.round(np.arange(0.02, 1.0, 0.02), 2)


@dataclass(frozen=True)
class Case:
    """The turns of a conversation on which a forecast may fire, and whether a hot turn follows them."""

    turns: tuple[int, ...]
    boils_over: bool


def forecasts(turns: Turns, boil_over: Floats) -> dict[str, Floats]:
    """What each way of foreseeing says of every turn [turns]."""
    return {"boil_over": boil_over, "last_turn": turns.chance, "constant": np.full(len(boil_over), turns.hot.mean())}


def turn_report(scores: Mapping[str, Floats], truth: Bools, turns: Turns, config: Resampling) -> dict[str, Any]:
    """Ranking quality of each forecast over turns. `truth` [turns]: whether one of the next few turns is hot."""
    return {
        "rows": len(truth),
        "share": round(float(truth.mean()), 4),
        "forecasts": {
            name: intervals(ranking_measures(score, truth), turns.groups, config) for name, score in scores.items()
        },
    }


def conversation_report(scores: Mapping[str, Floats], turns: Turns, config: Resampling) -> dict[str, Any]:
    """At fixed rates of false alarms: what each forecast foresees, and how many customer turns ahead."""
    found = cases(turns)
    boiled = sum(case.boils_over for case in found)
    report: dict[str, Any] = {"boiled_over": boiled, "stayed_calm": len(found) - boiled}
    if 0 < boiled < len(found):
        report["forecasts"] = {
            name: {f"{rate:.2f}": at_false_alarms(score, found, rate, config) for rate in FALSE_ALARMS}
            for name, score in scores.items()
        }
    return report


def cases(turns: Turns) -> list[Case]:
    """Conversations of two labelled turns or more that begin calm."""
    found = []
    order = np.lexsort((turns.order, turns.groups))
    edges = np.flatnonzero(np.diff(turns.groups[order])) + 1
    for members in np.split(order, edges):
        hot = turns.hot[members]
        if len(members) < 2 or hot[0]:
            continue
        first = int(hot.argmax()) if hot.any() else len(hot)
        found.append(Case(tuple(int(i) for i in members[:first]), bool(hot.any())))
    return found


def at_false_alarms(score: Floats, found: Sequence[Case], rate: float, config: Resampling) -> dict[str, Any]:
    """The lowest threshold with at most this share of false alarms, and what a forecast is worth there."""
    threshold = threshold_for(score, found, rate)
    boils = np.array([case.boils_over for case in found])
    fired = np.array([first_alarm(score, case, threshold) is not None for case in found])

    def measures(weights: Weights) -> dict[str, Floats]:
        rows = np.where(boils, fired, np.nan)
        return {"foreseen": weighted_mean(weights, rows)}

    return {
        "threshold": round(threshold, 4),
        **point(score, found, threshold),
        "foreseen": intervals(measures, np.arange(len(found)), config)["foreseen"],
    }


def weighted_mean(weights: Weights, values: Floats) -> Floats:
    """Mean [rounds] of the values [rows] that are numbers, by how often rows count."""
    known = np.isfinite(values)
    total = weights[:, known].sum(axis=1).astype(float)
    hits = (weights[:, known] @ values[known].astype(np.float32)).astype(float)
    return divided(hits, total, np.nan)


def threshold_for(score: Floats, found: Sequence[Case], rate: float) -> float:
    """The lowest threshold at which at most a share `rate` of calm conversations raise an alarm."""
    highest = np.sort([score[list(case.turns)].max() for case in found if not case.boils_over])[::-1]
    allowed = int(rate * len(highest))
    return float(np.nextafter(highest[allowed], np.inf)) if allowed < len(highest) else 0.0


def first_alarm(score: Floats, case: Case, threshold: float) -> int | None:
    """Position of the first turn whose score reaches the threshold."""
    reached = np.flatnonzero(score[list(case.turns)] >= threshold)
    return int(reached[0]) if len(reached) else None


def point(score: Floats, found: Sequence[Case], threshold: float) -> dict[str, Any]:
    """At one threshold: shares of false alarms and of conversations foreseen, and median customer turns ahead."""
    alarms = [(case, first_alarm(score, case, threshold)) for case in found]
    calm = [alarm is not None for case, alarm in alarms if not case.boils_over]
    ahead = [len(case.turns) - alarm for case, alarm in alarms if case.boils_over and alarm is not None]
    boiled = len(found) - len(calm)
    return {
        "false_alarms": round(float(np.mean(calm)), 4),
        "foreseen": round(len(ahead) / boiled, 4),
        "turns_ahead": float(np.median(ahead)) if ahead else None,
    }


def sweep(scores: Mapping[str, Floats], turns: Turns) -> list[tuple[Any, ...]]:
    """(forecast, threshold, false alarms, foreseen, turns ahead) over all thresholds; none where nothing boils over."""
    found = cases(turns)
    if len({case.boils_over for case in found}) < 2:
        return []
    return [
        (name, float(threshold), *point(score, found, threshold).values())
        for name, score in scores.items()
        for threshold in SWEEP
    ]
