"""The scorer: conversations in, answers out. The one class behind the command line, the API and MLflow's model.

read    what the customer wrote, and whether it can be judged
predict calibrated probabilities, batched by length
answer  labels, priority and reasons
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.abstention import why_not
from pipeline.bundle import Bundle, load_bundle
from pipeline.conversation import Conversation
from pipeline.encode import Input, read_turn
from pipeline.heads import Floats, choose, expected
from serving.answers import Abstention, Answer, Level, ModelName, Priority, Satisfaction, Sentiment
from serving.policy import Decision, Policy, load_policy

LONGEST_WAIT = 1e9  # minutes; JSON's integers may be too large for a float


@dataclass(frozen=True)
class Job:
    """One customer turn to score; `turn` is its index, None where the customer has said nothing yet."""

    conversation: Conversation
    turn: int | None


def last_turn(conversation: Conversation) -> list[Job]:
    """The job of scoring a conversation's last customer turn."""
    turns = conversation.customer_turns()
    return [Job(conversation, turns[-1] if turns else None)]


def every_turn(conversation: Conversation) -> list[Job]:
    """The jobs of scoring each customer turn with what came before it."""
    return [Job(conversation, turn) for turn in conversation.customer_turns()] or [Job(conversation, None)]


class Scorer:
    """Scores customer turns with one bundle and one policy. Safe to share between threads."""

    def __init__(self, bundle: Bundle, policy: Policy, all_heads: bool = False) -> None:
        self.bundle = bundle
        self.policy = policy
        self.all_heads = all_heads
        self._model = ModelName(version=bundle.version, bundle=bundle.digest)
        self._slices = bundle.card.labels.slices()
        self._lock = threading.Lock()

    def score(self, jobs: Sequence[Job]) -> list[Answer]:
        """One answer a job, in order. Never raises for anything a customer may write."""
        inputs = [self._read(job) for job in jobs]
        judged = [given for given in inputs if isinstance(given, Input)]
        chances = iter(self._predict(judged))
        return [
            self._answer(job, next(chances)) if isinstance(given, Input) else self._abstain(job, given)
            for job, given in zip(jobs, inputs, strict=True)
        ]

    def ready(self) -> None:
        """Score the bundle's golden inputs. Raises BundleRefused if one no longer scores as it did."""
        with self._lock:
            self.bundle.replay_golden()

    def _read(self, job: Job) -> Input | Abstention:
        if job.turn is None:
            return Abstention(reason="no_customer_text", detail="the customer has said nothing")
        given = read_turn(job.conversation, job.turn, self.bundle.card.encoding)
        refused = why_not(given, self.bundle.card.languages, job.conversation.language)
        return Abstention(reason=refused.reason, detail=refused.detail) if refused else given

    def _predict(self, judged: Sequence[Input]) -> Floats:
        if not judged:
            return np.empty((0, self.bundle.card.labels.size))
        with self._lock:
            return self.bundle.predictor.predict(judged)

    def _answer(self, job: Job, chances: Floats) -> Answer:
        parts = self._parts(chances)
        boil_over = parts["boil_over"]
        decision = self.policy.decide(chances, waiting_minutes(job.conversation))
        return Answer(
            id=job.conversation.id,
            turn=_index(job),
            sentiment=self._sentiment(parts["sentiment"]),
            frustration=self._level("frustration", parts["frustration"]),
            urgency=self._level("urgency", parts["urgency"]),
            signals=dict(zip(self._values("signals"), _rounded(parts["signals"]), strict=True)),
            satisfaction=Satisfaction(
                expected=self._expected("satisfaction", parts["satisfaction"]),
                probabilities=_rounded(parts["satisfaction"]),
            ),
            boil_over=round(float(boil_over[0]), 4),
            priority=_priority(decision),
            model=self._model,
            auxiliary=self._auxiliary(parts) if self.all_heads else None,
        )

    def _abstain(self, job: Job, why: Abstention) -> Answer:
        return Answer(
            id=job.conversation.id,
            turn=_index(job),
            priority=_priority(self.policy.decide_abstained(why.reason)),
            abstained=why,
            model=self._model,
            auxiliary={} if self.all_heads else None,
        )

    def _parts(self, chances: Floats) -> dict[str, Floats]:
        return {name: chances[where] for name, where in self._slices.items()}

    def _values(self, head: str) -> tuple[str, ...]:
        return self.bundle.card.labels.heads[head].values

    def _expected(self, head: str, part: Floats) -> float:
        return round(float(expected(part, self.bundle.card.labels.heads[head])), 4)

    def _chosen(self, head: str, part: Floats) -> int:
        return int(choose(part[None, :], self.bundle.card.labels.heads[head])[0])

    def _sentiment(self, part: Floats) -> Sentiment:
        values = self._values("sentiment")
        return Sentiment(
            label=values[self._chosen("sentiment", part)],
            score=self._expected("sentiment", part),
            probabilities=dict(zip(values, _rounded(part), strict=True)),
        )

    def _level(self, head: str, part: Floats) -> Level:
        return Level(level=self._chosen(head, part), expected=self._expected(head, part), probabilities=_rounded(part))

    def _auxiliary(self, parts: dict[str, Floats]) -> dict[str, list[float]]:
        return {name: _rounded(parts[name]) for name, head in self.bundle.card.labels.heads.items() if head.auxiliary}


def waiting_minutes(conversation: Conversation) -> float:
    """How long the customer has waited, from `meta.waiting_minutes`; 0 where it is not given as a number."""
    value = conversation.meta.get("waiting_minutes")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(max(0.0, min(value, LONGEST_WAIT)))


def load_scorer(model: Path, threads: int = 1, all_heads: bool = False) -> Scorer:
    """A scorer over the bundle in a folder. Raises BundleRefused, ConfigError or PolicyMismatch."""
    bundle = load_bundle(model, threads)
    return Scorer(bundle, load_policy(bundle.card.labels), all_heads)


def _index(job: Job) -> int:
    return len(job.conversation.turns) - 1 if job.turn is None else job.turn


def _priority(decision: Decision) -> Priority:
    return Priority(score=decision.score, queue=decision.queue, reasons=list(decision.reasons))


def _rounded(part: Floats) -> list[float]:
    return [round(float(value), 4) for value in part]
