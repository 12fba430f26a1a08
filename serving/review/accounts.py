"""Reviewers: who may sign in to the desk, and what each may do. Knows nothing of sessions and HTTP.

Every function takes a connection and leaves the transaction to the caller. All may be run again after a rollback.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from pipeline.errors import InputError
from serving.security.keys import hasher
from serving.store import audit
from serving.store.schema import reviewers, sessions

LONGEST_NAME = 100
LONGEST_PASSWORD = 1_000  # characters; argon2 takes more, a request should not
SHORTEST_PASSWORD = 12
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


class Role(StrEnum):
    """What a reviewer may do: a lead may also ask for second verdicts and settle disputes, an admin any dispute."""

    REVIEWER = "reviewer"
    LEAD = "lead"
    ADMIN = "admin"


class AccountInvalid(InputError):
    """An account that cannot be made or changed as asked; the message says why."""


@dataclass(frozen=True)
class Reviewer:
    """Somebody who reviews. Times are UTC."""

    id: str
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None

    @property
    def leads(self) -> bool:
        """Whether they may ask for second verdicts and settle disputes."""
        return self.role in (Role.LEAD, Role.ADMIN)

    @property
    def actor(self) -> str:
        """How the audit log names them."""
        return f"reviewer {self.id}"


@dataclass(frozen=True)
class Account:
    """A reviewer with the hash of the password, argon2id."""

    reviewer: Reviewer
    hash: str

    def __repr__(self) -> str:
        return f"Account({self.reviewer!r})"


def hashed(password: str) -> str:
    """The hash of a new password; takes tens of milliseconds. Raises AccountInvalid."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountInvalid(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters")
    return hasher().hash(password)


def create(
    connection: Connection, identifier: str, name: str, role: Role, hash: str, now: datetime, actor: str
) -> Reviewer:
    """Make an account. Raises AccountInvalid."""
    if not _ID.fullmatch(identifier):
        raise AccountInvalid("a reviewer's id is 1 to 40 of a-z, 0-9, dot, dash, underscore, and begins with a letter")
    name = name.strip() or identifier
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise AccountInvalid(f"a reviewer's name is 1 to {LONGEST_NAME} printable characters")
    if find(connection, identifier) is not None:
        raise AccountInvalid(f"there is a reviewer {identifier} already")
    connection.execute(insert(reviewers).values(id=identifier, name=name, role=role, hash=hash, created_at=now))
    _record(connection, actor, "reviewer_added", identifier, now, role=role)
    return Reviewer(identifier, name, role, now, None)


def change_password(connection: Connection, identifier: str, hash: str, now: datetime, actor: str) -> None:
    """Give an account another password; every session of theirs ends. Raises AccountInvalid."""
    _change(connection, identifier, hash=hash)
    _record(connection, actor, "reviewer_password_changed", identifier, now)


def disable(connection: Connection, identifier: str, now: datetime, actor: str) -> None:
    """End an account; what they said stays. One that is ended already stays so since then. Raises AccountInvalid."""
    found = find(connection, identifier)
    if found is None or found.reviewer.disabled_at is None:
        _change(connection, identifier, disabled_at=now)
        _record(connection, actor, "reviewer_disabled", identifier, now)


def find(connection: Connection, identifier: str) -> Account | None:
    """The account of this id, or nothing."""
    if not _ID.fullmatch(identifier):  # whatever somebody typed; a NUL would trouble PostgreSQL
        return None
    row = connection.execute(select(reviewers).where(reviewers.c.id == identifier)).mappings().one_or_none()
    return None if row is None else Account(reviewer_of(row), row["hash"])


def listing(connection: Connection) -> list[Reviewer]:
    """Every reviewer, by id."""
    rows = connection.execute(select(reviewers).order_by(reviewers.c.id)).mappings()
    return [reviewer_of(row) for row in rows]


def reviewer_of(row: RowMapping) -> Reviewer:
    """The reviewer of a row."""
    return Reviewer(row["id"], row["name"], Role(row["role"]), row["created_at"], row["disabled_at"])


def _change(connection: Connection, identifier: str, **values: Any) -> None:
    changed = connection.execute(update(reviewers).where(reviewers.c.id == identifier).values(values))
    if changed.rowcount != 1:
        raise AccountInvalid(f"there is no reviewer {identifier!r}")
    connection.execute(delete(sessions).where(sessions.c.reviewer == identifier))


def _record(connection: Connection, actor: str, action: str, identifier: str, now: datetime, **detail: str) -> None:
    audit.record(connection, actor=actor, action=action, subject=f"reviewer {identifier}", detail=detail, now=now)
