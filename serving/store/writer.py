"""All writing goes through here: operations that wait at the same time share one transaction (group commit).

    result = await writer.run(operation, key=conversation_id)      # returns after COMMIT

An operation takes a connection and may be run again: when one of a group raises, nothing of the group is kept, and
those before it, itself and those after it are run once more in transactions of their own, so that only its own caller
sees the error. Where the database itself fails, the whole group is told at once. Knows nothing of what is written.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from serving.store.database import Database
from serving.store.faults import Fault, StoreBusy, StoreUnavailable, fault, reason, told

logger = logging.getLogger("simmer.store")

MOST_TOGETHER = 256
MOST_WAITING = 4096
TRIES = 4  # of an operation that collides with another replica's
HANGS_AFTER = 20.0  # seconds in one transaction after which nobody else is let in to wait
CLOSES_WITHIN = 30.0  # seconds

T = TypeVar("T")


@dataclass(eq=False)
class _Waiting:
    operation: Callable[[Connection], Any]
    key: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    tries: int = 0

    def settle(self) -> None:
        if self.future.done():  # the caller went away; what was committed stays
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, Exception) and not isinstance(self.error, StopIteration):
            self.future.set_exception(self.error)
        else:  # what would end the caller's loop, or a future does not take
            self.future.set_exception(RuntimeError(f"an operation ended with {type(self.error).__name__}"))


@dataclass(frozen=True)
class _Failure:
    place: int  # of the operation that raised; the number of operations where COMMIT did
    error: BaseException
    kind: Fault


@dataclass
class Writer:
    """One thread that commits in groups. Start it once, close it once."""

    database: Database
    most_together: int = MOST_TOGETHER
    most_waiting: int = MOST_WAITING
    committed: Callable[[int, float], None] | None = None  # hears of each transaction: operations, seconds
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _open: bool = False
    _since: float | None = None

    def start(self) -> None:
        """Begin to take operations."""
        self._open = True
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def close(self, within: float = CLOSES_WITHIN) -> None:
        """Take no more, commit what waits, then stop; after so many seconds stop waiting for the database."""
        with self._changed:
            self._open = False
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(within)
            if self._thread.is_alive():
                logger.error("the database did not answer; %d writes were not acknowledged", self.depth())

    def depth(self) -> int:
        """How many operations wait."""
        return len(self._waiting)

    async def run(self, operation: Callable[[Connection], T], key: str = "") -> T:
        """The operation's result once it is committed; operations of a group run in the order of their keys.

        Raises what the operation raises, StoreBusy, StoreUnavailable where the database failed (a connection lost
        during COMMIT too: asking again tells), or StoreFault where it would not take what was written.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(operation, key, loop, loop.create_future())
        with self._changed:
            self._admit()
            self._waiting.append(one)
            self._changed.notify()
        return await one.future  # type: ignore[no-any-return]

    def _admit(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is closed")
        if len(self._waiting) >= self.most_waiting:
            raise StoreBusy("too many writes wait")
        since = self._since
        if since is not None and time.monotonic() - since > HANGS_AFTER:
            raise StoreUnavailable(f"the database has not answered for {HANGS_AFTER:.0f} seconds")

    def _work(self) -> None:
        while group := self._take():
            self._since = time.monotonic()
            try:
                self._commit(sorted(group, key=lambda one: one.key))  # one order for all: replicas do not lock out
            except BaseException as error:  # whatever it is, nobody waits for ever and the next group gets its turn
                logger.exception("the writer failed")
                _fail(group, error)
            self._since = None
            _settle(group)

    def _take(self) -> list[_Waiting]:
        """Those who wait, in order of arrival; none once the writer is closed and everything is written."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                count = min(len(self._waiting), self.most_together)
                taken = [self._waiting.popleft() for _ in range(count)]
                present = [one for one in taken if not one.future.done()]  # the others went away before their turn
                if present or not taken:
                    return present

    def _commit(self, group: Sequence[_Waiting]) -> None:
        parts = deque([group])
        while parts:
            part = parts.popleft()
            failure = self._transact(part)
            if failure is None:
                continue
            if failure.kind is Fault.DATABASE:
                _fail([one for some in (part, *parts) for one in some], failure.error)
                return
            parts.extendleft(reversed(_again(part, failure)))

    def _transact(self, group: Sequence[_Waiting]) -> _Failure | None:
        place, began = 0, time.perf_counter()
        try:
            with self.database.writing.begin() as connection:
                for one in group:
                    one.result, one.error = one.operation(connection), None
                    place += 1
        except BaseException as error:
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            if lost and place == len(group):  # during COMMIT: kept or not, running it again here could do it twice
                return _Failure(place, error, Fault.DATABASE)
            return _Failure(place, error, fault(error))
        if self.committed is not None:
            self.committed(len(group), time.perf_counter() - began)
        return None


def _again(part: Sequence[_Waiting], failure: _Failure) -> list[Sequence[_Waiting]]:
    """What to run again after a failure, in order: those before the one that raised, that one alone, those after it."""
    if len(part) > 1:
        place = failure.place
        if place == len(part):  # COMMIT itself: no telling who
            return [[one] for one in part]
        return [some for some in (part[:place], part[place : place + 1], part[place + 1 :]) if some]
    one = part[0]
    one.tries += 1
    if failure.kind is Fault.COLLISION and one.tries < TRIES:
        return [part]
    one.error = told(failure.error)
    if one.error is not failure.error:
        logger.warning("a write failed: %s", one.error)
    return []


def _fail(group: Sequence[_Waiting], error: BaseException) -> None:
    said = reason(error)
    logger.error("%d writes failed: %s", len(group), said)
    for one in group:
        one.error = StoreUnavailable(said)


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
