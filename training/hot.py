"""Hot turns and the queue they should lead: how well they are told, and how many a busy team would reach.

A turn's hot probability is 1 - (1 - P(frustration at the level or above)) · Π (1 - P(signal)), as if what makes a turn
hot came independently. A conversation ranks by its hottest turn. Priority proper, with urgency, waiting and policy,
is serving's; this is the model's part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads import Floats
from pipeline.vocabulary import Vocabulary
from training.bootstrap import Resampling, Weights, intervals
from training.labelled import Labelled
from training.measures import Bools, divided, ranking_measures

CAPACITIES = (0.05, 0.10, 0.20)  # of conversations that a team can take
CURVE = np.linspace(0, 1, 51)


@dataclass(frozen=True)
class Turns:
    """Turns whose labels say whether they are hot. Shapes: [turns]; groups are conversations, order is the turn's."""

    chance: Floats
    hot: Bools
    groups: NDArray[np.intp]
    order: NDArray[np.intp]
    sources: NDArray[np.str_]

    def among(self, rows: Bools) -> Turns:
        """Some of the turns."""
        return Turns(self.chance[rows], self.hot[rows], self.groups[rows], self.order[rows], self.sources[rows])

    def parts(self) -> dict[str, Turns]:
        """The turns of each corpus."""
        return {str(name): self.among(self.sources == name) for name in np.unique(self.sources)}


def hot_probability(chances: Floats, vocabulary: Vocabulary) -> Floats:
    """Probability [rows] that a turn is hot, from calibrated probabilities [rows, outputs]."""
    calm = np.ones(len(chances))
    for columns in hot_outputs(vocabulary):
        calm *= 1 - chances[:, columns].sum(axis=1)
    return np.asarray(1 - np.clip(calm, 0, 1))


def hot_outputs(vocabulary: Vocabulary) -> list[list[int]]:
    """Model outputs whose sums are the chances of what makes a turn hot; none of a head that is not there."""
    where, hot = vocabulary.slices(), vocabulary.hot
    outputs = []
    if "frustration" in where:
        numbers = vocabulary.heads["frustration"].numbers
        outputs.append([where["frustration"].start + i for i, n in enumerate(numbers) if n >= hot.frustration])
    if "signals" in where:
        values = vocabulary.heads["signals"].values
        outputs += [[where["signals"].start + values.index(signal)] for signal in hot.signals]
    return outputs


def hot_turns(labelled: Labelled) -> tuple[Bools, Bools]:
    """Which rows' labels make them hot, and which rows' labels say so or deny it, both [rows]."""
    known = np.zeros(len(labelled.target), dtype=bool)
    for head in ("frustration", "signals"):
        known |= labelled.known.get(head, known)
    hot = np.zeros(len(known), dtype=bool)
    for columns in hot_outputs(labelled.vocabulary):
        hot |= labelled.target[:, columns].sum(axis=1) > 0.5
    return hot & known, known


def hot_report(turns: Turns, config: Resampling) -> dict[str, Any]:
    """How often turns are hot, and how well the hot probability ranks them."""
    return {
        "rows": len(turns.hot),
        "share": round(float(turns.hot.mean()), 4),
        **intervals(ranking_measures(turns.chance, turns.hot), turns.groups, config),
    }


def queue_report(turns: Turns, config: Resampling) -> dict[str, Any]:
    """Share of hot conversations among the first that a team takes, with the most that any order could reach."""
    score, hot = by_conversation(turns)
    reach = recall_at(score, hot)
    found = intervals(
        lambda weights: {f"{share:.2f}": reach(weights, share) for share in CAPACITIES}, np.arange(len(hot)), config
    )
    return {
        "conversations": len(hot),
        "hot": int(hot.sum()),
        "recall": {name: {**figure, "ceiling": ceiling(hot, float(name))} for name, figure in found.items()},
    }


def queue_curve(turns: Turns) -> list[tuple[float, float, float]]:
    """(share taken, share of hot conversations reached, the most that could be), from none to all."""
    score, hot = by_conversation(turns)
    if not hot.any():
        return []
    once, reach = np.ones((1, len(hot)), dtype=np.float32), recall_at(score, hot)
    return [(float(share), float(reach(once, share)[0]), ceiling(hot, share)) for share in CURVE]


def by_conversation(turns: Turns) -> tuple[Floats, Bools]:
    """Each conversation's hottest probability, and whether any of its turns is hot, both [conversations]."""
    members = np.unique(turns.groups, return_inverse=True)[1]
    score, hot = np.zeros(members.max() + 1), np.zeros(members.max() + 1, dtype=bool)
    np.maximum.at(score, members, turns.chance)
    np.logical_or.at(hot, members, turns.hot)
    return score, hot


def recall_at(score: Floats, hot: Bools) -> Callable[[Weights, float], Floats]:
    """From weights and a share of conversations taken to the share of hot ones among them [rounds].

    Of equal scores the calm come first, so that a score that tells nothing gains nothing by luck.
    """
    order = np.lexsort((hot, -score))
    true = hot[order]

    def recall(weights: Weights, share: float) -> Floats:
        mine = weights[:, order].astype(float)
        before = np.cumsum(mine, axis=1) - mine
        taken = np.clip(share * mine.sum(axis=1, keepdims=True) - before, 0, mine)
        total = (mine * true).sum(axis=1)
        return divided((taken * true).sum(axis=1), total, np.nan)

    return recall


def ceiling(hot: Bools, share: float) -> float:
    """The recall of a perfect order: below 1 where more conversations are hot than are taken."""
    return round(min(1.0, share * len(hot) / max(1, int(hot.sum()))), 4)
