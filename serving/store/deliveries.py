"""What is still to be delivered of the outbox, and what became of it. A delivery is an event for one webhook.

Taking a delivery pushes its due time into the future (a lease): as a rule nobody else takes it meanwhile, and if
whoever took it dies, it falls due again. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, RowMapping, exists, func, select, tuple_, update

from serving.store.outbox import AT_ONCE, Event
from serving.store.schema import deliveries, events

LONGEST_ERROR = 200


@dataclass(frozen=True)
class Delivery:
    """An event that is due at a webhook, and how often it was tried before."""

    event: Event
    webhook: str
    attempts: int


@dataclass(frozen=True)
class DeadLetter:
    """A delivery that was given up."""

    delivery: Delivery
    error: str


def is_due(connection: Connection, webhook: str, now: datetime) -> bool:
    """Whether a webhook has something to send."""
    return bool(connection.scalar(select(exists().where(*_due(webhook, now)))))


def take(connection: Connection, webhook: str, now: datetime, lease: timedelta, limit: int) -> list[Delivery]:
    """At most `limit` deliveries that are due, oldest first, now the caller's for the time of the lease."""
    found = (
        select(events, deliveries.c.webhook, deliveries.c.attempts)
        .join(deliveries, deliveries.c.event == events.c.id)
        .where(*_due(webhook, now))
        .order_by(deliveries.c.due_at, deliveries.c.event)
        .limit(limit)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    taken = [Delivery(_event(row), row["webhook"], row["attempts"]) for row in connection.execute(found).mappings()]
    if taken:
        _set(connection, webhook, [one.event.id for one in taken], due_at=now + lease)
    return sorted(taken, key=lambda one: one.event.id)


def give_back(connection: Connection, webhook: str, numbers: Collection[int]) -> None:
    """End the lease of deliveries that were not tried to the end; they are due at once."""
    _set(connection, webhook, numbers, due_at=AT_ONCE)


def mark_delivered(connection: Connection, webhook: str, number: int) -> None:
    """The webhook has the event of that number."""
    _set(connection, webhook, [number], status="delivered", attempts=deliveries.c.attempts + 1, error=None)


def mark_failed(connection: Connection, webhook: str, number: int, due_at: datetime, error: str) -> None:
    """It did not get there; it is to be tried again."""
    _set(connection, webhook, [number], attempts=deliveries.c.attempts + 1, due_at=due_at, error=error[:LONGEST_ERROR])


def mark_dead(connection: Connection, webhook: str, number: int, error: str) -> None:
    """It did not get there, and is not tried again unless somebody says so."""
    _set(connection, webhook, [number], status="dead", attempts=deliveries.c.attempts + 1, error=error[:LONGEST_ERROR])


def revive(connection: Connection, webhook: str, number: int | None = None) -> int:
    """Try dead deliveries of a webhook again, all or that of one event; how many there were."""
    dead = [deliveries.c.status == "dead", deliveries.c.webhook == webhook]
    if number is not None:
        dead.append(deliveries.c.event == number)
    return connection.execute(
        update(deliveries).where(*dead).values(status="pending", attempts=0, due_at=AT_ONCE)
    ).rowcount


def mend(connection: Connection, webhook: str, now: datetime, longest: timedelta) -> int:
    """Make due what is due later than any wait can be: the clock was ahead when it was written. How many."""
    late = [deliveries.c.status == "pending", deliveries.c.webhook == webhook, deliveries.c.due_at > now + longest]
    return connection.execute(update(deliveries).where(*late).values(due_at=AT_ONCE)).rowcount


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many deliveries each webhook has, by status."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    grouped = select(deliveries.c.webhook, deliveries.c.status, func.count()).group_by(
        deliveries.c.status, deliveries.c.webhook
    )
    for webhook, status, number in connection.execute(grouped):
        found[webhook][status] = number
    return dict(found)


def last_error(connection: Connection, webhook: str) -> str | None:
    """What was said of the newest event that could not be delivered so far."""
    failed = [
        deliveries.c.webhook == webhook,
        deliveries.c.status.in_(("pending", "dead")),
        deliveries.c.error.is_not(None),
    ]
    found: str | None = connection.scalar(
        select(deliveries.c.error).where(*failed).order_by(deliveries.c.event.desc()).limit(1)
    )
    return found


def dead_letters(connection: Connection, limit: int, before: tuple[int, str] | None = None) -> list[DeadLetter]:
    """What was given up, newest first; those that come after an event and webhook, where they are given."""
    found = (
        select(events, deliveries.c.webhook, deliveries.c.attempts, deliveries.c.error)
        .join(deliveries, deliveries.c.event == events.c.id)
        .where(deliveries.c.status == "dead")
        .order_by(deliveries.c.event.desc(), deliveries.c.webhook.desc())
        .limit(limit)
    )
    if before is not None:
        found = found.where(tuple_(deliveries.c.event, deliveries.c.webhook) < before)
    return [
        DeadLetter(Delivery(_event(row), row["webhook"], row["attempts"]), row["error"])
        for row in connection.execute(found).mappings()
    ]


def _due(webhook: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return deliveries.c.status == "pending", deliveries.c.webhook == webhook, deliveries.c.due_at <= now


def _set(connection: Connection, webhook: str, numbers: Collection[int], **values: object) -> None:
    """Change deliveries that are pending still: what another process delivered meanwhile stays delivered."""
    mine = deliveries.c.event.in_(sorted(numbers)), deliveries.c.webhook == webhook, deliveries.c.status == "pending"
    connection.execute(update(deliveries).where(*mine).values(**values))


def _event(row: RowMapping) -> Event:
    return Event(row["id"], row["kind"], row["conversation"], row["at"], row["body"])
