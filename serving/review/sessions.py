"""Signing in to the desk, and the sessions that come of it. The cookie's value is kept as its SHA-256 alone.

    signed = await sessions.sign_in(name, password, address, cookie_before)   # WrongPassword, TooManyAttempts
    session = await sessions.find(cookie)                                     # SignedOut
    session.check(form["csrf"])                                               # Forged

A session ends when it is signed out of, when nothing was asked in it for a while, some hours after it began, and with
its account's password. A form whose session ended meanwhile is not lost: the page that says so carries it along, and
it is sent again with the token of the new session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from serving.review import accounts
from serving.review.accounts import Account, Reviewer
from serving.review.config import SignInConfig
from serving.review.passwords import Passwords, WrongPassword
from serving.security.verifier import TooManyAttempts
from serving.store import audit
from serving.store.reader import Reader
from serving.store.schema import reviewers, sessions
from serving.store.writer import Writer

__all__ = ["COOKIE", "Forged", "Session", "Sessions", "SignedIn", "SignedOut", "TooManyAttempts", "WrongPassword"]

COOKIE = "simmer_desk"
SECRET_BYTES = 32
PROLONG_AFTER = 0.1  # of the idle time; a session in use is written no more often


class SignedOut(Exception):
    """No session, or one that has ended: sign in, then send the form again."""


class Forged(Exception):
    """A form that was not made for this session."""


@dataclass(frozen=True)
class Session:
    """Somebody signed in. `csrf` stands in every form of theirs."""

    reviewer: Reviewer
    csrf: str
    expires_at: datetime

    def check(self, token: str | None) -> None:
        """Raises Forged unless it is this session's token."""
        if not hmac.compare_digest((token or "").encode("utf-8", "replace"), self.csrf.encode("ascii")):
            raise Forged


@dataclass(frozen=True)
class SignedIn:
    """A session that has just begun, and the cookie that opens it."""

    session: Session
    value: str
    max_age: int  # seconds

    def cookie(self, secure: bool) -> str:
        """The Set-Cookie header; `secure` wherever the desk is not on loopback."""
        return _set_cookie(self.value, self.max_age, secure)

    def __repr__(self) -> str:
        return f"SignedIn({self.session.reviewer!r})"


class Sessions:
    """Tells who is signed in. For use on one event loop."""

    def __init__(self, reader: Reader, writer: Writer, config: SignInConfig, now: Callable[[], datetime]) -> None:
        self._reader, self._writer, self._config, self._now = reader, writer, config, now
        self._passwords = Passwords(config)
        self._idle, self._most = timedelta(minutes=config.idle_minutes), timedelta(hours=config.hours)

    async def sign_in(self, identifier: str, password: str, caller: str, before: str | None = None) -> SignedIn:
        """Begin a session; the one whose cookie came with the request, `before`, ends.

        Raises WrongPassword, TooManyAttempts (with `wait` in seconds), StoreUnavailable.
        """
        name = identifier.strip().lower()[: accounts.LONGEST_NAME]
        found = await self._reader.run(lambda connection: accounts.find(connection, name))
        account = await self._passwords.check(found, name, password, caller)
        value, csrf = secrets.token_urlsafe(SECRET_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        now = self._now()
        session = Session(account.reviewer, csrf, now + min(self._idle, self._most))
        await self._writer.run(lambda connection: _begin(connection, account, session, value, before, now), name)
        return SignedIn(session, value, int(self._most.total_seconds()))

    async def find(self, cookie: str | None) -> Session:
        """The session a cookie opens. Raises SignedOut, StoreUnavailable."""
        if not cookie:
            raise SignedOut
        key, now = _key(cookie), self._now()
        query = (
            select(reviewers, sessions.c.csrf, sessions.c.created_at.label("began"), sessions.c.expires_at)
            .join(reviewers, reviewers.c.id == sessions.c.reviewer)
            .where(sessions.c.id == key, sessions.c.expires_at > now, reviewers.c.disabled_at.is_(None))
        )
        row = await self._reader.run(lambda connection: connection.execute(query).mappings().one_or_none())
        if row is None:
            raise SignedOut
        until = min(now + self._idle, row["began"] + self._most)
        if until - row["expires_at"] > self._idle * PROLONG_AFTER:
            prolong = update(sessions).where(sessions.c.id == key).values(expires_at=until)
            await self._writer.run(lambda connection: connection.execute(prolong).rowcount, row["id"])
        return Session(accounts.reviewer_of(row), row["csrf"], max(until, row["expires_at"]))

    async def sign_out(self, cookie: str | None) -> None:
        """End a session, if there is one. Raises StoreUnavailable."""
        if cookie:
            now = self._now()
            await self._writer.run(lambda connection: _end(connection, _key(cookie), now))


def cleared(secure: bool) -> str:
    """The Set-Cookie header that takes the cookie away."""
    return _set_cookie("", 0, secure)


def _begin(
    connection: Connection, account: Account, session: Session, value: str, before: str | None, now: datetime
) -> None:
    """Write a session, unless the account was ended or its password changed meanwhile."""
    identifier = account.reviewer.id
    current = accounts.find(connection, identifier)
    if current is None or current.hash != account.hash or current.reviewer.disabled_at is not None:
        raise WrongPassword
    if before:
        connection.execute(delete(sessions).where(sessions.c.id == _key(before)))
    connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
    values = {"id": _key(value), "reviewer": identifier, "csrf": session.csrf}
    connection.execute(insert(sessions).values(**values, created_at=now, expires_at=session.expires_at))
    audit.record(
        connection,
        actor=account.reviewer.actor,
        action="signed_in",
        subject=f"reviewer {identifier}",
        detail={},
        now=now,
    )


def _end(connection: Connection, key: str, now: datetime) -> None:
    found = connection.execute(select(sessions.c.reviewer).where(sessions.c.id == key)).one_or_none()
    if found is None:
        return
    connection.execute(delete(sessions).where(sessions.c.id == key))
    subject = f"reviewer {found.reviewer}"
    audit.record(connection, actor=subject, action="signed_out", subject=subject, detail={}, now=now)


def _key(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def _set_cookie(value: str, max_age: int, secure: bool) -> str:
    parts = [f"{COOKIE}={value}", "Path=/", f"Max-Age={max_age}", "HttpOnly", "SameSite=Strict"]
    return "; ".join([*parts, "Secure"] if secure else parts)
