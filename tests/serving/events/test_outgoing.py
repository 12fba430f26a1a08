"""All that leaves, as one: what is appended is told to whom it concerns, and what is old is thrown away."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from serving.events.config import EventsConfig
from serving.events.outgoing import PRUNED_AT_ONCE, Outgoing
from serving.store import deliveries, outbox
from tests.serving.events.places import START, Clock, Store, listening, until, webhook


@dataclass(frozen=True)
class Happening:
    """What the life of conversations says."""

    kind: str
    body: dict[str, Any] = field(default_factory=dict)


def outgoing(store: Store, now: Clock, *webhooks: Any, **config: Any) -> Outgoing:
    settings = EventsConfig.model_validate({"webhooks": webhooks, "poll_s": 60, "drain_s": 0} | config)
    return Outgoing(settings, store.writer, store.reader, now)


def test_each_webhook_is_told_of_its_kinds_as_soon_as_they_are_committed(store: Store) -> None:
    async def main() -> None:
        async with listening() as all_of, listening() as some:
            hooks = webhook(all_of.url, "all"), webhook(some.url, "some", kinds=["resolved"])
            leaving = outgoing(store, Clock(), *hooks)
            leaving.start()

            def write(connection: Connection) -> None:
                happenings = [Happening("flagged", {"score": 90}), Happening("resolved")]
                leaving.append(connection, "c1", START, happenings)

            await store.writer.run(write)
            leaving.notify()
            await until(lambda: len(all_of.got) == 2 and len(some.got) == 1)
            await leaving.close()
        assert [json.loads(one.body)["kind"] for one in some.got] == ["resolved"]
        assert json.loads(all_of.got[0].body)["body"] == {"score": 90}

    asyncio.run(main())


def test_an_unknown_kind_stops_the_transaction(sqlite_store: Store) -> None:
    async def main() -> None:
        leaving = outgoing(sqlite_store, Clock())
        with pytest.raises(ValueError, match="no kind of event"):
            await sqlite_store.writer.run(
                partial(leaving.append, conversation="c", at=START, events=[Happening("flagged"), Happening("gap")])
            )
        assert await sqlite_store.reader.run(outbox.span) == (1, 0)

    asyncio.run(main())


def test_what_is_old_goes_by_itself(store: Store) -> None:
    async def main() -> None:
        clock = Clock()
        leaving = outgoing(store, clock, upkeep_s=0.02, keep_days=2)
        await store.append(2 * PRUNED_AT_ONCE + 5)
        leaving.start()
        await asyncio.sleep(0.1)
        assert await store.reader.run(outbox.span) == (1, 2 * PRUNED_AT_ONCE + 5)
        clock.move(days=3)
        newest = 2 * PRUNED_AT_ONCE + 5

        async def pruned() -> bool:
            return await store.reader.run(outbox.span) == (newest, newest)

        await until(pruned)
        await leaving.close()

    asyncio.run(main())


def test_a_clock_that_was_put_back_does_not_stop_deliveries(sqlite_store: Store) -> None:
    async def main() -> None:
        clock = Clock(START + timedelta(days=100))
        hook = webhook("https://hooks.example/", first_retry_s=5, longest_retry_s=3600)
        leaving = outgoing(sqlite_store, clock, hook)
        await sqlite_store.append(hooks=["hook"])
        later = clock() + timedelta(seconds=5)
        mark = partial(deliveries.mark_failed, webhook="hook", number=1, due_at=later, error="status 500")
        await sqlite_store.writer.run(mark)
        clock.now = START
        assert not await sqlite_store.reader.run(partial(deliveries.is_due, webhook="hook", now=clock()))
        await leaving.tidy_up()
        assert await sqlite_store.reader.run(partial(deliveries.is_due, webhook="hook", now=clock()))

    asyncio.run(main())


def test_closing_what_was_never_started_is_nothing(sqlite_store: Store) -> None:
    async def main() -> None:
        await outgoing(sqlite_store, Clock(), webhook("https://hooks.example/")).close()

    asyncio.run(main())
