"""A desk over a store with live conversations in it, scored by the stand-in that hears certain words."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

from pipeline.vocabulary import load_vocabulary
from serving.live.judging import Judge
from serving.policy import load_policy
from serving.review.accounts import Reviewer, Role
from serving.review.config import ReviewConfig
from serving.review.conversation import ConversationView, Reading
from serving.review.estimates import Estimates
from serving.review.forms import TurnVerdict, VerdictForm
from serving.review.labelling import Labelling
from serving.review.listing import Listing
from serving.review.sampling import Sampler
from serving.review.verdicts import Saved, Verdicts
from serving.store.audit import history
from serving.store.database import open_database
from serving.store.reader import Reader
from serving.store.writer import Writer
from tests.serving.live.conftest import START, World, build
from tests.serving.live.test_conversations import message, post

ADA = Reviewer("ada", "Ada", Role.REVIEWER, START, None)
GRACE = Reviewer("grace", "Grace", Role.REVIEWER, START, None)
LEA = Reviewer("lea", "Lea", Role.LEAD, START, None)
ROOT = Reviewer("root", "Root", Role.ADMIN, START, None)

CALM = {"sentiment": "neutral", "frustration": 0, "urgency": 0, "signals": (), "satisfaction": 3}
ANGRY = {**CALM, "sentiment": "very_negative", "frustration": 3}

T = TypeVar("T")


def run(step: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(step)


@dataclass
class Bench:
    """The desk's parts, and short ways to use them."""

    world: World
    config: ReviewConfig
    labelling: Labelling
    forms: int = 0
    explained: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader, self.writer = Reader(self.world.database, 2), Writer(self.world.database)
        self.writer.start()
        self.clock = self.world.clock
        self.verdicts = Verdicts(self.writer, lambda: self.labelling, self.config, self.clock)
        self.reading = Reading(self.reader, lambda: self.labelling, self._explain, self.clock)
        self.listing = Listing(self.reader, self.writer, lambda: self.labelling.judge)
        self.sampler = Sampler(self.reader, self.writer, self.config.sampling, self.clock)

    async def _explain(self, job: Any) -> Any:
        self.explained.append(job)
        return "explained"

    def estimates(self) -> Estimates:
        """Without what it knew a minute ago."""
        return Estimates(self.reader, lambda: self.labelling, self.clock)

    def say(self, identifier: str, *texts: str) -> None:
        """A conversation of the customer's messages, m1, m2 and so on."""
        post(self.world, *(message(f"m{n}", text) for n, text in enumerate(texts, 1)), to=identifier)

    def form(self, turns: dict[str, Any] | None = None, **whole: Any) -> VerdictForm:
        """A form with a token of its own; of a message "agree" or its labels."""
        self.forms += 1
        judged = [
            TurnVerdict(message=name, agrees=True) if said == "agree" else TurnVerdict(message=name, labels=said)
            for name, said in (turns or {}).items()
        ]
        return VerdictForm(token=f"form-{self.forms:016d}", turns=tuple(judged), **whole)

    def judge(self, reviewer: Reviewer, turns: dict[str, Any] | None = None, to: str = "c1", **whole: Any) -> Saved:
        """Save a verdict."""
        return run(self.verdicts.save(to, self.form(turns, **whole), reviewer))

    def view(self, reviewer: Reviewer, identifier: str = "c1") -> ConversationView:
        return run(self.reading.view(identifier, reviewer))

    def rows(self, table: Any) -> Sequence[Any]:
        with self.world.database.reading.begin() as connection:
            return connection.execute(select(table).order_by(*table.primary_key)).all()

    def audited(self, subject: str) -> list[tuple[str, str]]:
        with self.world.database.reading.begin() as connection:
            return [(entry.actor, entry.action) for entry in history(connection, subject)]


@pytest.fixture(scope="session")
def judge() -> Judge:
    vocabulary = load_vocabulary()
    return Judge(load_policy(vocabulary), vocabulary)


@pytest.fixture
def bench(store_url: str, judge: Judge) -> Iterator[Bench]:
    """The desk on each database in turn, asking for no second verdicts by itself."""
    database = open_database(store_url)
    yield Bench(build(database, judge), ReviewConfig(second_share=0), Labelling(judge))
    database.close()


@pytest.fixture
def desk(sqlite_url: str, judge: Judge) -> Iterator[Bench]:
    """The desk on SQLite alone, for what is no matter of SQL."""
    database = open_database(sqlite_url)
    yield Bench(build(database, judge), ReviewConfig(second_share=0), Labelling(judge))
    database.close()
