"""Webhooks: at least once, signed, patient, and none in another's way, whatever the targets do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from pipeline.errors import InputError
from serving.events.config import EventsConfig, WebhookConfig
from serving.events.delivery import open_client, retry_wait
from serving.events.signing import parse_secret, verify
from serving.events.webhooks import Dispatcher
from serving.store import deliveries, outbox
from serving.store.deliveries import DeadLetter
from serving.store.faults import StoreUnavailable
from serving.store.reader import Reader
from serving.store.writer import Writer
from tests.serving.events import places
from tests.serving.events.places import (
    SECRETS,
    START,
    Clock,
    Flood,
    Store,
    listening,
    open_store,
    status,
    until,
    webhook,
)

SOON = 0.02


def dispatcher(store: Store, *webhooks: WebhookConfig, now: Clock | None = None, **options: Any) -> Dispatcher:
    return Dispatcher(webhooks, store.writer, store.reader, now or Clock(), **{"poll_s": SOON} | options)


@asynccontextmanager
async def delivering(
    store: Store, *webhooks: WebhookConfig, now: Clock | None = None, **options: Any
) -> AsyncIterator[Dispatcher]:
    """A dispatcher at work, by a clock that goes unless the test gives its own."""
    working = dispatcher(store, *webhooks, now=now or Running(), **options)
    working.start()
    try:
        yield working
    finally:
        await working.close(0.0)


class Running(Clock):
    """Time that passes by itself."""

    def __call__(self) -> Any:
        return START + timedelta(seconds=asyncio.get_running_loop().time())


async def count(store: Store, name: str = "hook") -> dict[str, int]:
    found = await store.reader.run(deliveries.counts)
    return found.get(name, {})


async def dead(store: Store) -> list[DeadLetter]:
    return await store.reader.run(partial(deliveries.dead_letters, limit=100))


def settled(store: Store, **expected: int) -> Callable[[], Awaitable[bool]]:
    async def true() -> bool:
        return await count(store) == expected

    return true


def test_an_event_arrives_signed_and_whole(store: Store) -> None:
    async def main() -> None:
        async with listening() as target:
            secrets = [{"env": "SIMMER_NEW"}, {"env": "SIMMER_OLD"}]
            async with delivering(store, webhook(target.url, secrets=secrets), now=Clock()) as working:
                await store.append(hooks=["hook"], conversation="c😡")
                working.notify()
                await until(settled(store, delivered=1))
        (got,) = target.got
        assert json.loads(got.body) == {
            "id": 1,
            "kind": "flagged",
            "conversation": "c😡",
            "at": "2026-05-04T09:00:00Z",
            "body": {"score": 0},
        }
        assert got.headers["content-type"] == "application/json"
        for name in ("SIMMER_NEW", "SIMMER_OLD"):  # while a secret is changed either one verifies
            assert verify([parse_secret(SECRETS[name])], got.headers, got.body, START) == got.headers["webhook-id"]

    asyncio.run(main())


def test_a_target_that_recovers_gets_the_same_message_again(store: Store) -> None:
    async def main() -> None:
        answers = status(500), places.reset, places.garbage, status(503), status(204, body=b"")
        async with listening(*answers) as target, delivering(store, webhook(target.url)) as working:
            await store.append(hooks=["hook"])
            working.notify()
            await until(settled(store, delivered=1))
        assert len(target.got) == 5
        assert len({one.headers["webhook-id"] for one in target.got}) == 1
        assert len({one.body for one in target.got}) == 1
        assert await dead(store) == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (places.hang, "no answer in time"),
        (places.drip, "no answer in time"),
        (places.reset, "the connection broke, or what came was not HTTP"),
        (places.garbage, "the connection broke, or what came was not HTTP"),
        (status(302, "location: http://169.254.169.254/"), "status 302: redirects are not followed"),
        (status(404, body=b"secret words"), "status 404"),
        (status(200, "transfer-encoding: chunked, chunked", "x" * 200_000 + ": y"), None),
    ],
)
def test_a_failure_is_named_and_ends_on_the_dead_list(
    sqlite_store: Store, answer: places.Answer, error: str | None
) -> None:
    store = sqlite_store

    async def main() -> None:
        async with listening(answer) as target, delivering(store, webhook(target.url, attempts=2)) as working:
            await store.append(hooks=["hook"])
            working.notify()
            await until(settled(store, dead=1))
            assert len(target.got) == 2
        (letter,) = await dead(store)
        assert letter.delivery.attempts == 2
        assert letter.error == error or error is None
        assert "127.0.0.1" not in letter.error
        assert "secret" not in letter.error

    asyncio.run(main())


def test_a_flood_is_not_swallowed(sqlite_store: Store) -> None:
    async def main() -> None:
        flood = Flood()
        async with listening(flood) as target, delivering(sqlite_store, webhook(target.url, in_flight=1)) as working:
            await sqlite_store.append(3, hooks=["hook"])
            working.notify()
            await until(settled(sqlite_store, delivered=3))
        assert flood.sent < 3 * 20_000_000  # what fits into the buffers of sockets

    asyncio.run(main())


def test_a_target_that_hangs_holds_back_no_other(store: Store) -> None:
    async def main() -> None:
        async with listening(places.hang) as slow, listening() as quick:
            hooks = webhook(slow.url, "slow", timeout_s=30), webhook(quick.url, "quick")
            async with delivering(store, *hooks, poll_s=60) as working:
                await store.append(30, hooks=["slow", "quick"])
                working.notify()
                await until(lambda: len(quick.got) == 30, 5)
                assert 1 <= len(slow.got) <= 8

    asyncio.run(main())


def test_what_would_outlast_its_lease_is_put_back_and_taken_again(sqlite_store: Store) -> None:
    async def main() -> None:
        async with listening(places.hang) as target:
            async with delivering(sqlite_store, webhook(target.url, timeout_s=0.05, attempts=1)) as working:
                await sqlite_store.append(12, conversation="one after another", hooks=["hook"])
                working.notify()
                await until(settled(sqlite_store, dead=12))
            assert [json.loads(one.body)["id"] for one in target.got] == list(range(1, 13))

    asyncio.run(main())


def test_events_of_a_conversation_arrive_in_order(store: Store) -> None:
    async def main() -> None:
        async with listening() as target, delivering(store, webhook(target.url)) as working:
            for _ in range(10):
                await store.append(conversation="a", hooks=["hook"])
                await store.append(conversation="b", hooks=["hook"])
            working.notify()
            await until(settled(store, delivered=20))
        for conversation in "ab":
            bodies = [json.loads(one.body) for one in target.got]
            ids = [one["id"] for one in bodies if one["conversation"] == conversation]
            assert ids == sorted(ids)

    asyncio.run(main())


def test_events_of_another_process_are_found_without_a_word(store: Store) -> None:
    async def main() -> None:
        async with listening() as target, delivering(store, webhook(target.url)):
            await store.append(hooks=["hook"])
            await until(settled(store, delivered=1))

    asyncio.run(main())


def test_a_name_that_cannot_be_resolved_is_tried_again(sqlite_store: Store) -> None:
    async def main() -> None:
        names: list[str] = []

        async def resolver(host: str, port: int) -> Sequence[str]:
            names.append(host)
            if len(names) < 3:
                raise OSError("name or service not known")
            return ["127.0.0.1"]

        async with listening() as target:
            config = webhook(f"http://hooks.example:{target.port}/")
            working = delivering(sqlite_store, config, client_of=partial(open_client, resolver=resolver))
            async with working as running:
                await sqlite_store.append(hooks=["hook"])
                running.notify()
                await until(settled(sqlite_store, delivered=1))
        assert names == ["hooks.example"] * 3
        assert target.got[0].headers["host"] == f"hooks.example:{target.port}"

    asyncio.run(main())


def test_a_name_that_turns_private_is_not_spoken_to(sqlite_store: Store) -> None:
    async def main() -> None:
        async def resolver(host: str, port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        async with listening() as target:
            config = webhook(f"https://hooks.example:{target.port}/", allow_private=False, attempts=1)
            working = delivering(sqlite_store, config, client_of=partial(open_client, resolver=resolver))
            async with working as running:
                await sqlite_store.append(hooks=["hook"])
                running.notify()
                await until(settled(sqlite_store, dead=1))
        assert target.got == []
        assert "not public" in (await dead(sqlite_store))[0].error

    asyncio.run(main())


def test_gone_is_not_tried_again_but_the_next_event_is(sqlite_store: Store) -> None:
    async def main() -> None:
        async with (
            listening(status(410), status(200)) as target,
            delivering(sqlite_store, webhook(target.url)) as working,
        ):
            await sqlite_store.append(hooks=["hook"])
            working.notify()
            await until(settled(sqlite_store, dead=1))
            await sqlite_store.append(hooks=["hook"])
            working.notify()
            await until(settled(sqlite_store, dead=1, delivered=1))
        assert len(target.got) == 2

    asyncio.run(main())


def test_the_dead_are_delivered_when_they_are_revived(store: Store) -> None:
    async def main() -> None:
        answers = status(500), status(500), status(200)
        async with listening(*answers) as target, delivering(store, webhook(target.url, attempts=1)) as working:
            await store.append(2, hooks=["hook"])
            working.notify()
            await until(settled(store, dead=2))
            revive = partial(deliveries.revive, webhook="hook", number=2)
            assert await store.writer.run(revive) == 1
            assert await store.writer.run(revive) == 0
            working.notify()
            await until(settled(store, dead=1, delivered=1))
        assert [json.loads(one.body)["id"] for one in target.got][2:] == [2]

    asyncio.run(main())


def test_a_process_that_dies_between_sending_and_marking_delivers_again(store: Store) -> None:
    """The first dispatcher is cut off when the target has the event and the store does not know; leases run out."""

    async def main() -> None:
        clock = Clock()
        async with listening() as target:
            cut = Cut(store.writer)
            first = Dispatcher([webhook(target.url)], cut, store.reader, clock, SOON)
            first.start()
            await store.append(3, hooks=["hook"])
            await until(lambda: len(target.got) >= 1)
            async with delivering(store, webhook(target.url), now=clock) as second:
                await asyncio.sleep(5 * SOON)
                taken = len(target.got)
                clock.move(seconds=webhook(target.url).lease.total_seconds() + 1)
                second.notify()
                await until(settled(store, delivered=3))
            assert len(target.got) >= taken + 3
            ids = Counter(one.headers["webhook-id"] for one in target.got)
            assert len(ids) == 3
            assert max(ids.values()) >= 2
            cut.whole = True
            await first.close(0.0)

    asyncio.run(main())


class Cut(Writer):
    """A writer whose process dies after it took deliveries: no mark is ever made."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer.database)
        self.inner, self.whole = writer, False

    async def run(self, operation: Callable[[Connection], Any], key: str = "") -> Any:
        if key and not self.whole:
            await asyncio.sleep(3600)
        return await self.inner.run(operation, key)


