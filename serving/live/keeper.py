"""What is done without being asked: waiting that has become a reason moves its conversation, what is old is erased.

Every replica does it; each step is a change that names what it saw, so that doing it twice does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from serving.live import lifecycle
from serving.live.conversations import Publishing
from serving.live.handy import Handy
from serving.live.judging import Judge
from serving.store import audit, conversations, marks, outbox, reviews
from serving.store.reader import Reader
from serving.store.writer import Writer

logger = logging.getLogger("simmer.live")

AT_ONCE = 200  # conversations in one transaction
POLICY = "policy"  # the mark that names the policy by which all that wait were decided
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
        handy: Handy,
        keep_days: float | None = None,
        every: float = 20.0,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._judge = judge
        self._publishing = publishing
        self._now = now
        self._vacuum = vacuum
        self._handy = handy
        self._leftovers = False
        self._undecided = True  # the policy may have changed while nobody served
        self._keep_days = keep_days
        self._every = every

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            for step in (self.catch_up, self.age, self.forget, self.clear):
                try:
                    await step()
                except Exception:  # one that fails keeps none of the others from being done
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

    async def catch_up(self) -> int:
        """Decide all that wait anew where that was not done, or not finished, since the policy changed."""
        if not self._undecided:
            return 0
        decided_by = await self._reader.run(partial(marks.read, name=POLICY))
        if decided_by == self._judge().policy.digest:
            self._undecided = False
            return 0
        return await self.adopt()

    async def adopt(self) -> int:
        """Decide all that wait anew, after the policy changed; how many were looked at. Raises StoreUnavailable."""
        done, after, judge = 0, "", self._judge()
        self._undecided = True
        while looked_at := await self._reader.run(partial(self._looked_at, after, judge)):
            changed = [identifier for identifier, differs in looked_at if differs]
            if changed:  # else nobody who writes need wait
                await self._writer.run(partial(self._adopt_some, changed, judge))
                self._publishing.notify()
            done, after = done + len(looked_at), looked_at[-1][0]
        await self._writer.run(partial(marks.write, name=POLICY, value=judge.policy.digest))
        self._undecided = self._judge().policy is not judge.policy
        return done

    def erased(self) -> None:
        """Something was erased, and may still stand in the database's files."""
        self._leftovers = True

    async def clear(self) -> None:
        """Take what was erased out of memory and the database's files too; where a reader keeps it, the next time."""
        self._handy.tidy()
        if self._leftovers:
            self._leftovers = not await asyncio.to_thread(self._vacuum)

    def _looked_at(self, after: str, judge: Judge, connection: Connection) -> list[tuple[str, bool]]:
        now = self._now()
        found = conversations.unresolved(connection, after, AT_ONCE)
        return [(state.id, lifecycle.under(state, judge, now) != state) for state in found]

    def _adopt_some(self, identifiers: Sequence[str], judge: Judge, connection: Connection) -> None:
        now = self._now()
        for identifier in identifiers:
            state = conversations.read_state(connection, identifier, lock=True)
            if state is None or state.status == "resolved":
                continue
            changed = lifecycle.under(state, judge, now)
            if changed != state:
                written = conversations.write(connection, changed, state.version)
                self._publishing.append(connection, state.id, now, list(lifecycle.heard(state, written, judge)))

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
