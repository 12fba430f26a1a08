"""Live messages to compare: from a store, or from the files that `simmer score` reads and writes.

A bounded sample, drawn by conversation, so that the newest or the longest do not speak for all. Knows nothing of what a
difference means; no text leaves `seen_of`.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pydantic import ValidationError
from sqlalchemy import Connection, select

from pipeline.conversation import Conversation, RowInvalid
from pipeline.encode import Encoder, Input
from pipeline.errors import InputError
from pipeline.heads import Floats
from pipeline.reference import Seen, look
from pipeline.text import clean
from pipeline.vocabulary import Vocabulary
from serving.answers import Answer
from serving.routing.history import outputs_of
from serving.store.schema import conversations, messages

IDS_AT_ONCE = 100
ROWS_AT_ONCE = 500
SEEN_AT_ONCE = 4  # messages, between two breaths
_LONGEST = 20_000  # characters of a message that are read; more tell no more


@dataclass(frozen=True)
class Span:
    """From when to when, the end not included."""

    begins: datetime
    ends: datetime

    def before(self) -> Span:
        """The span of the same length that ends where this one begins."""
        return Span(self.begins - (self.ends - self.begins), self.begins)

    def holds(self, at: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.begins <= at < self.ends


@dataclass(frozen=True)
class Said:
    """A customer's message and what was said of it."""

    conversation: str
    channel: str
    text: str
    answer: Mapping[str, Any]
    at: datetime | None = None


@dataclass(frozen=True)
class Sighted:
    """Messages as they are counted, and how many answers each bundle gave."""

    seen: Sequence[Seen]
    models: Mapping[str, int]


def span_until(now: datetime, days: float) -> Span:
    """The last so many days."""
    return Span(now - timedelta(days=days), now)


def read_span(connection: Connection, span: Span, most: int) -> list[Said]:
    """A sample of at most `most` of the customers' messages that came in a span and were answered."""
    touched = select(conversations.c.id).where(
        conversations.c.updated_at >= span.begins, conversations.c.created_at < span.ends
    )
    names = (row.id for row in connection.execute(touched).yield_per(ROWS_AT_ONCE))
    drawn = heapq.nsmallest(most, names, key=_shuffled)
    found: list[Said] = []
    for start in range(0, len(drawn), IDS_AT_ONCE):
        some = {name: place for place, name in enumerate(drawn[start : start + IDS_AT_ONCE])}
        found += sorted(_messages(connection, list(some), span), key=lambda one: some[one.conversation])
        if len(found) >= most:
            break
    return found[:most]


def _shuffled(name: str) -> bytes:
    """An order that has nothing to do with the names, and is always the same: its first are a sample of all."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _messages(connection: Connection, names: Sequence[str], span: Span) -> list[Said]:
    query = (
        select(
            *(messages.c[name] for name in ("conversation", "text", "answer", "revised", "received_at")),
            conversations.c.channel,
        )
        .join(conversations, conversations.c.id == messages.c.conversation)
        .where(
            messages.c.conversation.in_(names),
            messages.c.role == "customer",
            messages.c.received_at >= span.begins,
            messages.c.received_at < span.ends,
        )
        .order_by(messages.c.conversation, messages.c.sequence)
    )
    return [
        Said(row.conversation, row.channel, row.text, row.revised or row.answer, row.received_at)
        for row in connection.execute(query)
        if row.answer
    ]


def paired(answers: Iterable[Answer], talks: Mapping[str, Conversation]) -> tuple[list[Said], int]:
    """Answers with the messages that they are about, and how many had none."""
    found, alone = [], 0
    for answer in answers:
        talk = talks.get(answer.id)
        if talk is None or not 0 <= answer.turn < len(talk.turns) or talk.turns[answer.turn].role != "customer":
            alone += 1
            continue
        turn = talk.turns[answer.turn]
        at = turn.at if turn.at is None or turn.at.tzinfo else turn.at.replace(tzinfo=UTC)
        found.append(Said(answer.id, talk.channel, turn.text, answer.model_dump(), at))
    return found, alone


def drawn(said: Sequence[Said], most: int) -> list[Said]:
    """At most `most` of the messages, whole conversations as far as they go."""
    return sorted(said, key=lambda one: _shuffled(one.conversation))[:most]


def split(said: Sequence[Said], days: float | None) -> tuple[tuple[list[Said], list[Said]], Span | None]:
    """The messages of the last so many days of those given, and of as many days before; None takes all as one window.

    Raises InputError where days are asked for and the messages tell no times.
    """
    if days is None:
        return (list(said), []), None
    times = [one.at for one in said if one.at is not None]
    if not times:
        raise InputError("the conversations tell no times (`at` of their turns): leave --since out")
    span = span_until(max(times) + timedelta(microseconds=1), days)
    sides = [[one for one in said if one.at and part.holds(one.at)] for part in (span, span.before())]
    return (sides[0], sides[1]), span


def seen_of(
    said: Sequence[Said], encoder: Encoder, vocabulary: Vocabulary, bundle: str, breath: float = 0.0
) -> Sighted:
    """Messages as they are counted. Scores of another bundle than the one named are left out: they are not its own.

    Takes `breath` seconds of rest now and then, so that whoever shares the interpreter is not held up.
    """
    seen: list[Seen] = []
    models: Counter[str] = Counter()
    for start in range(0, len(said), SEEN_AT_ONCE):
        some = said[start : start + SEEN_AT_ONCE]
        answers = [_answer(one.answer) for one in some]
        models.update(answer.model.bundle for answer in answers if answer)
        seen += look(
            encoder,
            [one.conversation for one in some],
            [Input(clean(one.text[:_LONGEST], one.channel), ()) for one in some],
            [_outputs(answer, vocabulary, bundle) for answer in answers],
            [answer.abstained.reason if answer and answer.abstained else None for answer in answers],
        )
        if breath:
            time.sleep(breath)
    return Sighted(seen, models)


def _answer(given: Mapping[str, Any]) -> Answer | None:
    try:
        return Answer.model_validate({name: given[name] for name in Answer.model_fields if name in given})
    except ValidationError:
        return None


def _outputs(answer: Answer | None, vocabulary: Vocabulary, bundle: str) -> Floats | None:
    """The probabilities, of auxiliary heads too where they were asked for and 0 where not; None of another model."""
    if answer is None or answer.abstained is not None or answer.model.bundle != bundle:
        return None
    try:
        return np.nan_to_num(outputs_of(answer, vocabulary))
    except RowInvalid:
        return None
