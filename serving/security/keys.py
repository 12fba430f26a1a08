"""API keys: made, rotated, revoked and found in the store, and what each may do.

A key reads `simmer_<id>_<secret>`. The id names its row, the secret is shown once and kept as an argon2id hash alone.
Whether a caller's key is right is asked of `serving.security.verifier`; nothing here knows HTTP.

Every function takes a connection and leaves the transaction to the caller. All may be run again after a
rollback: what the last run returned is what counts.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher

from pipeline.errors import InputError
from serving.store.schema import api_keys

ID_LENGTH = 12
SECRET_BYTES = 32
LONGEST_NAME = 100
_KEY = re.compile(r"simmer_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a key may be used for."""

    SCORE = "score"
    READ = "read"
    REVIEW = "review"
    ADMIN = "admin"


IMPLIED: dict[Scope, frozenset[Scope]] = {
    Scope.SCORE: frozenset({Scope.SCORE}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.REVIEW: frozenset({Scope.REVIEW}),
    Scope.ADMIN: frozenset(Scope),
}


class KeyInvalid(InputError):
    """A key that cannot be made, found or changed as asked; the message says why."""


class ScopeMissing(Exception):
    """The caller is known and may not do this."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"this key lacks the scope {scope}")
        self.scope = scope


@dataclass(frozen=True)
class Principal:
    """Who is calling."""

    key_id: str
    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether one of the scopes is this one or implies it."""
        return any(scope in IMPLIED[held] for held in self.scopes)

    def needs(self, scope: Scope) -> None:
        """Raises ScopeMissing unless the caller may."""
        if not self.may(scope):
            raise ScopeMissing(scope)


LOOPBACK = Principal("loopback", "loopback", frozenset({Scope.ADMIN}))  # whoever calls while keys are off


@dataclass(frozen=True)
class Key:
    """A key as it may be shown: everything but its secret. Times are UTC."""

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_at: datetime | None
    previous_until: datetime | None

    def live(self, now: datetime) -> bool:
        """Whether the key opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def principal(self) -> Principal:
        """Who calls with this key."""
        return Principal(self.id, self.name, self.scopes)


@dataclass(frozen=True)
class Credential:
    """A key with the hashes of its secret and of the one before it."""

    key: Key
    hash: str = field(repr=False)
    previous_hash: str | None = field(repr=False)

    def hashes(self, now: datetime) -> tuple[str, ...]:
        """What a secret may match now, the newest first."""
        if not self.key.live(now):
            return ()
        until = self.key.previous_until
        kept = self.previous_hash if until is not None and now < until else None
        return (self.hash,) if kept is None else (self.hash, kept)


@cache
def hasher() -> PasswordHasher:
    """Argon2id by the smallest setting OWASP's password storage sheet names: 19 MiB, two passes; about 20 ms."""
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


def parse(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key's text, or nothing where it is none."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def create(
    connection: sa.Connection, name: str, scopes: Collection[Scope], expires_at: datetime | None, now: datetime
) -> tuple[str, Key]:
    """Make a key: its text, which nothing can show again, and the key. Raises KeyInvalid."""
    _check(name, scopes, expires_at, now)
    drawn = base64.b32encode(secrets.token_bytes(ID_LENGTH)).decode("ascii").lower()
    key = Key(drawn[:ID_LENGTH], name, frozenset(scopes), now, expires_at, None, None, None)
    secret, hashed = _new_secret()
    columns = {"id": key.id, "name": name, "created_at": now, "expires_at": expires_at}
    held = " ".join(scope for scope in Scope if scope in key.scopes)
    connection.execute(api_keys.insert().values(**columns, scopes=held, hash=hashed))
    return f"simmer_{key.id}_{secret}", key


def rotate(connection: sa.Connection, key_id: str, grace: timedelta, now: datetime) -> tuple[str, Key]:
    """Give a key a new secret: its new text, and the key. The secret before it stays good for `grace`, none older.

    Raises KeyInvalid for a key that is unknown, revoked or expired.
    """
    if grace < timedelta():
        raise KeyInvalid("a grace period cannot be negative")
    found = _known(connection, key_id)
    if not found.key.live(now):
        raise KeyInvalid(f"key {key_id} is revoked or expired; make a new one")
    secret, hashed = _new_secret()
    values = {"hash": hashed, "previous_hash": found.hash, "previous_until": now + grace, "rotated_at": now}
    _update(connection, key_id, values)
    return f"simmer_{key_id}_{secret}", _known(connection, key_id).key


def revoke(connection: sa.Connection, key_id: str, now: datetime) -> Key:
    """End a key for good; one that is revoked already stays so since then. Raises KeyInvalid where it is unknown."""
    found = _known(connection, key_id)
    if found.key.revoked_at is None:
        _update(connection, key_id, {"revoked_at": now})
    return _known(connection, key_id).key


def listing(connection: sa.Connection) -> list[Key]:
    """Every key, the oldest first."""
    rows = connection.execute(api_keys.select().order_by(api_keys.c.created_at, api_keys.c.id))
    return [_credential(row).key for row in rows]


def find(connection: sa.Connection, key_id: str) -> Credential | None:
    """The key of this id with its hashes, or nothing."""
    row = connection.execute(api_keys.select().where(api_keys.c.id == key_id)).one_or_none()
    return None if row is None else _credential(row)


def loopback_only(host: str) -> bool:
    """Whether listening on this host lets nobody but this machine in; only then may keys be off."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(name: str, scopes: Collection[Scope], expires_at: datetime | None, now: datetime) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise KeyInvalid(f"a key's name is 1 to {LONGEST_NAME} printable characters")
    if not scopes:
        raise KeyInvalid("a key needs a scope")
    if expires_at is not None and expires_at <= now:
        raise KeyInvalid("a key cannot expire before it is made")


def _new_secret() -> tuple[str, str]:
    secret = secrets.token_urlsafe(SECRET_BYTES)
    return secret, hasher().hash(secret)


def _known(connection: sa.Connection, key_id: str) -> Credential:
    row = connection.execute(api_keys.select().where(api_keys.c.id == key_id).with_for_update()).one_or_none()
    if row is None:
        raise KeyInvalid(f"no key {key_id!r}")
    return _credential(row)


def _update(connection: sa.Connection, key_id: str, values: dict[str, Any]) -> None:
    connection.execute(api_keys.update().where(api_keys.c.id == key_id).values(**values))


def _credential(row: sa.Row[Any]) -> Credential:
    shown = ("id", "name", "created_at", "expires_at", "revoked_at", "rotated_at", "previous_until")
    values = {name: row._mapping[name] for name in shown}
    key = Key(**values, scopes=frozenset(Scope(scope) for scope in row.scopes.split()))
    return Credential(key, row.hash, row.previous_hash)
