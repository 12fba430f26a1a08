"""Verdicts, where each reviewed conversation stands, and requests for a second one. Verdicts are only ever added.

Knows SQL and nothing of what labels mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from serving.store.schema import requests, reviews, samples, verdicts

_ROWS = 1_000


@dataclass(frozen=True)
class Verdict:
    """What a reviewer said of one message, or of a conversation as a whole. `said` is what the model had said."""

    id: int
    conversation: str
    message: str | None
    reviewer: str
    at: datetime
    round: str
    labels: Mapping[str, Any]
    agrees: bool
    routing_right: bool | None
    note: str | None
    seconds: float | None
    said: Mapping[str, Any] | None
    model: str | None
    sample: str | None
    form: str
    place: int


@dataclass(frozen=True)
class Request:
    """That a second verdict is wanted, of one reviewer or of anybody else than the first."""

    conversation: str
    asked_by: str
    asked_at: datetime
    of: str | None


_VERDICT = tuple(verdicts.c[field.name] for field in fields(Verdict))


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add verdicts."""
    if rows:
        connection.execute(insert(verdicts), [dict(row) for row in rows])


def of(connection: Connection, conversation: str) -> list[Verdict]:
    """The verdicts on a conversation, oldest first."""
    query = select(*_VERDICT).where(verdicts.c.conversation == conversation).order_by(verdicts.c.id)
    return [Verdict(*row) for row in connection.execute(query)]


def of_form(connection: Connection, reviewer: str, form: str) -> list[Verdict]:
    """The verdicts that came with a form, in its order."""
    query = select(*_VERDICT).where(verdicts.c.reviewer == reviewer, verdicts.c.form == form)
    return [Verdict(*row) for row in connection.execute(query.order_by(verdicts.c.place))]


def by_conversation(connection: Connection, since: datetime | None = None) -> Iterator[list[Verdict]]:
    """The verdicts of each conversation that has any, or any since a time, by the conversation's id."""
    query = select(*_VERDICT).order_by(verdicts.c.conversation, verdicts.c.id)
    if since is not None:
        recent = select(verdicts.c.conversation).where(verdicts.c.at >= since)
        query = query.where(verdicts.c.conversation.in_(recent))
    with connection.execute(query, execution_options={"stream_results": True, "yield_per": _ROWS}) as rows:
        for _, some in groupby((Verdict(*row) for row in rows), key=lambda verdict: verdict.conversation):
            yield list(some)


def state(connection: Connection, conversation: str) -> str | None:
    """Where a reviewed conversation stands; None where nobody reviewed it."""
    found: str | None = connection.scalar(select(reviews.c.state).where(reviews.c.conversation == conversation))
    return found


def put_state(connection: Connection, conversation: str, state: str, now: datetime) -> None:
    """Note where a conversation stands."""
    values = {"state": state, "updated_at": now}
    changed = connection.execute(update(reviews).where(reviews.c.conversation == conversation).values(values))
    if not changed.rowcount:
        connection.execute(insert(reviews).values(conversation=conversation, **values))


def request(connection: Connection, conversation: str) -> Request | None:
    """The request for a second verdict, if there is one."""
    row = connection.execute(select(requests).where(requests.c.conversation == conversation)).mappings().one_or_none()
    return None if row is None else Request(**row)


def put_request(connection: Connection, wanted: Request) -> None:
    """Ask for a second verdict, in the place of an earlier request."""
    connection.execute(delete(requests).where(requests.c.conversation == wanted.conversation))
    connection.execute(insert(requests).values({field.name: getattr(wanted, field.name) for field in fields(Request)}))


def sample(connection: Connection, conversation: str) -> str | None:
    """Why a conversation was drawn: flagged, random, uncertain; None where it was not."""
    found: str | None = connection.scalar(select(samples.c.kind).where(samples.c.conversation == conversation))
    return found


def erase(connection: Connection, conversations: Iterable[str]) -> None:
    """Take away what reviewers wrote of conversations. What they judged stays, without a word of anybody's."""
    identifiers = list(conversations)
    noted = verdicts.c.conversation.in_(identifiers), verdicts.c.note.is_not(None)
    connection.execute(update(verdicts).where(*noted).values(note=None))
    connection.execute(delete(requests).where(requests.c.conversation.in_(identifiers)))
    connection.execute(delete(reviews).where(reviews.c.conversation.in_(identifiers)))
