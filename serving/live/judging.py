"""What a policy makes of an answer: the decision before any waiting, the factors' strengths, whether it is hot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.conversation import RowInvalid
from pipeline.vocabulary import Vocabulary
from serving.answers import Answer
from serving.policy import Decision, Policy
from serving.routing.history import hot_chance_in, outputs_of

HOT_AT = 0.5  # of the chance that a message is hot


@dataclass(frozen=True)
class Judged:
    """An answer under a policy. `strengths` is None where the model abstained; `chance` is that of being hot."""

    decision: Decision
    strengths: dict[str, float] | None
    chance: float

    @property
    def hot(self) -> bool:
        """Whether the message counts as hot."""
        return self.chance >= HOT_AT


@dataclass(frozen=True)
class Judge:
    """A policy bound to the vocabulary that answers are given in."""

    policy: Policy
    vocabulary: Vocabulary

    def judge(self, given: Mapping[str, Any]) -> Judged:
        """An answer, as it was stored, under the policy; one in another vocabulary stays as it was decided then."""
        answer = Answer.model_validate({name: given[name] for name in Answer.model_fields if name in given})
        if answer.abstained is not None:
            return Judged(self.policy.decide_abstained(answer.abstained.reason), None, 0.0)
        try:
            outputs = outputs_of(answer, self.vocabulary)
        except RowInvalid:  # of a model with other labels, which has been replaced since
            return self._as_it_was(answer)
        strengths = self.policy.strengths(outputs)
        if math.isnan(sum(strengths.values())):  # the policy asks for a head that model did not have
            return self._as_it_was(answer)
        return Judged(self.policy.decide_by(strengths), strengths, hot_chance_in(outputs, self.vocabulary))

    def known(self, strengths: Mapping[str, float]) -> dict[str, float]:
        """The strength of each of the policy's factors; 0 of one that the policy they were stored under did not have.

        So it is between two policies, until every conversation was decided anew.
        """
        return {name: strengths.get(name, 0.0) for name in self.policy.config.factors}

    def coolness(self, queue: str) -> int:
        """The queue's place in the policy, 0 hottest; one that an earlier policy had counts as coolest."""
        names = [one.name for one in self.policy.config.queues]
        return names.index(queue if queue in names else names[-1])

    def _as_it_was(self, answer: Answer) -> Judged:
        given, queues = answer.priority, self.policy.config.queues
        queue = queues[self.coolness(given.queue)].name
        return Judged(Decision(given.score, queue, tuple(given.reasons)), None, 0.0)
