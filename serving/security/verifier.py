"""Whether a caller's key is right, in microseconds for a key that was right before. Knows keys, not HTTP.

Argon2 is run once for each right key and process. After that a keyed digest of the key stands for it, and every
`recheck_seconds` the store is asked whether the hash it matched still counts, so that this is how long a revocation
takes. A wrong key costs the same time whether its id exists or not, is remembered as wrong, and uses up its caller's
allowance of attempts; so a flood of wrong keys burns little, and keys that are known already do not feel it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TypeVar

import sqlalchemy as sa
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import Field

from pipeline.config import Config
from serving.security.keys import Credential, Principal, find, hasher, parse
from serving.security.rates import RateConfig, RateLimiter

Lookup = Callable[[str], Credential | None]

_HASHES_A_KEY = 2  # the newest and the one before it
_EVERYBODY = ""


class VerifierConfig(Config):
    """What verifying may cost."""

    recheck_seconds: float = Field(default=30, gt=0, description="how long a revoked key may still work")
    keys: int = Field(default=1024, ge=1, description="right keys that are remembered, and as many wrong ones")
    threads: int = Field(default=2, ge=1, description="argon2 runs at a time, 19 MiB each")
    waiting: int = Field(default=32, ge=1, description="argon2 runs that may wait or run")
    attempts: RateConfig = Field(
        default=RateConfig(per_second=0.5, burst=20, callers=4096), description="wrong keys of one caller"
    )
    all_attempts: RateConfig = Field(
        default=RateConfig(per_second=10, burst=100, callers=1),
        description="wrong keys of all callers together; one costs 40 ms of a core",
    )


class Unauthenticated(Exception):
    """No key, or none that counts."""


class TooManyAttempts(Exception):
    """This caller sent too many wrong keys, or all callers together did."""

    def __init__(self, wait: float) -> None:
        super().__init__("too many attempts to authenticate")
        self.wait = wait  # seconds


@dataclass(frozen=True)
class _Right:
    """A key that was right: what its secret matched, and until when that needs no second look."""

    credential: Credential
    matched: str
    recheck_at: float  # on the monotonic clock


class Verifier:
    """Tells who calls, by the key they send. For use on one event loop."""

    def __init__(
        self,
        lookup: Lookup,
        config: VerifierConfig,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lookup` finds a key by its id and is called in a thread, `now` is UTC, `clock` is monotonic seconds."""
        self._lookup, self._config, self._now, self._clock = lookup, config, now, clock
        self._right: OrderedDict[bytes, _Right] = OrderedDict()
        self._wrong: OrderedDict[bytes, float] = OrderedDict()  # until when
        self._running: dict[bytes, asyncio.Task[_Right | None]] = {}
        self._hashing = 0
        self._threads = asyncio.Semaphore(config.threads)
        self._attempts = RateLimiter(config.attempts, clock)
        self._all_attempts = RateLimiter(config.all_attempts, clock)
        self._dummy = hasher().hash(secrets.token_urlsafe())
        self._digest_key = secrets.token_bytes(32)

    async def verify(self, token: str, caller: str) -> Principal:
        """Who the token belongs to; `caller` is the address it came from.

        Raises Unauthenticated, TooManyAttempts, and whatever the lookup raises.
        """
        parts = parse(token)
        if parts is None:
            raise Unauthenticated
        digest = blake2b(token.encode("ascii"), key=self._digest_key, digest_size=16).digest()
        right = self._right.get(digest)
        if right is None or right.recheck_at <= self._clock():
            right = await self._shared(digest, parts, caller)
        if right is None or right.matched not in right.credential.hashes(self._now()):
            raise Unauthenticated
        return right.credential.key.principal

    async def _shared(self, digest: bytes, parts: tuple[str, str], caller: str) -> _Right | None:
        """The verdict on a token, reached once however many ask at the same time."""
        if self._clock() < self._wrong.get(digest, 0):
            return None
        task = self._running.get(digest)
        if task is None:
            known = self._right.get(digest)
            work = self._recheck(digest, known, parts[0]) if known else self._first(digest, parts, self._admit(caller))
            task = self._running[digest] = asyncio.create_task(work)
            task.add_done_callback(lambda done: self._ended(digest, done))
        return await asyncio.shield(task)

    def _ended(self, digest: bytes, task: asyncio.Task[_Right | None]) -> None:
        del self._running[digest]
        if not task.cancelled():
            task.exception()  # seen, even if whoever asked has gone

    def _admit(self, caller: str) -> str:
        if self._hashing >= self._config.waiting:
            raise TooManyAttempts(1.0)
        wait = self._attempts.take(caller)
        if wait:
            raise TooManyAttempts(wait)
        wait = self._all_attempts.take(_EVERYBODY)
        if wait:
            self._attempts.give_back(caller)
            raise TooManyAttempts(wait)
        self._hashing += 1
        return caller

    async def _recheck(self, digest: bytes, known: _Right, key_id: str) -> _Right | None:
        credential = await asyncio.to_thread(self._lookup, key_id)
        counts = credential is not None and known.matched in credential.hashes(self._now())
        return self._verdict(digest, credential, known.matched if counts else None)

    async def _first(self, digest: bytes, parts: tuple[str, str], caller: str) -> _Right | None:
        try:
            async with self._threads:
                credential, matched = await asyncio.to_thread(self._match, *parts)
        except BaseException:  # the store's fault, not the key's
            self._give_back(caller)
            raise
        finally:
            self._hashing -= 1
        if matched is not None:
            self._give_back(caller)
        return self._verdict(digest, credential, matched)

    def _give_back(self, caller: str) -> None:
        self._attempts.give_back(caller)
        self._all_attempts.give_back(_EVERYBODY)

    def _match(self, key_id: str, secret: str) -> tuple[Credential | None, str | None]:
        """The key of this id, and which of its hashes the secret matches. Every failure costs the same time."""
        credential = self._lookup(key_id)
        hashes = credential.hashes(self._now()) if credential else ()
        padding = (self._dummy,) * (_HASHES_A_KEY - len(hashes))
        matched = next((hashed for hashed in (*hashes, *padding) if _matches(hashed, secret)), None)
        return credential, matched if matched in hashes else None

    def _verdict(self, digest: bytes, credential: Credential | None, matched: str | None) -> _Right | None:
        until = self._clock() + self._config.recheck_seconds
        if credential is None or matched is None:
            self._right.pop(digest, None)
            _remember(self._wrong, digest, until, self._config.keys)
            return None
        right = _Right(credential, matched, until)
        _remember(self._right, digest, right, self._config.keys)
        return right


T = TypeVar("T")


def _remember(recent: OrderedDict[bytes, T], digest: bytes, value: T, most: int) -> None:
    """Keep a value as the newest; the oldest goes where there are too many."""
    recent[digest] = value
    recent.move_to_end(digest)
    if len(recent) > most:
        recent.popitem(last=False)


def _matches(hashed: str, secret: str) -> bool:
    try:
        return hasher().verify(hashed, secret)
    except (VerificationError, InvalidHashError):
        return False


def lookup_in(engine: sa.Engine) -> Lookup:
    """A lookup in the store's database."""

    def lookup(key_id: str) -> Credential | None:
        with engine.connect() as connection:
            return find(connection, key_id)

    return lookup


def bearer(authorization: str | None) -> str | None:
    """The token of an Authorization header, or nothing where it holds none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
