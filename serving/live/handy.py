"""Conversations at hand: those that were written a moment ago, and the order in which one's changes come."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serving.store.records import Record

MOST_KEPT = 10_000  # messages with their answers, of about 8 KB each
LONGEST_KEPT = 40  # messages; a longer conversation is read again
LONG_TEXT = 4_000  # characters, which count as a message more
KEPT_SECONDS = 600.0  # so that what another replica erased, or nobody needs any more, does not stay in memory


class Handy:
    """The conversations written last. The store is the truth: every write names the version that it saw."""

    def __init__(self, most: int = MOST_KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._records: OrderedDict[str, tuple[Record, float]] = OrderedDict()  # with when they were put here
        self._kept = 0

    def take(self, identifier: str) -> Record | None:
        """The conversation, no longer at hand."""
        record, _ = self._records.pop(identifier, (None, 0.0))
        self._kept -= 0 if record is None else _size(record)
        return record

    def put(self, record: Record) -> None:
        """Keep a conversation at hand, unless it is long."""
        self.take(record.state.id)
        if len(record.messages) > LONGEST_KEPT:
            return
        self._records[record.state.id] = record, self._clock()
        self._kept += _size(record)
        while self._kept > self._most:
            self.take(next(iter(self._records)))

    def tidy(self) -> None:
        """Let go of what has been here too long."""
        until = self._clock() - KEPT_SECONDS
        for identifier in [name for name, (_, since) in self._records.items() if since < until]:
            self.take(identifier)


def _size(record: Record) -> int:
    return sum(1 + len(message.text) // LONG_TEXT for message in record.messages)


class Turns:
    """One change of a conversation at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, identifier: str) -> AsyncIterator[None]:
        """The turn to change a conversation."""
        lock, waiting = self._locks.get(identifier, (asyncio.Lock(), 0))
        self._locks[identifier] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(identifier)
            if waiting > 1:
                self._locks[identifier] = (lock, waiting - 1)
