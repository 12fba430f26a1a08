"""How long the review desk's pages take to read from a store of many conversations: median and 95th percentile.

    python -m benchmarks.desk [--conversations 100000] [--flagged 0.2] [--runs 30] [--store sqlite:///FILE]

The store is filled first, with invented conversations of six messages, unless it holds conversations already. HTTP
and the drawing of pages come on top.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, insert, select

from pipeline.vocabulary import load_vocabulary
from serving.live.judging import Judge
from serving.policy import load_policy
from serving.review.accounts import Reviewer, Role
from serving.review.conversation import Reading
from serving.review.estimates import Estimates
from serving.review.labelling import Labelling
from serving.review.listing import Chosen, Listing
from serving.review.trends import Trends
from serving.store.database import Database, open_database
from serving.store.reader import Reader
from serving.store.schema import conversations, messages, reviews, samples, verdicts
from serving.store.writer import Writer

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
WORDS = ["still", "waiting", "for", "the", "refund", "of", "my", "order", "nobody", "answers", "phone", "thank", "you"]
SIGNALS = load_vocabulary().heads["signals"].values
REASONS = [*SIGNALS, "urgency_critical", "urgency_high", "frustration_severe", "frustration_strong", "boil_over"]
MESSAGES = 6
AT_ONCE = 1_000
Rows = dict[str, list[dict[str, Any]]]


def answer(number: int, dice: random.Random) -> dict[str, Any]:
    """What a model might have said of a customer's message."""
    level = {"level": 1, "expected": 1.2345, "probabilities": [0.1234, 0.4321, 0.4012, 0.0433]}
    signals = {name: round(dice.random(), 4) for name in SIGNALS}
    sentiment = {"very_negative": 0.1, "negative": 0.6, "neutral": 0.2, "positive": 0.1, "very_positive": 0.0}
    return {
        "id": f"c{number}",
        "turn": 0,
        "sentiment": {"label": "negative", "score": -0.5, "probabilities": sentiment},
        "frustration": level,
        "urgency": level,
        "signals": signals,
        "satisfaction": {"expected": 2.2, "probabilities": [0.3, 0.4, 0.2, 0.1, 0.0]},
        "boil_over": round(dice.random(), 4),
        "priority": {"score": 67, "queue": "senior", "reasons": ["frustration_strong", "boil_over"]},
        "abstained": None,
        "model": {"version": "3", "bundle": "sha256:" + "0" * 64},
    }


