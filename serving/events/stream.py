"""Server-sent events: whoever listens gets every event from where they left off, in the order of ids, each once.

One poller a process reads new events and keeps the latest in memory for all who are up to date, so that a thousand
streams cost one query a tick; whoever lags behind reads the store in pages at their own pace and holds no memory.
Without listeners nothing is read. Knows nothing of how requests name a position; `serving.api.events` does.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.events.config import StreamConfig
from serving.events.waiting import comes
from serving.store import outbox
from serving.store.outbox import ERASED, Event
from serving.store.reader import Reader

logger = logging.getLogger("simmer.events")

RETRY_MS = 2000  # when a client that lost its stream should come back
_PAUSE_S = 0.02  # between two looks at the store, however many events come
_READERS = 2  # streams that read the store at the same time, so that those who lag leave threads to others

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """The id a stream continues after, and the gap before it: (asked for, continued after) where events are gone."""

    after: int
    gap: tuple[int, int] | None = None


@dataclass(eq=False)
class Feed:
    """The latest events of the store, for all streams of this process."""

    reader: Reader
    config: StreamConfig
    poll_s: float = 1.0
    open_streams: int = 0
    draining: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)  # set, and replaced, when something came
    _recent: list[Event] = field(default_factory=list)  # every event with an id above _floor that was seen
    _floor: int | None = None
    _poller: asyncio.Task[None] | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READERS))

    @property
    def full(self) -> bool:
        """Whether no more streams are taken, because there are enough or because the end is near."""
        return self.draining or self.open_streams >= self.config.streams

    def notify(self) -> None:
        """Events were committed: look now, not at the next tick."""
        self._woken.set()

    def drain(self) -> None:
        """End every stream, cleanly and soon."""
        self.draining = True
        self._tell()

    async def close(self) -> None:
        """End every stream and stop reading."""
        self.drain()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
            self._poller = None

    async def locate(self, after: int | None) -> Position:
        """Where a stream begins that continues after an id, or at the end. Raises StoreUnavailable."""
        lowest, highest = await self.reader.run(outbox.span)
        if after is None:
            return Position(highest)
        if after > highest:  # of a store that was restored, or of another; all that can be told is what comes
            return Position(highest, (after, highest))
        return Position(lowest - 1, (after, lowest - 1)) if after < lowest - 1 else Position(after)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Counts a stream, and keeps the poller going meanwhile."""
        self.open_streams += 1
        if self._poller is None:
            self._recent, self._floor = [], None
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self.open_streams -= 1

    async def page(self, after: int, kinds: Collection[str] | None) -> tuple[Sequence[Event], int]:
        """The next events after an id, and the id all before which are dealt with. Raises StoreUnavailable."""
        newest = self._newest()
        if self._floor is not None and after >= self._floor:
            start = bisect_right(self._recent, after, key=lambda event: event.id)
            some = self._recent[start : start + self.config.page]
            return [one for one in some if kinds is None or one.kind in kinds], some[-1].id if some else after
        async with self._readers:
            found = await self.reader.run(lambda connection: outbox.since(connection, after, self.config.page, kinds))
        last = found[-1].id if found else after
        return found, last if len(found) == self.config.page else max(last, newest)

    async def _poll(self) -> None:
        try:
            while self.open_streams and not self.draining:
                self._woken.clear()
                await self._look()
                await asyncio.sleep(_PAUSE_S)
                await comes(self._woken, self.poll_s)
        finally:
            self._poller = None

    async def _look(self) -> None:
        """Read on. While the store cannot be read the streams stay open, and hear of it all later."""
        try:
            if self._floor is None:
                self._floor = (await self.reader.run(outbox.span))[1]
                self._tell()
            newest = self._newest()
            found = await self.reader.run(lambda connection: outbox.since(connection, newest, self.config.page))
        except Exception as error:  # whatever it is, a poller goes on
            logger.warning("events cannot be read", extra={"reason": type(error).__name__})
            return
        if found:
            self._keep(found)
            self._tell()
        if len(found) == self.config.page:
            self._woken.set()

    def _keep(self, found: Sequence[Event]) -> None:
        gone = {event.conversation: event.id for event in found if event.kind == "erased"}
        kept = [*self._recent, *found]
        if gone:  # memory forgets with the store
            kept = [replace(one, body=ERASED) if one.id < gone.get(one.conversation, 0) else one for one in kept]
        cut = max(0, len(kept) - self.config.recent)
        if cut:
            self._floor = kept[cut - 1].id
        self._recent = kept[cut:]

    def _newest(self) -> int:
        return self._recent[-1].id if self._recent else self._floor or 0

    def _tell(self) -> None:
        told, self.news = self.news, asyncio.Event()
        told.set()


class EventStream(Response):
    """A response that goes on until the client leaves, stops reading, or the server ends."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, position: Position, kinds: Collection[str] | None) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._feed, self._position, self._kinds = feed, position, kinds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.listening():
            sending, left = asyncio.create_task(self._send(send)), asyncio.create_task(_gone(receive))
            try:
                await asyncio.wait({sending, left}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                left.cancel()
                await asyncio.gather(sending, left, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in frames(self._feed, self._position, self._kinds):
            await self._put(send, chunk, more=True)
        await self._put(send, b"", more=False)

    async def _put(self, send: Send, body: bytes, more: bool) -> None:
        """Raises TimeoutError where the client takes nothing."""
        async with asyncio.timeout(self._feed.config.stall_s):
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def frames(feed: Feed, position: Position, kinds: Collection[str] | None) -> AsyncIterator[bytes]:
    """What a stream says: events as they come, a heartbeat while none do, until the server ends."""
    # the id from the start, so that a stream lost before its first event resumes from there too
    yield f"retry: {RETRY_MS}\nid: {position.after}\n\n".encode() + _gap(position)
    after, told = position.after, position.after
    while not feed.draining:
        news, before = feed.news, after
        try:
            found, after = await feed.page(after, kinds)
        except Exception as error:  # the store is away; the client need not notice
            logger.warning("a stream waits for the store", extra={"reason": type(error).__name__})
            found = []
        if found:
            told = found[-1].id
            yield b"".join(map(_frame, found))
        elif after == before and not await comes(news, feed.config.heartbeat_s):
            yield _heartbeat(after, told)
            told = after
    yield b": the server ends\n\n"


def _frame(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), event.as_json())


def _gap(position: Position) -> bytes:
    if position.gap is None:
        return b""
    asked, after = position.gap
    return b"id: %d\nevent: gap\ndata: %s\n\n" % (after, orjson.dumps({"asked_after": asked, "continues_after": after}))


def _heartbeat(after: int, told: int) -> bytes:
    """A comment; with the id where a stream of few kinds has come to, so that it resumes from there."""
    return b": still here\n\n" if after == told else b": still here\nid: %d\n\n" % after


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
