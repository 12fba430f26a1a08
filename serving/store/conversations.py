"""Conversations and their messages in the store. Every write names the version it saw; one that is too late is stale.

Knows SQL and nothing of scoring, routing or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from serving.store.records import Message, Record, State
from serving.store.schema import conversations, messages

_STATE = tuple(conversations.c[field.name] for field in fields(State))
_MESSAGE = tuple(messages.c[field.name] for field in fields(Message))
_REVISE = (
    update(messages)
    .where(messages.c.conversation == bindparam("of"), messages.c.id == bindparam("which"))
    .values(revised=bindparam("revised"))
)
_UPDATE = (
    update(conversations)
    .where(conversations.c.id == bindparam("of"), conversations.c.version == bindparam("saw"))
    .values({field.name: bindparam(f"new_{field.name}") for field in fields(State) if field.name != "id"})
)
_COUNTED = {"preserve_rowcount": True}  # SQLAlchemy counts updates alone unless asked; psycopg would answer -1
_INSERT = {
    "sqlite": sqlite.insert(conversations).on_conflict_do_nothing().execution_options(**_COUNTED),
    "postgresql": postgresql.insert(conversations).on_conflict_do_nothing().execution_options(**_COUNTED),
}


class Stale(RuntimeError):
    """The conversation was changed, made or erased by someone else meanwhile; read it again."""


@dataclass(frozen=True)
class Filter:
    """Which conversations of the queue; None takes all."""

    status: str = "open"
    queue: str | None = None
    channel: str | None = None
    language: str | None = None
    agent: str | None = None
    signal: str | None = None


def read(connection: Connection, identifier: str) -> Record | None:
    """A conversation with all its messages, None where there is none."""
    state = read_state(connection, identifier)
    if state is None:
        return None
    rows = connection.execute(
        select(*_MESSAGE).where(messages.c.conversation == identifier).order_by(messages.c.at, messages.c.sequence)
    )
    return Record(state, tuple(Message(*row) for row in rows))


def read_state(connection: Connection, identifier: str, lock: bool = False) -> State | None:
    """A conversation without its messages; with `lock`, nobody else changes it before this transaction ends."""
    query = select(*_STATE).where(conversations.c.id == identifier)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _state(row) if row is not None else None


def some_messages(connection: Connection, conversation: str, identifiers: Sequence[str]) -> dict[str, Message]:
    """Those of a conversation's messages that have these ids, by id."""
    wanted = messages.c.conversation == conversation, messages.c.id.in_(identifiers)
    rows = [Message(*row) for row in connection.execute(select(*_MESSAGE).where(*wanted))]
    return {message.id: message for message in rows}


def write(connection: Connection, state: State, saw: int) -> State:
    """Store a conversation's state in the place of version `saw`, 0 where it is new. Raises Stale."""
    written = replace(state, version=saw + 1)
    if saw == 0:
        # psycopg tells how many rows were inserted only where it is asked to
        told = {"preserve_rowcount": True}
        changed = connection.execute(_INSERT[connection.dialect.name], written.values(), execution_options=told)
    else:
        values = {f"new_{name}": value for name, value in written.values().items() if name != "id"}
        changed = connection.execute(_UPDATE, {"of": state.id, "saw": saw, **values})
    if changed.rowcount != 1:
        raise Stale(state.id)
    return written


def add_messages(connection: Connection, conversation: str, new: Sequence[Message]) -> None:
    """Add messages to a conversation."""
    if new:
        rows = [{"conversation": conversation, **{f.name: getattr(m, f.name) for f in fields(Message)}} for m in new]
        connection.execute(insert(messages), rows)


def revise(connection: Connection, conversation: str, answers: Mapping[str, dict[str, Any]]) -> None:
    """Put answers beside those that messages were first given."""
    if answers:
        rows = [{"of": conversation, "which": name, "revised": answer} for name, answer in answers.items()]
        connection.execute(_REVISE, rows)


def page(connection: Connection, chosen: Filter, limit: int, after: tuple[float, str] | None = None) -> list[State]:
    """Waiting conversations, hottest first; `after` is the rank and id of the last one seen."""
    query = select(*_STATE).where(conversations.c.rank.is_not(None), *_conditions(chosen))
    if after is not None:
        rank, identifier = after
        query = query.where(
            or_(
                conversations.c.rank < rank,
                and_(conversations.c.rank == rank, conversations.c.id < identifier),
            )
        )
    query = query.order_by(conversations.c.rank.desc(), conversations.c.id.desc()).limit(limit)
    return [_state(row) for row in connection.execute(query)]


def ageing(connection: Connection, now: datetime, limit: int) -> list[State]:
    """Conversations whose waiting has changed their queue by now and has not been taken into account.

    Nobody else changes them before this transaction ends.
    """
    query = select(*_STATE).where(conversations.c.ages_at <= now).order_by(conversations.c.ages_at).limit(limit)
    return [_state(row) for row in connection.execute(query.with_for_update())]


def unresolved(connection: Connection, after: str, limit: int) -> list[State]:
    """Conversations that are not resolved, by id, from behind the id given."""
    query = (
        select(*_STATE)
        .where(conversations.c.id > after, conversations.c.status != "resolved")
        .order_by(conversations.c.id)
        .limit(limit)
    )
    return [_state(row) for row in connection.execute(query)]


def unchanged_since(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Ids of conversations in which nothing has happened since, nor will before this transaction ends."""
    query = (
        select(conversations.c.id)
        .where(conversations.c.updated_at < before)
        .order_by(conversations.c.updated_at)
        .limit(limit)
        .with_for_update()
    )
    return [row.id for row in connection.execute(query)]


def erase(connection: Connection, identifier: str) -> bool:
    """Delete a conversation and its messages; whether there was one."""
    connection.execute(delete(messages).where(messages.c.conversation == identifier))
    return connection.execute(delete(conversations).where(conversations.c.id == identifier)).rowcount == 1


def loads(connection: Connection) -> dict[str, int]:
    """How many conversations each agent has now."""
    query = (
        select(conversations.c.agent, func.count())
        .where(conversations.c.status == "assigned")
        .group_by(conversations.c.agent)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def waiting(connection: Connection) -> dict[str, tuple[int, datetime]]:
    """How many wait in each queue, and since when the first of them."""
    query = (
        select(conversations.c.queue, func.count(), func.min(conversations.c.waiting_since))
        .where(conversations.c.status == "open", conversations.c.rank.is_not(None))
        .group_by(conversations.c.queue)
    )
    return {queue: (count, since) for queue, count, since in connection.execute(query)}


def _conditions(chosen: Filter) -> list[ColumnElement[bool]]:
    wanted = [
        conversations.c[name] == value
        for name in ("status", "queue", "channel", "language", "agent")
        if (value := getattr(chosen, name)) is not None
    ]
    if chosen.signal is not None:
        wanted.append(text("reasons LIKE :signal ESCAPE '!'").bindparams(signal=f'%"{_escaped(chosen.signal)}"%'))
    return wanted


def _escaped(word: str) -> str:
    return word.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _state(row: Row[Any]) -> State:
    return State(**row._asdict())
