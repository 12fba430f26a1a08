"""The policy in force, read again when its file changes, and only when what it says is valid.

A change counts when two looks in a row read the same content, so a file caught half written is never adopted, even
where half of it would be a policy. Contents are compared, not times: a file that was replaced, linked elsewhere, or
dated back is seen all the same. What cannot be read or used leaves the old policy in force and is told by `status`.
Knows nothing of who uses the policy: they ask for `policy` each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.config import ConfigError
from pipeline.vocabulary import Vocabulary
from serving.policy import Policy, PolicyMismatch, parse_policy

logger = logging.getLogger("simmer.routing")

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class PolicyStatus:
    """The policy in force and when it was loaded, when its file was last looked at, and why the file as it now is was
    refused, None where it was not."""

    digest: str
    loaded_at: datetime
    looked_at: datetime
    refused: str | None = None


class PolicyWatch:
    """Watches one policy file. Safe to share between threads: `policy` is always one whole policy.

    Raises ConfigError or PolicyMismatch where there is no valid policy to begin with.
    """

    def __init__(
        self,
        path: Path,
        vocabulary: Vocabulary,
        every: float = 2.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._vocabulary, self._every, self._now = path, vocabulary, every, now
        self._lock = threading.Lock()
        content = self._read()
        self._policy = parse_policy(content, path.name, vocabulary)
        self._settled = self._seen = _hash(content)
        self._status = PolicyStatus(self._policy.digest, now(), now())

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    def status(self) -> PolicyStatus:
        """What is in force and what was refused."""
        return self._status

    def look(self) -> bool:
        """Look at the file once; whether another policy is in force since."""
        with self._lock:
            self._status = replace(self._status, looked_at=self._now())
            try:
                return self._consider(self._read())
            except (ConfigError, PolicyMismatch) as error:
                self._refuse(str(error))
                return False

    async def run(self, adopted: Callable[[Policy], Awaitable[None]] | None = None) -> None:
        """Look again and again until cancelled; `adopted` hears of every policy that came into force."""
        while True:
            await asyncio.sleep(self._every)
            try:
                if await asyncio.to_thread(self.look) and adopted is not None:
                    await adopted(self._policy)
            except Exception:  # a watch that died would keep an old policy for ever without a word
                logger.exception("the policy could not be looked at")

    def _consider(self, content: bytes) -> bool:
        """Adopt what reads as it did at the last look and is not in force. Raises ConfigError or PolicyMismatch."""
        found, before = _hash(content), self._seen
        self._seen = found
        if found == self._settled:
            self._status = replace(self._status, refused=None)
            return False
        if found != before:
            return False
        policy = parse_policy(content, self._path.name, self._vocabulary)
        changed, self._settled = policy.digest != self._policy.digest, found
        self._policy = policy
        loaded = self._now() if changed else self._status.loaded_at
        self._status = replace(self._status, digest=policy.digest, loaded_at=loaded, refused=None)
        if changed:
            logger.info("policy %s is in force", policy.digest)
        return changed

    def _read(self) -> bytes:
        name = self._path.name
        try:
            if not self._path.is_file():  # opening a pipe would wait for whoever writes to it
                raise ConfigError(f"{name}: no such file")
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{name}: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{name}: larger than {MAX_BYTES:,} bytes")
        return content

    def _refuse(self, why: str) -> None:
        if why != self._status.refused:
            logger.warning("the policy stays as it is: %s", why)
        self._status = replace(self._status, refused=why)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
