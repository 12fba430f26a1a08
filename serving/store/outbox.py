"""The transactional outbox: events are rows written in the transaction that caused them, so none is lost or invented.

    outbox.append(connection, "flagged", "c17", now, {"score": 81}, ["pager"])   # inside a Writer operation

Events of a transaction are held back until it commits, then written together: two statements for a whole group of
operations, numbered in the order of commits (`serving.store.before_commit`), so that a reader that has seen id N never
finds a lower one later. Knows nothing of who reads events; `serving.store.deliveries` keeps what is to be sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Literal, get_args

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from serving.store.before_commit import before_commit
from serving.store.schema import deliveries, events

Kind = Literal[
    "flagged",  # became hot, or reached an upper queue
    "escalated",  # moved to a hotter queue
    "boil_over_forecast",  # the forecast crossed the policy's threshold
    "assigned",
    "released",
    "resolved",
    "reopened",
    "erased",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
ERASED: Mapping[str, Any] = {"erased": True}
AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)  # due whatever the clock says, and before everything that is tried again


@dataclass(frozen=True)
class Event:
    """Something that happened to a conversation; the body holds ids, scores and reasons, never text."""

    id: int
    kind: str
    conversation: str
    at: datetime
    body: Mapping[str, Any]

    def as_json(self) -> bytes:
        """The event as consumers get it, on one line: {"id", "kind", "conversation", "at", "body"}."""
        row = {"id": self.id, "kind": self.kind, "conversation": self.conversation, "at": self.at, "body": self.body}
        return orjson.dumps(row, option=orjson.OPT_UTC_Z)


@dataclass(frozen=True)
class _Held:
    """An event that is written when its transaction commits."""

    row: dict[str, Any]
    webhooks: Sequence[str]


def append(
    connection: Connection,
    kind: str,
    conversation: str,
    at: datetime,
    body: Mapping[str, Any],
    webhooks: Sequence[str] = (),
) -> None:
    """An event, with one delivery for each of the webhooks named, written when the transaction commits.

    Raises RuntimeError outside a transaction, ValueError for a kind there is not.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of event: {kind}")
    row = {"kind": kind, "conversation": conversation, "at": at, "body": dict(body)}
    before_commit(connection, _write).append(_Held(row, tuple(dict.fromkeys(webhooks))))


def erase(connection: Connection, conversation: str) -> None:
    """Take away what a conversation's events say; that they were, with their ids, stays."""
    for held in before_commit(connection, _write):
        if held.row["conversation"] == conversation:
            held.row["body"] = ERASED
    connection.execute(update(events).where(events.c.conversation == conversation).values(body=ERASED))


def since(connection: Connection, after: int, limit: int, kinds: Collection[str] | None = None) -> list[Event]:
    """The events with ids above `after`, lowest first; of some kinds only, where they are given."""
    found = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
    if kinds is not None:
        found = found.where(events.c.kind.in_(sorted(kinds)))
    return [Event(**row) for row in connection.execute(found).mappings()]


def span(connection: Connection) -> tuple[int, int]:
    """The lowest and the highest id that are kept; (1, 0) while there was never an event."""
    lowest, highest = connection.execute(select(func.min(events.c.id), func.max(events.c.id))).one()
    return (1, 0) if highest is None else (lowest, highest)


def prune(connection: Connection, before: datetime, limit: int = 1000) -> int:
    """Remove at most `limit` of the oldest events that happened before a time, with their deliveries; how many.

    The newest event always stays, so that a reader who comes back can be told what it missed.
    """
    oldest = connection.execute(select(events.c.id, events.c.at).order_by(events.c.id).limit(limit + 1)).all()
    old = [row.id for row in takewhile(lambda row: row.at < before, oldest[:-1])]
    if old:
        connection.execute(delete(events).where(events.c.id <= old[-1]))
    return len(old)


def _write(connection: Connection, held: list[_Held]) -> None:
    # SQLite numbers rows in their order anyway, and SQLAlchemy would ask for that with a statement a row
    in_order = connection.dialect.name != "sqlite"
    numbered = insert(events).returning(events.c.id, sort_by_parameter_order=in_order)
    ids = sorted(connection.scalars(numbered, [one.row for one in held]))
    new = {"status": "pending", "attempts": 0, "due_at": AT_ONCE}
    rows = [
        {"event": number, "webhook": name, **new}
        for number, one in zip(ids, held, strict=True)
        for name in one.webhooks
    ]
    if rows:
        connection.execute(insert(deliveries), rows)
