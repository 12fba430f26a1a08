"""A store with conversations in it, scored by a stand-in that hears certain words, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.conversation import Conversation
from pipeline.vocabulary import Vocabulary, load_vocabulary
from serving.answers import Abstention, Answer, Level, ModelName, Priority, Satisfaction, Sentiment
from serving.live.conversations import Conversations
from serving.live.handling import Handling
from serving.live.judging import Judge
from serving.live.keeper import Keeper
from serving.live.lifecycle import Event
from serving.live.live import Live
from serving.policy import load_policy
from serving.scorer import Job
from serving.store.database import Database, open_database, vacuum_erased
from serving.store.outbox import append
from serving.store.reader import Reader
from serving.store.writer import Writer

MODEL = ModelName(version="1", bundle="sha256:test")
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is moved, to either side."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


def chances_of(text: str, vocabulary: Vocabulary) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Certain of what the words say: `furious`, `urgent`, `manager`, `lawyer`, `soon` (a boil-over ahead)."""
    chances, where = np.zeros(vocabulary.size), vocabulary.slices()
    chances[where["sentiment"].start + (0 if "furious" in text else 2)] = 1
    chances[where["frustration"].start + (3 if "furious" in text else 0)] = 1
    chances[where["urgency"].start + (3 if "urgent" in text else 0)] = 1
    chances[where["satisfaction"].start + 2] = 1
    for word, signal in (("manager", "escalation_request"), ("lawyer", "public_or_legal_threat")):
        chances[where["signals"].start + vocabulary.heads["signals"].values.index(signal)] = word in text
    chances[where["boil_over"].start] = 0.9 if "soon" in text else 0.05
    return chances


@dataclass
class WordScoring:
    """Scores by words; `calls` are the conversations it was shown."""

    judge: Judge
    calls: list[Conversation] = field(default_factory=list)
    failure: Exception | None = None

    async def score(self, jobs: Sequence[Job], deadline: float | None = None) -> list[Answer]:
        if self.failure is not None:
            raise self.failure
        self.calls += [job.conversation for job in jobs]
        return [self._answer(job) for job in jobs]

    def passed_over(self, identifier: str, turn: int, priority: Mapping[str, Any]) -> dict[str, Any]:
        why = Abstention(reason="not_customer", detail="context, not scored")
        answer = Answer(id=identifier, turn=turn, priority=Priority(**priority), abstained=why, model=MODEL)
        return answer.model_dump(mode="json")

    def _answer(self, job: Job) -> Answer:
        assert job.turn is not None
        vocabulary, policy = self.judge.vocabulary, self.judge.policy
        text = job.conversation.turns[job.turn].text
        if not any(letter.isalpha() for letter in text):
            priority = policy.decide_abstained("no_words")
            why = Abstention(reason="no_words", detail="no letter in it")
            return Answer(id=job.conversation.id, turn=job.turn, priority=_shown(priority), abstained=why, model=MODEL)
        chances = chances_of(text, vocabulary)
        parts = {name: chances[where] for name, where in vocabulary.slices().items()}
        names = vocabulary.heads["sentiment"].values
        return Answer(
            id=job.conversation.id,
            turn=job.turn,
            sentiment=Sentiment(
                label=names[int(parts["sentiment"].argmax())],
                score=0.0,
                probabilities=dict(zip(names, map(float, parts["sentiment"]), strict=True)),
            ),
            frustration=_level(parts["frustration"]),
            urgency=_level(parts["urgency"]),
            signals=dict(zip(vocabulary.heads["signals"].values, map(float, parts["signals"]), strict=True)),
            satisfaction=Satisfaction(expected=3.0, probabilities=[float(p) for p in parts["satisfaction"]]),
            boil_over=float(parts["boil_over"][0]),
            priority=_shown(policy.decide(chances)),
            model=MODEL,
        )


def _level(part: Any) -> Level:
    return Level(level=int(part.argmax()), expected=float(part.argmax()), probabilities=[float(p) for p in part])


def _shown(decision: Any) -> Priority:
    return Priority(score=decision.score, queue=decision.queue, reasons=list(decision.reasons))


class Heard:
    """Writes events to the store, and keeps what was written."""

    def __init__(self) -> None:
        self.notified = 0

    def append(self, connection: Any, of: str, at: datetime, events: Sequence[Event]) -> None:
        for event in events:
            append(connection, event.kind, of, at, event.body)

    def notify(self) -> None:
        self.notified += 1


@dataclass
class World:
    """Everything a test of live conversations needs."""

    live: Live
    scoring: WordScoring
    heard: Heard
    clock: Clock
    database: Database
    writer: Writer

    def stop(self) -> None:
        """End it; its store stays open."""
        self.writer.close()
        self.live.reader.close()


@pytest.fixture(scope="session")
def judge() -> Judge:
    vocabulary = load_vocabulary()
    return Judge(load_policy(vocabulary), vocabulary)


def build(
    database: Database,
    judge: Judge | Callable[[], Judge],
    keep_days: float | None = None,
    clock: Clock | None = None,
) -> World:
    """A replica over a store."""
    judging: Callable[[], Judge] = (lambda: judge) if isinstance(judge, Judge) else judge
    clock, heard, scoring = clock or Clock(), Heard(), WordScoring(judging())
    reader, writer = Reader(database, 2), Writer(database)
    writer.start()
    conversations = Conversations(reader, writer, lambda: scoring, judging, heard, clock)
    handy, vacuum = conversations.handy, partial(vacuum_erased, database)
    keeper = Keeper(reader, writer, judging, heard, clock, vacuum, handy, keep_days)
    handling = Handling(writer, handy, judging, heard, clock, keeper.erased)
    live = Live(conversations, handling, keeper, reader, judging, clock)
    return World(live, scoring, heard, clock, database, writer)


@pytest.fixture
def world(tmp_path: Path, judge: Judge) -> Iterator[World]:
    database = open_database(f"sqlite:///{tmp_path}/simmer.db")
    world = build(database, judge)
    yield world
    world.stop()
    database.close()