def conversation(number: int, flagged: bool, said: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """A row of the store."""
    began = NOW - timedelta(days=84 * dice.random())
    hot_at, peak = began + timedelta(minutes=9), dice.randrange(60, 100) if flagged else dice.randrange(60)
    reasons = dice.sample(REASONS, 3) if flagged else ["frustration_mild"]
    return {
        "id": f"c{number}",
        "version": MESSAGES,
        "channel": dice.choice(["chat", "email", "social", "phone"]),
        "language": dice.choice(["en", "en", "en", "de", None]),
        "meta": {},
        "status": dice.choice(["open", "assigned", "resolved", "resolved"]),
        "created_at": began,
        "updated_at": hot_at,
        "first_hot_at": hot_at if flagged else None,
        "first_answer_at": began + timedelta(minutes=60 * dice.random()) if dice.random() < 0.9 else None,
        "score": peak,
        "queue": dice.choice(["critical", "senior", "priority", "standard"]),
        "reasons": reasons,
        "hot": flagged and dice.random() < 0.3,
        "held_out": False,
        "latest": said,
        "latest_message": f"m{MESSAGES - 2}",
        "peak": peak,
        "heat": dice.random(),
        "fired": reasons,
        "model": dice.choice(["2", "3"]),
        "foreseen_at": began if dice.random() < 0.2 else None,
        "hot_turn": dice.randrange(1, 4) if flagged else None,
    }


def some(numbers: range, flagged: float, dice: random.Random) -> Rows:
    """Conversations with messages; of one in twenty a verdict, of one in a hundred a place among what was drawn."""
    rows: Rows = {table.name: [] for table in (conversations, messages, reviews, samples, verdicts)}
    for number in numbers:
        said = answer(number, dice)
        row = conversation(number, dice.random() < flagged, said, dice)
        rows["conversations"].append(row)
        rows["messages"] += list(said_in(row, said, dice))
        if number % 20 == 0:
            rows["reviews"].append(
                {"conversation": row["id"], "state": dice.choice(["reviewed", "agreed", "disputed"]), "updated_at": NOW}
            )
            rows["verdicts"] += list(judged(row, dice))
        if number % 100 in (0, 1):
            kind = "flagged" if row["first_hot_at"] else "random"
            day = row["created_at"].date().isoformat()
            rows["samples"].append(
                {"conversation": row["id"], "kind": kind, "chance": 0.01, "day": day, "place": dice.random()}
            )
    return rows


def said_in(row: dict[str, Any], said: dict[str, Any], dice: random.Random) -> Iterator[dict[str, Any]]:
    """The messages of a conversation, customer and agent in turns."""
    for place in range(MESSAGES):
        at, role = row["created_at"] + timedelta(minutes=place), "agent" if place % 2 else "customer"
        text = " ".join(dice.choices(WORDS, k=20))
        values = {"conversation": row["id"], "id": f"m{place}", "sequence": place, "at": at, "received_at": at}
        yield {**values, "role": role, "text": text, "digest": "0" * 64, "answer": said}


def judged(row: dict[str, Any], dice: random.Random) -> Iterator[dict[str, Any]]:
    """A reviewer's verdict on the first message and on the whole."""
    labels = {"sentiment": "negative", "frustration": 1, "urgency": 1, "signals": [], "satisfaction": 2}
    whole = {"hot": row["first_hot_at"] is not None}
    for place, (message, given) in enumerate([(None, whole), ("m0", labels)]):
        yield {
            "conversation": row["id"],
            "message": message,
            "reviewer": dice.choice(["ada", "grace"]),
            "at": row["updated_at"],
            "round": "first",
            "labels": given,
            "agrees": True,
            "seconds": 40.0 * dice.random() if place == 0 else None,
            "said": given,
            "model": row["model"],
            "form": f"form-{row['id']}",
            "place": place,
        }


def fill(database: Database, count: int, flagged: float) -> None:
    """Fill an empty store."""
    with database.reading.connect() as connection:
        if connection.execute(select(func.count()).select_from(conversations)).scalar_one():
            return
    dice = random.Random(7)
    for first in range(0, count, AT_ONCE):
        rows = some(range(first, min(count, first + AT_ONCE)), flagged, dice)
        with database.writing.begin() as connection:
            for table in (conversations, messages, reviews, samples, verdicts):
                if rows[table.name]:
                    connection.execute(insert(table), rows[table.name])


async def timed(run: Callable[[], Awaitable[Any]], runs: int) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds."""
    await run()
    taken = []
    for _ in range(runs):
        begin = time.perf_counter()
        await run()
        taken.append(1_000 * (time.perf_counter() - begin))
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


async def unexplained(_: object) -> Any:
    """The desk explains on demand alone, and never while a page is read."""
    raise NotImplementedError


async def measure(database: Database, runs: int) -> Table:
    """Every page of the desk."""
    reader, writer = Reader(database), Writer(database)
    vocabulary = load_vocabulary()
    judge = Judge(load_policy(vocabulary), vocabulary)
    me = Reviewer("ada", "Ada", Role.LEAD, NOW, None)
    listing = Listing(reader, writer, lambda: judge)
    lists = {
        "hottest first": Chosen(),
        "one queue and channel": Chosen(queue="senior", channel="email"),
        "a signal": Chosen(signal="churn_threat"),
        "a model that is not there": Chosen(model="9"),
        "not reviewed": Chosen(review="open"),
        "mine": Chosen(of="any", review="mine"),
        "disputed": Chosen(of="any", review="disputed"),
        "drawn": Chosen(of="sampled", review="open"),
        "a word that is there": Chosen(text="refund"),
        "a word that is not": Chosen(text="xylophone"),
    }
    first = await listing.page(Chosen(), me)
    reading = Reading(reader, lambda: Labelling(judge), unexplained, lambda: NOW)
    pages: dict[str, Callable[[], Awaitable[Any]]] = {
        **{f"list: {name}": lambda chosen=chosen: listing.page(chosen, me) for name, chosen in lists.items()},
        "list: second page": lambda: listing.page(Chosen(), me, first.next),
        "counts": lambda: listing.counts(me),
        "conversation": lambda: reading.view("c20", me),
        "trends": lambda: Trends(reader, lambda: NOW).read(),
        "quality": lambda: Estimates(reader, lambda: Labelling(judge), lambda: NOW).quality(),
    }
    table = Table("page", "median, ms", "95 %, ms")
    for name, run in pages.items():
        median, late = await timed(run, runs)
        table.add_row(name, f"{median:.1f}", f"{late:.1f}")
    reader.close()
    return table


@contextmanager
def filled(about: str | None) -> Iterator[tuple[Database, int]]:
    """The store that the command line asks for, filled, and how often each page is asked for."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--flagged", type=float, default=0.2)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--store")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(given.store or f"sqlite:///{Path(folder) / 'desk.db'}")
        fill(database, given.conversations, given.flagged)
        yield database, given.runs
        database.close()


def main() -> None:
    """Fill, measure, print."""
    with filled(__doc__) as (database, runs):
        Console().print(asyncio.run(measure(database, runs)))


if __name__ == "__main__":
    main()
