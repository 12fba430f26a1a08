"""Everything that leaves: written with what caused it, delivered to webhooks, streamed, and thrown away when old.

outgoing = Outgoing(config, database, writer, reader, now)   # raises InputError for a webhook that cannot work
outgoing.start()
outgoing.append(connection, "c17", now, events)              # inside a Writer operation
outgoing.notify()                                            # after it was committed
await outgoing.close()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import httpx
from sqlalchemy import Connection

from serving.events.config import EventsConfig, WebhookConfig
from serving.events.delivery import open_client
from serving.events.stream import Feed
from serving.events.webhooks import Dispatcher
from serving.store import deliveries, outbox
from serving.store.reader import Reader
from serving.store.writer import Writer

logger = logging.getLogger("simmer.events")

PRUNED_AT_ONCE = 1000


class Happened(Protocol):
    """Something to tell the world."""

    @property
    def kind(self) -> str:
        """What happened: one of `outbox.KINDS`."""
        ...

    @property
    def body(self) -> Mapping[str, Any]:
        """Ids, scores and reasons; no text."""
        ...


class Outgoing:
    """The outbox with all who empty it. Start it once in a running loop, close it once."""

    def __init__(
        self,
        config: EventsConfig,
        writer: Writer,
        reader: Reader,
        now: Callable[[], datetime],
        client_of: Callable[[WebhookConfig], httpx.AsyncClient] = open_client,
    ) -> None:
        self.config, self.writer, self.reader, self._now = config, writer, reader, now
        self.feed = Feed(reader, config.stream, config.poll_s)
        self._dispatcher = Dispatcher(config.webhooks, writer, reader, now, config.poll_s, client_of)
        self._subscribed: dict[str, tuple[str, ...]] = {kind: config.subscribed(kind) for kind in outbox.KINDS}
        self._upkeep: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver and to tidy up."""
        self._dispatcher.start()
        self._upkeep = asyncio.create_task(self._tidy_up())

    def append(self, connection: Connection, conversation: str, at: datetime, events: Sequence[Happened]) -> None:
        """Write events of a conversation, with a delivery for each webhook that is told of such."""
        for event in events:
            outbox.append(connection, event.kind, conversation, at, event.body, self._subscribed.get(event.kind, ()))

    def notify(self) -> None:
        """Events were committed."""
        self.feed.notify()
        self._dispatcher.notify()

    def drain(self) -> None:
        """End the streams, so that the server can stop. Webhooks are still served until `close`."""
        self.feed.drain()

    async def close(self) -> None:
        """End the streams, deliver what is due for `drain_s` seconds at most, then stop."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        await self.feed.close()
        await self._dispatcher.close(self.config.drain_s)

    async def _tidy_up(self) -> None:
        while True:
            try:
                await self.tidy_up()
            except Exception as error:  # most likely the store's; it is done next time
                logger.warning("old events are not removed", extra={"reason": type(error).__name__})
            await asyncio.sleep(self.config.upkeep_s)

    async def tidy_up(self) -> None:
        """Remove events older than `keep_days`, and mend due times a wrong clock wrote. Raises StoreUnavailable."""
        now = self._now()
        before = now - timedelta(days=self.config.keep_days)
        for webhook in self.config.webhooks:
            longest = timedelta(seconds=webhook.longest_retry_s) + webhook.lease
            await self.writer.run(partial(deliveries.mend, webhook=webhook.name, now=now, longest=longest))
        while await self.writer.run(partial(outbox.prune, before=before, limit=PRUNED_AT_ONCE)) == PRUNED_AT_ONCE:
            pass
