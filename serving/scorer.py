"""The scorer: conversations in, answers out. The one class behind the command line, the API and MLflow's model.

read    what the customer wrote, and whether it can be judged
predict calibrated probabilities, batched by length
answer  labels, priority and reasons

`Scorer` does all three for the jobs at hand; `LiveScorer` shares the engine among all who ask at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.abstention import why_not
from pipeline.bundle import Bundle, BundleRefused, load_bundle
from pipeline.conversation import Conversation
from pipeline.encode import Input, read_turn
from pipeline.heads import Floats, choose
from pipeline.vocabulary import Head
from serving.answers import Abstention, Answer, Level, ModelName, Priority, Satisfaction, Sentiment
from serving.batcher import Batcher, BatcherConfig, DeadlinePassed, EngineFailed, Observer, Rank
from serving.policy import Decision, Policy, load_policy

LONGEST_WAIT = 1e9  # minutes; JSON's integers may be too large for a float
MANY = 50  # jobs; more take milliseconds, and the event loop has others to serve
T = TypeVar("T")


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
        self.model = ModelName(version=bundle.version, bundle=bundle.digest)
        labels = bundle.card.labels
        self._heads = {name: _Head(labels.heads[name], where) for name, where in labels.slices().items()}

    def score(self, jobs: Sequence[Job]) -> list[Answer]:
        """One answer a job, in order. Never raises for anything a customer may write."""
        readings = [self.read(job) for job in jobs]
        judged = [given for given in readings if isinstance(given, Input)]
        chances = self.bundle.predictor.predict(judged) if judged else np.empty((0, self.bundle.card.labels.size))
        return self.answers(jobs, readings, chances)

    def ready(self) -> None:
        """Score the bundle's golden inputs. Raises BundleRefused if one no longer scores as it did."""
        self.bundle.replay_golden()

    def read(self, job: Job) -> Input | Abstention:
        """What is scored of a job, or why it is not judged."""
        if job.turn is None:
            return Abstention(reason="no_customer_text", detail="the customer has said nothing")
        given = read_turn(job.conversation, job.turn, self.bundle.card.encoding)
        refused = why_not(given, self.bundle.card.languages, job.conversation.language)
        return Abstention(reason=refused.reason, detail=refused.detail) if refused else given

    def answers(self, jobs: Sequence[Job], readings: Sequence[Input | Abstention], chances: Floats) -> list[Answer]:
        """One answer a job; `chances` [inputs, outputs] are the probabilities of those that were not refused."""
        rows = iter(chances)
        return [
            self.answer(job, next(rows)) if isinstance(given, Input) else self.abstain(job, given)
            for job, given in zip(jobs, readings, strict=True)
        ]

    def answer(self, job: Job, chances: Floats) -> Answer:
        """What is said of a job with these calibrated probabilities [outputs]."""
        decision = self.policy.decide(chances, waiting_minutes(job.conversation))
        heads = self._heads
        return Answer(
            id=job.conversation.id,
            turn=_index(job),
            sentiment=heads["sentiment"].sentiment(chances),
            frustration=heads["frustration"].level(chances),
            urgency=heads["urgency"].level(chances),
            signals=heads["signals"].by_value(chances),
            satisfaction=Satisfaction(
                expected=heads["satisfaction"].expected(chances),
                probabilities=heads["satisfaction"].rounded(chances),
            ),
            boil_over=heads["boil_over"].rounded(chances)[0],
            priority=_priority(decision),
            model=self.model,
            auxiliary=self._auxiliary(chances) if self.all_heads else None,
        )

    def abstain(self, job: Job, why: Abstention) -> Answer:
        """What is said of a job that the model does not judge."""
        return Answer(
            id=job.conversation.id,
            turn=_index(job),
            priority=_priority(self.policy.decide_abstained(why.reason)),
            abstained=why,
            model=self.model,
            auxiliary={} if self.all_heads else None,
        )

    def expectations(self, chances: Floats) -> dict[str, Floats]:
        """What is told of each judged head in one number, or one a signal, [rows] of probabilities [rows, outputs]."""
        heads = self._heads
        told = {name: heads[name].expectations(chances) for name in ("sentiment", "frustration", "urgency")}
        where = heads["signals"].where
        told |= {name: chances[:, where.start + n] for n, name in enumerate(heads["signals"].values)}
        return told | {"boil_over": chances[:, heads["boil_over"].where.start]}

    def _auxiliary(self, chances: Floats) -> dict[str, list[float]]:
        return {name: head.rounded(chances) for name, head in self._heads.items() if head.auxiliary}


