"""Everything about conversations that live here, put together over one store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from serving.live.conversations import Conversations, NotThere
from serving.live.handling import Handling
from serving.live.judging import Judge
from serving.live.keeper import Keeper
from serving.store import agents, audit, conversations
from serving.store.agents import Carrying
from serving.store.audit import Entry
from serving.store.conversations import Filter
from serving.store.reader import Reader
from serving.store.records import Record, State


@dataclass(frozen=True)
class Live:
    """What is said, what people do with it, what is done without being asked, and how it is read."""

    conversations: Conversations
    handling: Handling
    keeper: Keeper
    reader: Reader
    judge: Callable[[], Judge]
    now: Callable[[], datetime]

    async def read(self, identifier: str) -> tuple[Record, Sequence[Entry]]:
        """A conversation and what people did with it. Raises NotThere, StoreUnavailable."""
        record, history = await self.reader.run(
            lambda connection: (conversations.read(connection, identifier), audit.history(connection, identifier))
        )
        if record is None:
            raise NotThere(identifier)
        return record, history

    async def queue(
        self, chosen: Filter, limit: int, after: tuple[float, str] | None = None
    ) -> tuple[datetime, list[State]]:
        """Who waits, hottest first, and the moment at which that was so. Raises StoreUnavailable."""
        found = await self.reader.run(lambda connection: conversations.page(connection, chosen, limit, after))
        return self.now(), found

    async def agents(self) -> list[Carrying]:
        """Every agent with the load. Raises StoreUnavailable."""
        return await self.reader.run(agents.carrying)
