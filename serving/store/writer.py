"""All writing goes through here: operations that wait at the same time share one transaction (group commit).

    result = await writer.run(operation, key=conversation_id)      # returns after COMMIT

An operation takes a connection and may be run again: when one of a group raises, nothing of the group is kept and
each is run in a transaction of its own, so that only its own caller sees the error. Knows nothing of what is written.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from serving.store.database import Database, StoreUnavailable, reason

logger = logging.getLogger("simmer.store")

MOST_TOGETHER = 256
MOST_WAITING = 4096
TRIES = 3  # of an operation that met another replica's lock

T = TypeVar("T")


@dataclass(eq=False)
class _Waiting:
    operation: Callable[[Connection], Any]
    key: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():  # the caller went away; what was committed stays
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class StoreBusy(StoreUnavailable):
    """More writes wait than may; try again shortly."""


@dataclass
class Writer:
    """One thread that commits in groups. Start it once, close it once."""

    database: Database
    most_together: int = MOST_TOGETHER
    most_waiting: int = MOST_WAITING
    _waiting: queue.SimpleQueue[_Waiting | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take operations."""
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, then stop."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def depth(self) -> int:
        """How many operations wait."""
        return self._waiting.qsize()

    async def run(self, operation: Callable[[Connection], T], key: str = "") -> T:
        """The operation's result once it is committed; operations of a group run in the order of their keys.

        Raises what the operation raises, StoreBusy, or StoreUnavailable where the database failed.
        """
        if self._thread is None or self._waiting.qsize() >= self.most_waiting:
            raise StoreBusy("too many writes wait")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.put(_Waiting(operation, key, loop, future))
        return await future

    def _work(self) -> None:
        stopping = False
        while not stopping:
            group: list[_Waiting] = []
            given = self._waiting.get()
            while given is not None:
                group.append(given)
                if len(group) >= self.most_together or self._waiting.empty():
                    break
                given = self._waiting.get()
            stopping = given is None
            self._commit(sorted(group, key=lambda one: one.key))  # one order for all, or replicas lock each other out
            _settle(group)

    def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            self._transact(group)
        except Exception:
            for one in group:
                self._alone(one)

    def _alone(self, one: _Waiting) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._transact([one])
                return
            except SQLAlchemyError as error:
                one.error = StoreUnavailable(reason(error))
                if not left or not _passing(error):
                    logger.warning("a write failed: %s", reason(error))
                    return
            except Exception as error:
                one.error = error
                return

    def _transact(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        with self.database.writing.begin() as connection:
            for one in group:
                one.result, one.error = one.operation(connection), None


def _passing(error: SQLAlchemyError) -> bool:
    """Whether trying again may help: a lost connection, a deadlock, a lock held by another process."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in ("40001", "40P01")


def _settle_all(group: Sequence[_Waiting]) -> None:
    for one in group:
        one.settle()


def _settle(group: Sequence[_Waiting]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = defaultdict(list)
    for one in group:
        loops[one.loop].append(one)
    for loop, some in loops.items():
        try:
            loop.call_soon_threadsafe(_settle_all, some)
        except RuntimeError:  # the loop has ended, and everyone who waited with it
            logger.info("%d writes were committed after their callers had gone", len(some))
