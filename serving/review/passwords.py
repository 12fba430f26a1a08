"""Whether a password is right, at a bounded cost. Every failure takes the same time; argon2 runs in threads.

Wrong passwords use up an allowance of their address and one of the name they were tried on, so that neither many names
from one place nor one name from many places can be guessed for long. Who is locked out for a while is told when to
come back; a right password from another address must wait too, or the allowance of a name would be none.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from argon2.exceptions import InvalidHashError, VerificationError

from serving.review.accounts import LONGEST_PASSWORD, Account
from serving.review.config import SignInConfig
from serving.security.keys import hasher
from serving.security.rates import RateLimiter
from serving.security.verifier import TooManyAttempts


class WrongPassword(Exception):
    """No such reviewer, disabled, or another password; which of them is not said."""


@dataclass
class Passwords:
    """Checks passwords. For use on one event loop."""

    config: SignInConfig
    clock: Callable[[], float] = time.monotonic
    _running: int = 0
    _threads: asyncio.Semaphore = field(init=False)
    _by_address: RateLimiter = field(init=False)
    _by_name: RateLimiter = field(init=False)
    _dummy: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._threads = asyncio.Semaphore(self.config.threads)
        self._by_address = RateLimiter(self.config.attempts, self.clock)
        self._by_name = RateLimiter(self.config.attempts_on, self.clock)
        self._dummy = hasher().hash(secrets.token_urlsafe())

    async def check(self, account: Account | None, name: str, password: str, caller: str) -> Account:
        """The account, where the password is its. Raises WrongPassword, TooManyAttempts."""
        self._admit(name, caller)
        self._running += 1
        try:
            async with self._threads:
                hashed = account.hash if account else self._dummy
                right = await asyncio.to_thread(_matches, hashed, password[: LONGEST_PASSWORD + 1])
        finally:
            self._running -= 1
        if account is None or not right or account.reviewer.disabled_at is not None:
            raise WrongPassword
        self._by_address.give_back(caller)
        self._by_name.give_back(name)
        return account

    def _admit(self, name: str, caller: str) -> None:
        if self._running >= self.config.waiting:
            raise TooManyAttempts(1.0)
        wait = self._by_address.take(caller)
        if wait:
            raise TooManyAttempts(wait)
        wait = self._by_name.take(name)
        if wait:
            self._by_address.give_back(caller)
            raise TooManyAttempts(wait)


def _matches(hashed: str, password: str) -> bool:
    try:
        return hasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