def test_two_replicas_share_the_work(store: Store) -> None:
    async def main() -> None:
        other = open_store(store.url)
        clock = Clock()
        async with listening() as target:
            hook = webhook(target.url, timeout_s=30)
            async with delivering(store, hook, now=clock) as one, delivering(other, hook, now=clock) as two:
                for number in range(60):
                    await store.append(conversation=f"c{number}", hooks=["hook"])
                one.notify()
                two.notify()
                await until(settled(store, delivered=60), 30)
        other.close()
        ids = [json.loads(got.body)["id"] for got in target.got]
        assert sorted(ids) == list(range(1, 61))  # each once

    asyncio.run(main())


def test_the_end_waits_a_little_and_what_was_not_sent_is_due_at_once(store: Store) -> None:
    async def main() -> None:
        async with listening(status(200), status(200), places.hang) as target:
            working = dispatcher(store, webhook(target.url, timeout_s=60, in_flight=1))
            await store.append(4, hooks=["hook"])
            working.start()
            began = asyncio.get_running_loop().time()
            await working.close(0.3)
            assert asyncio.get_running_loop().time() - began < 3
        assert await count(store) == {"delivered": 2, "pending": 2}
        due = partial(deliveries.take, webhook="hook", now=START, lease=timedelta(seconds=1), limit=9)
        assert [one.event.id for one in await store.writer.run(due)] == [3, 4]

    asyncio.run(main())