class LiveScorer:
    """The scorer for many callers at a time, in an event loop: what it says, by way of the batcher."""

    def __init__(self, scorer: Scorer, batcher: Batcher) -> None:
        self.scorer = scorer
        self.batcher = batcher

    async def score(self, jobs: Sequence[Job], deadline: float | None = None) -> list[Answer]:
        """One answer a job, in order. `deadline` is a reading of `time.monotonic`.

        Raises what `Batcher.predict` raises: Overloaded, DeadlinePassed, EngineFailed, Closed.
        """
        readings = await self.read(jobs)
        chances = await self.batcher.predict([given for given in readings if isinstance(given, Input)], deadline)
        started = time.perf_counter()
        answers = await self._beside(len(jobs) > MANY, self.scorer.answers, jobs, readings, chances)
        self.batcher.observer.took("answer", time.perf_counter() - started)
        return answers

    async def read(self, jobs: Sequence[Job]) -> list[Input | Abstention]:
        """What is scored of each job, or why it is not judged."""
        started = time.perf_counter()
        long = len(jobs) > MANY or sum(map(self._characters, jobs)) > self.batcher.config.offload_characters
        readings = await self._beside(long, lambda: [self.scorer.read(job) for job in jobs])
        self.batcher.observer.took("read", time.perf_counter() - started)
        return readings

    async def _beside(self, apart: bool, work: Callable[..., T], *given: object) -> T:
        """Work done here, or beside the event loop where it is long."""
        return await asyncio.to_thread(work, *given) if apart else work(*given)

    async def ready(self, patience: float = 2.0) -> None:
        """Run the golden inputs before whatever waits.

        Raises BundleRefused if one no longer scores as it did, or if the engine fails or says nothing for `patience`
        seconds; Closed once the batcher is.
        """
        bundle = self.scorer.bundle
        try:
            scored = await self.batcher.predict(bundle.golden_inputs(), time.monotonic() + patience, Rank.PROBE)
        except DeadlinePassed:
            raise BundleRefused(f"{bundle.path}: the engine said nothing for {patience} s") from None
        except EngineFailed as error:
            raise BundleRefused(f"{bundle.path}: {error}") from None
        for golden, row in zip(bundle.card.golden, scored, strict=True):
            bundle.check_golden(golden, row)

    def _characters(self, job: Job) -> int:
        """How much is read of a job."""
        if job.turn is None:
            return 0
        first = max(0, job.turn - self.scorer.bundle.card.encoding.earlier_turns)
        return sum(len(turn.text) for turn in job.conversation.turns[first : job.turn + 1])


class _Head:
    """How one head's probabilities are told."""

    def __init__(self, head: Head, where: slice) -> None:
        self.where = where
        self.values = head.values
        self.auxiliary = head.auxiliary
        self._head = head
        self._numbers = np.array(head.numbers)

    def rounded(self, chances: Floats) -> list[float]:
        return [round(value, 4) for value in chances[self.where].tolist()]

    def by_value(self, chances: Floats) -> dict[str, float]:
        return dict(zip(self.values, self.rounded(chances), strict=True))

    def expected(self, chances: Floats) -> float:
        return round(float(chances[self.where] @ self._numbers), 4)

    def expectations(self, chances: Floats) -> Floats:
        return np.asarray(chances[:, self.where] @ self._numbers)

    def sentiment(self, chances: Floats) -> Sentiment:
        return Sentiment(
            label=self.values[self._chosen(chances)],
            score=self.expected(chances),
            probabilities=self.by_value(chances),
        )

    def level(self, chances: Floats) -> Level:
        return Level(level=self._chosen(chances), expected=self.expected(chances), probabilities=self.rounded(chances))

    def _chosen(self, chances: Floats) -> int:
        return int(choose(chances[None, self.where], self._head)[0])


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


def load_live_scorer(model: Path, config: BatcherConfig, observer: Observer | None = None) -> LiveScorer:
    """A live scorer over the bundle in a folder, its batcher not started yet. Raises as `load_scorer` does."""
    bundle = load_bundle(model, config.threads, config.stream_count())
    return LiveScorer(Scorer(bundle, load_policy(bundle.card.labels)), Batcher(bundle.predictor, config, observer))


def _index(job: Job) -> int:
    return len(job.conversation.turns) - 1 if job.turn is None else job.turn


def _priority(decision: Decision) -> Priority:
    return Priority(score=decision.score, queue=decision.queue, reasons=list(decision.reasons))
