"""What a policy makes of an answer: the decision before any waiting, the factors' strengths, whether it is hot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        """An answer, as it was stored, under the policy."""
        answer = Answer.model_validate({name: given[name] for name in Answer.model_fields if name in given})
        if answer.abstained is not None:
            return Judged(self.policy.decide_abstained(answer.abstained.reason), None, 0.0)
        outputs = outputs_of(answer, self.vocabulary)
        strengths = self.policy.strengths(outputs)
        return Judged(self.policy.decide_by(strengths), strengths, hot_chance_in(outputs, self.vocabulary))

    def coolness(self, queue: str) -> int:
        """The queue's place in the policy, 0 hottest; one that an earlier policy had counts as coolest."""
        names = [one.name for one in self.policy.config.queues]
        return names.index(queue if queue in names else names[-1])