def test_the_end_comes_at_once_when_nothing_is_due(sqlite_store: Store) -> None:
    async def main() -> None:
        working = dispatcher(sqlite_store, webhook("https://hooks.example/"), poll_s=60)
        working.start()
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await working.close(60)

    asyncio.run(main())


def test_a_store_that_goes_away_and_comes_back(sqlite_store: Store) -> None:
    class Away(Reader):
        away = True

        async def run(self, query: Callable[[Connection], Any]) -> Any:
            if self.away:
                raise StoreUnavailable("gone")
            return await super().run(query)

    async def main() -> None:
        reader = Away(sqlite_store.database)
        async with listening() as target, delivering(replace(sqlite_store, reader=reader), webhook(target.url)):
            await sqlite_store.append(hooks=["hook"])
            await asyncio.sleep(5 * SOON)
            assert target.got == []
            reader.away = False
            await until(settled(sqlite_store, delivered=1))
        reader.close()

    asyncio.run(main())


def test_an_erased_conversation_is_not_told_of(sqlite_store: Store) -> None:
    async def main() -> None:
        await sqlite_store.append(hooks=["hook"])
        await sqlite_store.writer.run(partial(outbox.erase, conversation="c"))
        async with listening() as target, delivering(sqlite_store, webhook(target.url)):
            await until(settled(sqlite_store, delivered=1))
        assert json.loads(target.got[0].body)["body"] == {"erased": True}

    asyncio.run(main())


