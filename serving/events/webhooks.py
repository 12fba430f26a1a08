"""Delivers the outbox to webhooks: at least once, each webhook for itself, so that one that hangs holds back no other.

A courier per webhook takes what is due in small lots, sends it and marks it, again and again; it wakes when events
were committed in this process and looks for others' every second. A process sends the events of a conversation in
their order, but one that is tried again, or that another process sends, comes when it can: consumers sort by event id,
and drop what they have seen. A target that answers 410 gets that event no more; the next is tried all the same, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random

import httpx

from serving.events.config import WebhookConfig
from serving.events.delivery import Outcome, attempt, check_webhook, open_client, retry_wait
from serving.events.waiting import comes
from serving.store import deliveries
from serving.store.deliveries import Delivery
from serving.store.faults import StoreUnavailable
from serving.store.reader import Reader
from serving.store.writer import Writer

logger = logging.getLogger("simmer.events")

Clock = Callable[[], datetime]
LOT = 50  # deliveries taken at once, and waiting in memory at most
_RELEASE_S = 1.0  # how long the end may take to give back what was not sent


@dataclass(eq=False)
class Courier:
    """Delivers to one webhook."""

    config: WebhookConfig
    writer: Writer
    reader: Reader
    now: Clock
    poll_s: float
    client: httpx.AsyncClient
    chance: Random = field(default_factory=Random)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _sending: dict[asyncio.Task[None], Sequence[Delivery]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(init=False)
    _last: bool = False  # what is due now is still sent, then no more
    _failing: bool = False

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.config.in_flight)

    def wake(self) -> None:
        """Look for deliveries now."""
        self._woken.set()

    def finish(self) -> None:
        """End once nothing is due."""
        self._last = True
        self.wake()

    async def run(self) -> None:
        """Deliver until told to finish. Whatever goes wrong is logged and tried again."""
        while True:
            self._woken.clear()
            free = LOT - sum(map(len, self._sending.values()))
            taken = await self._take(free) if free >= LOT // 2 else []
            for some in _by_conversation(taken):
                self._send(some)
            if self._last and not taken and not self._sending:
                return
            if not taken or len(taken) < free:
                await comes(self._woken, self.poll_s)

    async def abandon(self) -> None:
        """Stop sending; what was under way is due again at once."""
        unsent = [one.event.id for some in self._sending.values() for one in some]
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if unsent:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_RELEASE_S):
                    await self._give_back(unsent)

    async def _take(self, limit: int) -> list[Delivery]:
        name, now = self.config.name, self.now()
        try:
            if not await self.reader.run(partial(deliveries.is_due, webhook=name, now=now)):
                return []
            take = partial(deliveries.take, webhook=name, now=now, lease=self.config.lease, limit=limit)
            taken = await self.writer.run(take)
        except Exception as error:  # most likely the store's; whatever it is, a courier goes on
            if not self._failing:
                logger.warning("a webhook waits for the store", extra={"webhook": name, "reason": type(error).__name__})
            self._failing = True
            return []
        self._failing = False
        return taken

    def _send(self, some: Sequence[Delivery]) -> None:
        conversation = some[0].event.conversation
        before = [task for task, others in self._sending.items() if others[0].event.conversation == conversation]
        task = asyncio.create_task(self._deliver(some, before))
        self._sending[task] = some
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.pop(task, None)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            said = {"webhook": self.config.name, "reason": type(error).__name__}
            logger.warning("what became of a delivery is not written", extra=said)

    async def _deliver(self, some: Sequence[Delivery], before: Collection[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + 2 * self.config.timeout_s
        if before:
            await asyncio.wait(before)
        for index, one in enumerate(some):
            async with self._slots:
                if loop.time() > end:  # the lease might run out meanwhile
                    await self._give_back([left.event.id for left in some[index:]])
                    return
                outcome = await attempt(self.client, self.config, one.event, self.now())
            await self.writer.run(self._mark(one, outcome), key=f"delivery {one.event.id:020}")

    async def _give_back(self, numbers: Collection[int]) -> None:
        await self.writer.run(partial(deliveries.give_back, webhook=self.config.name, numbers=numbers))

    def _mark(self, one: Delivery, outcome: Outcome) -> Callable[..., None]:
        name, number, tried = self.config.name, one.event.id, one.attempts + 1
        if outcome.error is None:
            return partial(deliveries.mark_delivered, webhook=name, number=number)
        said = {"webhook": name, "event_id": number, "attempt": tried, "reason": outcome.error}
        logger.info("a webhook did not take an event", extra=said)
        if outcome.final or tried >= self.config.attempts:
            return partial(deliveries.mark_dead, webhook=name, number=number, error=outcome.error)
        wait = timedelta(seconds=retry_wait(self.config, tried, outcome.wait_s, self.chance))
        due = self.now() + wait
        return partial(deliveries.mark_failed, webhook=name, number=number, due_at=due, error=outcome.error)


class Dispatcher:
    """The couriers of all webhooks. Raises InputError when made of one that cannot work."""

    def __init__(
        self,
        webhooks: Sequence[WebhookConfig],
        writer: Writer,
        reader: Reader,
        now: Clock,
        poll_s: float = 1.0,
        client_of: Callable[[WebhookConfig], httpx.AsyncClient] = open_client,
    ) -> None:
        for webhook in webhooks:
            check_webhook(webhook)
        self._couriers = [Courier(one, writer, reader, now, poll_s, client_of(one)) for one in webhooks]
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver."""
        self._running = [asyncio.create_task(courier.run()) for courier in self._couriers]

    def notify(self) -> None:
        """Events were committed: deliver them now, not at the next look."""
        for courier in self._couriers:
            courier.wake()

    async def close(self, seconds: float) -> None:
        """Deliver what is due for so many seconds at most, then stop."""
        for courier in self._couriers:
            courier.finish()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*(courier.abandon() for courier in self._couriers))
        await asyncio.gather(*(courier.client.aclose() for courier in self._couriers))


def _by_conversation(taken: Sequence[Delivery]) -> list[list[Delivery]]:
    """Those of one conversation go one after another, the others side by side."""
    groups: dict[str, list[Delivery]] = defaultdict(list)
    for one in taken:
        groups[one.event.conversation].append(one)
    return list(groups.values())
