"""What is done without being asked: waiting that has become a reason moves its conversation, what is old is erased.

Every replica does it; each step is a change that names what it saw, so that doing it twice does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from serving.live import lifecycle
from serving.live.conversations import Publishing
from serving.live.judging import Judge
from serving.store import audit, conversations, outbox, reviews
from serving.store.reader import Reader
from serving.store.writer import Writer

logger = logging.getLogger("simmer.live")

AT_ONCE = 200  # conversations in one transaction
SYSTEM = "simmer"  # who did it, in the audit log


class Keeper:
    """Keeps the store in order. `keep_days` of None keeps conversations for ever."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        judge: Callable[[], Judge],
        publishing: Publishing,
        now: Callable[[], datetime],
        vacuum: Callable[[], bool],
        keep_days: float | None = None,
        every: float = 20.0,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._judge = judge
        self._publishing = publishing
        self._now = now
        self._vacuum = vacuum
        self._leftovers = False
        self._keep_days = keep_days
        self._every = every

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            try:
                await self.age()
                await self.forget()
                await self.clear()
            except Exception:
                logger.exception("keeping the store in order failed; it is tried again")
            await asyncio.sleep(self._every)

    async def age(self) -> int:
        """Move conversations whose waiting has become a reason; how many. Raises StoreUnavailable."""
        done = 0
        while found := await self._writer.run(self._age_some):
            done += found
            self._publishing.notify()
        return done

    async def forget(self) -> int:
        """Erase conversations in which nothing has happened for longer than they are kept; how many."""
        if self._keep_days is None:
            return 0
        before, done = self._now() - timedelta(days=self._keep_days), 0
        while found := await self._writer.run(lambda connection: self._forget_some(connection, before)):
            done += found
            self.erased()
        return done

    async def adopt(self) -> int:
        """Decide all that wait anew, after the policy changed; how many were looked at. Raises StoreUnavailable."""
        done, after = 0, ""
        while found := await self._writer.run(partial(self._adopt_some, after)):
            done, after = done + len(found), found[-1]
            self._publishing.notify()
        return done

    def erased(self) -> None:
        """Something was erased, and may still stand in the database's files."""
        self._leftovers = True

    async def clear(self) -> None:
        """Take what was erased out of the database's files too; where a reader keeps it there, the next time."""
        if self._leftovers:
            self._leftovers = not await asyncio.to_thread(self._vacuum)

    def _adopt_some(self, after: str, connection: Connection) -> list[str]:
        now, judge = self._now(), self._judge()
        found = conversations.unresolved(connection, after, AT_ONCE)
        for state in found:
            changed = lifecycle.under(state, judge, now)
            if changed != state:
                written = conversations.write(connection, changed, state.version)
                self._publishing.append(connection, state.id, now, list(lifecycle.heard(state, written, judge)))
        return [state.id for state in found]

    def _age_some(self, connection: Connection) -> int:
        now, judge = self._now(), self._judge()
        found = conversations.ageing(connection, now, AT_ONCE)
        for state in found:
            after = lifecycle.aged(state, judge, now)
            written = conversations.write(connection, after, state.version)
            self._publishing.append(connection, state.id, now, list(lifecycle.heard(state, written, judge)))
        return len(found)

    def _forget_some(self, connection: Connection, before: datetime) -> int:
        old = conversations.unchanged_since(connection, before, AT_ONCE)
        for identifier in old:
            conversations.erase(connection, identifier)
            outbox.erase(connection, identifier)
        if old:
            reviews.erase(connection, old)
            audit.record(
                connection,
                actor=SYSTEM,
                action="kept_long_enough",
                subject="conversations",
                detail={"erased": len(old)},
                now=self._now(),
            )
        return len(old)
