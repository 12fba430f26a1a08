"""The stream: every event from where a client left off, in order, each once, for many clients at little cost."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Connection

from serving.events.config import EventsConfig, StreamConfig
from serving.events.outgoing import Outgoing
from serving.events.stream import frames
from serving.store import outbox
from serving.store.faults import StoreUnavailable
from serving.store.reader import Reader
from tests.serving.events.places import START, Clock, Store, api, until

QUICK: dict[str, Any] = {"poll_s": 0.02, "drain_s": 0.0}


@dataclass
class Frame:
    """What a browser makes of one block of the stream."""

    id: int | None = None
    event: str | None = None
    data: Any = None
    comment: str | None = None
    retry: int | None = None


@dataclass
class Listener:
    """A client of the stream; `seen` grows as frames come."""

    response: httpx.Response
    seen: list[Frame] = field(default_factory=list)
    ended: bool = False

    @property
    def events(self) -> list[Frame]:
        return [frame for frame in self.seen if frame.event]

    @property
    def ids(self) -> list[int | None]:
        return [frame.id for frame in self.events]

    async def listen(self) -> None:
        block = Frame()
        async for line in self.response.aiter_lines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                self.seen.append(block)
                block = Frame()
            elif not name:
                block.comment = value
            else:
                setattr(block, name, {"id": int, "retry": int, "data": json.loads}.get(name, str)(value))
        self.ended = True


@dataclass
class Served:
    """The API on loopback."""

    outgoing: Outgoing
    http: httpx.AsyncClient
    port: int

    @asynccontextmanager
    async def listening(self, query: str = "", **headers: str) -> AsyncIterator[Listener]:
        async with self.http.stream("GET", f"/v1/events{query}", headers=headers) as response:
            assert response.status_code == 200
            listener = Listener(response)
            task = asyncio.create_task(listener.listen())
            await until(lambda: bool(listener.seen))
            try:
                yield listener
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def served(store: Store, reader: Reader | None = None, **config: Any) -> AsyncIterator[Served]:
    """The routes behind a real server, with the outbox at work."""
    settings = EventsConfig.model_validate(QUICK | config)
    outgoing = Outgoing(settings, store.writer, reader or store.reader, Clock())
    server = uvicorn.Server(
        uvicorn.Config(api(outgoing), port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=30)
    )
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        running = asyncio.create_task(server.serve([bound]))
        await until(lambda: server.started)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            outgoing.start()
            try:
                yield Served(outgoing, http, port)
            finally:
                await outgoing.close()
        server.should_exit = True
        await running


def test_events_come_as_they_happen(store: Store) -> None:
    async def main() -> None:
        await store.append(3)
        async with served(store) as api, api.listening() as listener:
            assert listener.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert listener.response.headers["cache-control"] == "no-store"
            assert listener.seen[0] == Frame(retry=2000, id=3)
            await store.append(1, "resolved", "c😡\n")
            api.outgoing.notify()
            await store.append(1, "erased")  # of another process
            await until(lambda: len(listener.events) == 2)
        first, second = listener.events
        assert (first.id, first.event, second.id, second.event) == (4, "resolved", 5, "erased")
        assert first.data == {
            "id": 4,
            "kind": "resolved",
            "conversation": "c😡\n",
            "at": "2026-05-04T09:00:00Z",
            "body": {"score": 0},
        }

    asyncio.run(main())


@pytest.mark.parametrize("page", [3, 200])
@pytest.mark.parametrize("recent", [2, 1000])
def test_a_client_that_comes_back_misses_nothing(sqlite_store: Store, page: int, recent: int) -> None:
    async def main() -> None:
        async with served(sqlite_store, stream={"page": page, "recent": recent}) as api:
            await sqlite_store.append(10)
            async with api.listening("?after=0") as listener:
                await until(lambda: len(listener.events) == 10)
                for _ in range(10):
                    await sqlite_store.append(2)
                    api.outgoing.notify()
                await until(lambda: len(listener.events) == 30)
            await sqlite_store.append(5)
            headers = {"last-event-id": str(listener.ids[-1])}
            async with api.listening("?after=0", **headers) as again:  # the header goes before what the URL says
                await sqlite_store.append(5)
                await until(lambda: len(again.events) == 10)
        assert listener.ids + again.ids == list(range(1, 41))

    asyncio.run(main())


def test_kinds_are_chosen_and_the_heartbeat_moves_the_place_to_resume(sqlite_store: Store) -> None:
    async def main() -> None:
        stream = {"page": 3, "heartbeat_s": 0.3}
        async with served(sqlite_store, stream=stream) as api, api.listening("?kinds=resolved,erased") as listener:
            await sqlite_store.append(10, "flagged")
            await sqlite_store.append(1, "resolved")
            await sqlite_store.append(7, "flagged")
            await until(lambda: any(frame.comment and frame.id for frame in listener.seen))
            await sqlite_store.append(1, "erased")
            await until(lambda: len(listener.events) == 2)
        assert listener.ids == [11, 19]
        assert {frame.id for frame in listener.seen if frame.comment} <= {None, 18}
        async with (
            served(sqlite_store, stream=stream) as api,
            api.listening("?kinds=resolved, erased&after=0") as all_of,
        ):
            await until(lambda: len(all_of.events) == 2)
        assert all_of.ids == [11, 19]

    asyncio.run(main())


def test_a_silent_stream_has_a_pulse(sqlite_store: Store) -> None:
    async def main() -> None:
        async with served(sqlite_store, stream={"heartbeat_s": 0.05}) as api, api.listening() as listener:
            await until(lambda: len(listener.seen) > 4)
        assert [frame for frame in listener.seen[1:] if frame != Frame(comment="still here")] == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("after", "gap", "ids"),
    [(0, 6, [7, 8]), (2, 6, [7, 8]), (5, 6, [7, 8]), (6, None, [7, 8]), (7, None, [8]), (8, None, []), (99, 8, [])],
)
def test_what_is_no_longer_kept_is_said(sqlite_store: Store, after: int, gap: int | None, ids: list[int]) -> None:
    async def main() -> None:
        await sqlite_store.append(6)
        await sqlite_store.append(2, conversation="young")
        await sqlite_store.writer.run(remove_the_old)
        async with served(sqlite_store) as api, api.listening(f"?after={after}") as listener:
            await sqlite_store.append(1)
            await until(lambda: 9 in listener.ids)
        events = listener.events
        if gap is not None:
            first = events.pop(0)
            assert (first.id, first.event) == (gap, "gap")
            assert first.data == {"asked_after": after, "continues_after": gap}
        assert [frame.id for frame in events] == [*ids, 9]

    asyncio.run(main())


def remove_the_old(connection: Connection) -> None:
    connection.exec_driver_sql("DELETE FROM events WHERE conversation <> 'young'")


@pytest.mark.parametrize(
    ("query", "header", "field"),
    [
        ("?after=", None, "after"),
        ("?after=-1", None, "after"),
        ("?after=1.5", None, "after"),
        ("?after=٣", None, "after"),
        ("?after=NOW", None, "after"),
        (f"?after={2**63}", None, "after"),
        ("?after=" + "9" * 5000, None, "after"),
        ("", "x", "last-event-id"),
        ("?after=1", "1;2", "last-event-id"),
        ("?kinds=", None, "kinds"),
        ("?kinds=flagged,gap", None, "kinds"),
        ("?kinds=flagged,,", None, "kinds"),
    ],
)
def test_a_place_that_is_none_is_refused(sqlite_store: Store, query: str, header: str | None, field: str) -> None:
    async def main() -> None:
        async with served(sqlite_store) as api:
            headers = {} if header is None else {"last-event-id": header}
            answer = await api.http.get(f"/v1/events{query}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)

    asyncio.run(main())


def test_a_blank_last_id_is_none(sqlite_store: Store) -> None:
    async def main() -> None:
        await sqlite_store.append(2)
        async with served(sqlite_store) as api, api.listening("?after=1", **{"last-event-id": ""}) as listener:
            await until(lambda: listener.ids == [2])

    asyncio.run(main())


def test_streams_are_bounded_and_a_place_is_free_when_one_leaves(sqlite_store: Store) -> None:
    async def main() -> None:
        async with served(sqlite_store, stream={"streams": 2}) as api:
            async with api.listening(), api.listening():
                answer = await api.http.get("/v1/events")
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
            await until(lambda: api.outgoing.feed.open_streams == 0)
            async with api.listening():
                pass

    asyncio.run(main())


def test_streams_end_cleanly_when_the_server_does(sqlite_store: Store) -> None:
    async def main() -> None:
        async with served(sqlite_store) as api, api.listening() as one, api.listening("?after=0") as two:
            api.outgoing.drain()
            await until(lambda: one.ended and two.ended)
            assert one.seen[-1] == Frame(comment="the server ends")
            assert (await api.http.get("/v1/events")).status_code == 503

    asyncio.run(main())


class Counting(Reader):
    """A reader that counts, and fails when told to."""

    queries = 0
    away = False

    async def run(self, query: Callable[[Connection], Any]) -> Any:
        self.queries += 1
        if self.away:
            raise StoreUnavailable("gone")
        return await super().run(query)


def test_many_streams_cost_what_one_costs(sqlite_store: Store) -> None:
    async def main() -> None:
        reader = Counting(sqlite_store.database)
        async with served(sqlite_store, reader, poll_s=60) as api:
            feed = api.outgoing.feed
            position = await feed.locate(None)
            heard: list[int] = []
            tasks = [asyncio.create_task(hear(api.outgoing, position, heard)) for _ in range(200)]
            await until(lambda: reader.queries >= 200 and feed.open_streams == 200)
            await asyncio.sleep(0.2)
            before = reader.queries
            await sqlite_store.append(5)
            api.outgoing.notify()
            await until(lambda: len(heard) == 200 * 5)
            assert reader.queries - before <= 3
            feed.drain()
            await asyncio.gather(*tasks)
        reader.close()

    asyncio.run(main())


async def hear(outgoing: Outgoing, position: Any, heard: list[int]) -> None:
    with outgoing.feed.listening():
        async for chunk in frames(outgoing.feed, position, None):
            heard.extend([1] * chunk.count(b"event:"))


def test_without_listeners_nothing_is_read(sqlite_store: Store) -> None:
    async def main() -> None:
        reader = Counting(sqlite_store.database)
        async with served(sqlite_store, reader) as api:
            async with api.listening():
                pass
            await until(lambda: api.outgoing.feed.open_streams == 0)
            await asyncio.sleep(0.2)
            before = reader.queries
            await sqlite_store.append(1)
            api.outgoing.notify()
            await asyncio.sleep(0.2)
            assert reader.queries == before
            async with api.listening("?after=0") as listener:  # and who comes later misses nothing
                await until(lambda: listener.ids == [1])
        reader.close()

    asyncio.run(main())


def test_a_store_that_goes_away_and_comes_back_is_not_noticed(sqlite_store: Store) -> None:
    async def main() -> None:
        reader = Counting(sqlite_store.database)
        async with served(sqlite_store, reader, stream={"heartbeat_s": 0.1}) as api, api.listening() as listener:
            reader.away = True
            await sqlite_store.append(3)
            await asyncio.sleep(0.3)
            reader.away = False
            await until(lambda: listener.ids == [1, 2, 3])
        reader.close()

    asyncio.run(main())


def test_a_client_that_takes_nothing_is_let_go(sqlite_store: Store) -> None:
    async def main() -> None:
        await sqlite_store.writer.run(partial(bulky, count=2000))
        async with served(sqlite_store, stream={"stall_s": 0.5, "page": 50}) as api:
            _, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
            writer.write(b"GET /v1/events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda: api.outgoing.feed.open_streams == 1)
            await until(lambda: api.outgoing.feed.open_streams == 0)
            writer.transport.abort()

    asyncio.run(main())


def bulky(connection: Connection, count: int) -> None:
    for _ in range(count):
        outbox.append(connection, "flagged", "c", START, {"reasons": ["x" * 10_000]})


def test_an_erased_conversation_is_erased_from_memory_too(sqlite_store: Store) -> None:
    async def main() -> None:
        async with served(sqlite_store) as api, api.listening() as live:
            await sqlite_store.append(1, conversation="c")
            await until(lambda: live.ids == [1])
            await sqlite_store.writer.run(erased)
            await until(lambda: live.ids == [1, 2])
            position = await api.outgoing.feed.locate(0)
            found, _ = await api.outgoing.feed.page(position.after, None)
            assert [dict(one.body) for one in found] == [{"erased": True}, {"id": "c"}]

    asyncio.run(main())


def erased(connection: Connection) -> None:
    outbox.erase(connection, "c")
    outbox.append(connection, "erased", "c", START, {"id": "c"})


def test_the_settings_have_bounds() -> None:
    with pytest.raises(ValueError, match="streams"):
        StreamConfig(streams=0)
