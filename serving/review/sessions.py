"""Signing in to the desk, and the sessions that come of it. The cookie's value is kept as its SHA-256 alone.

signed = await sessions.sign_in(name, password, address, cookie_before)   # WrongPassword, TooManyAttempts
session = await sessions.find(cookie)                                     # SignedOut
session.check(form["csrf"])                                               # Forged
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from serving.review.accounts import Reviewer

COOKIE = "simmer_desk"


class SignedOut(Exception):
    """No session, or one that has ended: sign in, then send the form again."""


class WrongPassword(Exception):
    """No such reviewer, disabled, or another password; which of them is not said."""


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
        raise NotImplementedError


@dataclass(frozen=True)
class SignedIn:
    """A session that has just begun, and the cookie that opens it."""

    session: Session
    value: str
    max_age: int  # seconds

    def cookie(self, secure: bool) -> str:
        """The Set-Cookie header; `secure` wherever the desk is not on loopback."""
        raise NotImplementedError


class Sessions:
    """Tells who is signed in. For use on one event loop."""

    async def sign_in(self, identifier: str, password: str, caller: str, before: str | None = None) -> SignedIn:
        """Begin a session; the one whose cookie came with the request, `before`, ends.

        Raises WrongPassword, TooManyAttempts (with `wait` in seconds), StoreUnavailable.
        """
        raise NotImplementedError

    async def find(self, cookie: str | None) -> Session:
        """The session a cookie opens. Raises SignedOut, StoreUnavailable."""
        raise NotImplementedError

    async def sign_out(self, cookie: str | None) -> None:
        """End a session, if there is one."""
        raise NotImplementedError


def cleared(secure: bool) -> str:
    """The Set-Cookie header that takes the cookie away."""
    raise NotImplementedError
