"""Labels as reviewers give them: which heads, what the model says in the same words, what is no label at all.

Labels have one form here: a value's name for a categorical head, its number for an ordinal one, and the signals given,
in the vocabulary's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.bundle import Card
from pipeline.conversation import RowInvalid
from pipeline.heads import choose
from pipeline.scores import share_with_interval
from pipeline.vocabulary import Head, LabelError, Labels, LabelValue, Vocabulary
from serving.answers import Answer
from serving.live.judging import Judge
from serving.routing.history import hot_chance, outputs_of


@dataclass(frozen=True)
class Labelling:
    """A model's vocabulary with its policy and, where the card of the model is known, its thresholds."""

    judge: Judge
    card: Card | None = None
    bundle: str | None = None  # the digest of the bundle that the card is in

    @property
    def vocabulary(self) -> Vocabulary:
        """The heads that the model was trained for."""
        return self.judge.vocabulary

    def heads(self) -> dict[str, Head]:
        """What reviewers label. Whether a conversation boils over follows from the labels and is not one itself."""
        return {n: h for n, h in self.vocabulary.heads.items() if not h.auxiliary and h.kind != "probability"}

    def answer(self, said: Mapping[str, Any] | None) -> Answer | None:
        """A stored answer; None where there is none or the model abstained."""
        if said is None or said.get("abstained"):
            return None
        return Answer.model_validate({name: said[name] for name in Answer.model_fields if name in said})

    def labels(self, answer: Answer) -> Labels:
        """What an answer says, as labels; heads that it was not asked for are left out."""
        found: Labels = {}
        try:
            outputs, where = outputs_of(answer, self.vocabulary), self.vocabulary.slices()
        except RowInvalid:  # of a model with another vocabulary
            return found
        for name, head in self.heads().items():
            chances = outputs[where[name]]
            if not np.isnan(chances).any():
                found[name] = self._read(head, chances, where[name])
        return found

    def hot_chance(self, answer: Answer) -> float:
        """The chance that an answered message is hot; 0 where the answer has another vocabulary."""
        try:
            chance = hot_chance(answer, self.vocabulary)
        except RowInvalid:
            return 0.0
        return 0.0 if np.isnan(chance) else chance

    def forecast_interval(self, answer: Answer) -> tuple[float, float] | None:
        """How often forecasts like this one came true on the test set, 95 %; None where that was not measured.

        The card says it under metrics.test.boil_over.bins: rows of low, high (of the forecast), rows and positives.
        """
        if answer.boil_over is None or self.card is None or answer.model.bundle != self.bundle:
            return None
        for row in self.forecast_bins():
            if row["low"] <= answer.boil_over < row["high"] or answer.boil_over == row["high"] == 1:
                share = share_with_interval(int(row["positives"]), int(row["rows"])) if row["rows"] else None
                return (share["low"], share["high"]) if share else None
        return None

    def forecast_bins(self) -> Sequence[Mapping[str, float]]:
        """How often forecasts came true, by how sure they were; empty where the card does not say."""
        measured = self.card.metrics.get("test", {}).get("boil_over", {}) if self.card else {}
        bins: Sequence[Mapping[str, float]] = measured.get("bins", ())
        return bins

    def known(self, given: Mapping[str, LabelValue]) -> Labels:
        """The labels in their one form. Raises LabelError naming the head."""
        heads = self.heads()
        for name in given:
            if name not in heads:
                raise LabelError(f"{name}: is not labelled here (labelled: {', '.join(heads)})")
        self.vocabulary.check(given)
        return {name: _known(head, given[name]) for name, head in heads.items() if name in given}

    def _read(self, head: Head, chances: Any, where: slice) -> LabelValue:
        if head.exclusive:
            return _of_index(head, int(choose(chances[None, :], head)[0]))
        thresholds = self.card.calibration.thresholds[where] if self.card else (0.5,) * len(head.values)
        pairs = zip(head.values, chances, thresholds, strict=True)
        return tuple(value for value, chance, threshold in pairs if chance >= threshold)


def _known(head: Head, label: LabelValue) -> LabelValue:
    weights = head.target(label)
    if not head.exclusive:
        return tuple(value for value, weight in zip(head.values, weights, strict=True) if weight)
    if sum(weights) != 1:
        raise LabelError(f"{label!r} is more than one value")
    return _of_index(head, weights.index(1.0))


def _of_index(head: Head, index: int) -> LabelValue:
    return int(head.numbers[index]) if head.kind == "ordinal" else head.values[index]
