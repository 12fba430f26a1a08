"""Conversations at hand: those that were written a moment ago, and the order in which one's changes come."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.store.records import Record

MOST_KEPT = 4_000
LONGEST_KEPT = 40  # messages; a longer conversation is read again, so that memory has a bound


class Handy:
    """The conversations written last. The store is the truth: every write names the version that it saw."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._records: OrderedDict[str, Record] = OrderedDict()

    def take(self, identifier: str) -> Record | None:
        """The conversation, no longer at hand."""
        return self._records.pop(identifier, None)

    def put(self, record: Record) -> None:
        """Keep a conversation at hand, unless it is long."""
        if len(record.messages) > LONGEST_KEPT:
            return
        self._records[record.state.id] = record
        if len(self._records) > self._most:
            self._records.popitem(last=False)


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