def test_a_clock_that_was_ahead_delays_nothing_for_ever(store: Store) -> None:
    async def main() -> None:
        await store.append(2, hooks=["hook"])
        year = START + timedelta(days=365)
        put_off = partial(deliveries.mark_failed, webhook="hook", number=1, due_at=year, error="x")
        await store.writer.run(put_off)
        soon = partial(deliveries.mark_failed, webhook="hook", number=2, due_at=START + timedelta(hours=1), error="x")
        await store.writer.run(soon)
        mend = partial(deliveries.mend, webhook="hook", now=START, longest=timedelta(hours=6))
        assert await store.writer.run(mend) == 1
        due = partial(deliveries.take, webhook="hook", now=START, lease=timedelta(seconds=1), limit=9)
        assert [one.event.id for one in await store.writer.run(due)] == [1]

    asyncio.run(main())


def test_a_late_mark_does_not_undo_a_delivery(sqlite_store: Store) -> None:
    async def main() -> None:
        await sqlite_store.append(hooks=["hook"])
        run = sqlite_store.writer.run
        await run(partial(deliveries.mark_delivered, webhook="hook", number=1))
        await run(partial(deliveries.mark_failed, webhook="hook", number=1, due_at=START, error="late"))
        await run(partial(deliveries.mark_dead, webhook="hook", number=1, error="later"))
        await run(partial(deliveries.give_back, webhook="hook", numbers=[1]))
        assert await count(sqlite_store) == {"delivered": 1}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secrets": [{"env": "SIMMER_MISSING"}]}, "SIMMER_MISSING"),
        ({"url": "http://10.0.0.1/", "allow_private": False}, "webhook hook:"),
        ({"url": "ftp://hooks.example/"}, "webhook hook:"),
        ({"url": "https://user:hush@hooks.example/"}, "webhook hook:"),
        ({"url": ""}, "webhook hook:"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_at_the_start(sqlite_store: Store, changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        dispatcher(sqlite_store, webhook("https://hooks.example/").model_copy(update=webhook_fields(changes)))
    assert "\n" not in str(refused.value)
    assert "hush" not in str(refused.value)


def webhook_fields(changes: dict[str, Any]) -> dict[str, Any]:
    valid = webhook(**{"url": "https://hooks.example/"} | changes)
    return {name: getattr(valid, name) for name in changes}


def test_a_secret_is_changed_without_a_restart(sqlite_store: Store, tmp_path: Any) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRETS["SIMMER_OLD"])

    async def main() -> None:
        async with (
            listening() as target,
            delivering(sqlite_store, webhook(target.url, secrets=[{"file": str(file)}]), now=Clock()) as working,
        ):
            for number, name in enumerate(("SIMMER_OLD", "SIMMER_NEW")):
                file.write_text(SECRETS[name])
                await sqlite_store.append(hooks=["hook"])
                working.notify()
                await until(settled(sqlite_store, delivered=number + 1))
                got = target.got[number]
                verify([parse_secret(SECRETS[name])], got.headers, got.body, START)

    asyncio.run(main())


def test_two_webhooks_of_one_name_are_refused() -> None:
    hook = webhook("https://hooks.example/")
    with pytest.raises(ValueError, match="same name"):
        EventsConfig(webhooks=(hook, hook))
    only = webhook("https://hooks.example/", "only", kinds=["erased"])
    config = EventsConfig(webhooks=(hook, only))
    assert (config.subscribed("flagged"), config.subscribed("erased")) == (("hook",), ("hook", "only"))


@given(st.integers(1, 1000), st.floats(0, 1e9), st.integers(0, 1000))
def test_waits_grow_and_end(attempts: int, asked: float, seed: int) -> None:
    config = WebhookConfig.model_validate({"name": "x", "url": "", "secrets": [{"env": "X"}]})
    wait = retry_wait(config, attempts, asked, Random(seed))
    grown = min(21_600, 5 * 3 ** (attempts - 1))
    assert 0.75 * grown <= wait <= 21_600
    assert wait >= min(asked, 21_600)
    assert asked > wait or wait <= max(asked, grown)


def test_the_defaults_try_for_about_a_day() -> None:
    config = WebhookConfig.model_validate({"name": "x", "url": "", "secrets": [{"env": "X"}]})
    waits = [retry_wait(config, tried, 0.0, Random(1)) for tried in range(1, config.attempts)]
    assert 3.75 <= waits[0] <= 5
    assert 12 <= sum(waits) / 3600 <= 24
