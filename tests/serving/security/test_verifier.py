"""Verifying keys: one slow check for each key, none for a flood, and a revocation that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from serving.security import keys, verifier
from serving.security.keys import Credential, Scope
from serving.security.rates import RateConfig
from serving.security.verifier import (
    TooManyAttempts,
    Unauthenticated,
    Verifier,
    VerifierConfig,
    bearer,
    lookup_in,
)
from serving.store.schema import metadata

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
UNKNOWN = f"simmer_{'a' * 12}_{'b' * 43}"
ADDRESS = "203.0.113.9"
T = TypeVar("T")


def wrong(number: int) -> str:
    return f"simmer_{'a' * 12}_{number:043d}"


@dataclass
class World:
    """A store of keys, a clock, and what argon2 was asked."""

    monkeypatch: pytest.MonkeyPatch
    config: VerifierConfig = field(default_factory=VerifierConfig)
    now: datetime = NOW
    clock: float = 1000.0
    hashed: int = 0
    looked_up: int = 0

    def __post_init__(self) -> None:
        self.engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(self.engine)
        real = verifier._matches

        def counted(hashed: str, secret: str) -> bool:
            self.hashed += 1
            return real(hashed, secret)

        self.monkeypatch.setattr(verifier, "_matches", counted)
        self.verifier = Verifier(self.look_up, self.config, lambda: self.now, lambda: self.clock)

    def look_up(self, key_id: str) -> Credential | None:
        self.looked_up += 1
        return lookup_in(self.engine)(key_id)

    def create(self, *scopes: Scope, expires_at: datetime | None = None) -> tuple[str, str]:
        with self.engine.begin() as connection:
            text, key = keys.create(connection, "router", scopes or [Scope.READ], expires_at, self.now)
        return text, key.id

    def verdict(self, token: str, caller: str = ADDRESS) -> Coroutine[Any, Any, str]:
        """What the verifier says, in a word."""

        async def ask() -> str:
            try:
                return (await self.verifier.verify(token, caller)).name
            except (Unauthenticated, TooManyAttempts) as error:
                return type(error).__name__

        return ask()

    def later(self, seconds: float) -> None:
        self.clock += seconds
        self.now += timedelta(seconds=seconds)

    def close(self) -> None:
        self.engine.dispose()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    world = World(monkeypatch)
    yield world
    world.close()


def test_a_right_key_tells_who_calls_and_is_hashed_once(world: World) -> None:
    text, key_id = world.create(Scope.SCORE, Scope.READ)

    async def calls() -> None:
        for _ in range(50):
            caller = await world.verifier.verify(text, ADDRESS)
            assert (caller.key_id, caller.name, caller.scopes) == (key_id, "router", {Scope.SCORE, Scope.READ})

    asyncio.run(calls())
    assert (world.hashed, world.looked_up) == (1, 1)


def test_a_known_key_costs_microseconds(world: World) -> None:
    text, _ = world.create()

    async def calls() -> float:
        await world.verifier.verify(text, ADDRESS)
        began = time.perf_counter()
        for _ in range(1000):
            await world.verifier.verify(text, ADDRESS)
        return (time.perf_counter() - began) / 1000

    assert asyncio.run(calls()) < 0.001


def test_many_callers_with_one_key_share_the_check(world: World) -> None:
    text, _ = world.create()

    async def calls() -> list[str]:
        return await asyncio.gather(*(world.verdict(text) for _ in range(200)))

    assert asyncio.run(calls()) == ["router"] * 200
    assert world.hashed == 1


def test_one_who_goes_away_does_not_end_the_check_for_the_others(world: World) -> None:
    text, _ = world.create()

    async def calls() -> str:
        first = asyncio.create_task(world.verdict(text))
        second = asyncio.create_task(world.verdict(text))
        await asyncio.sleep(0.001)
        first.cancel()
        return await second

    assert asyncio.run(calls()) == "router"


def test_revocation_takes_within_the_recheck(world: World) -> None:
    text, key_id = world.create()

    async def calls() -> list[str]:
        said = [await world.verdict(text)]
        with world.engine.begin() as connection:
            keys.revoke(connection, key_id, world.now)
        world.later(29)
        said.append(await world.verdict(text))
        world.later(1)
        said.append(await world.verdict(text))
        return said

    assert asyncio.run(calls()) == ["router", "router", "Unauthenticated"]


def test_a_recheck_runs_no_argon2(world: World) -> None:
    text, _ = world.create()

    async def calls() -> None:
        for _ in range(5):
            assert await world.verdict(text) == "router"
            world.later(31)

    asyncio.run(calls())
    assert (world.hashed, world.looked_up) == (1, 5)


def test_expiry_needs_no_recheck(world: World) -> None:
    text, _ = world.create(expires_at=NOW + timedelta(seconds=5))

    async def calls() -> list[str]:
        said = [await world.verdict(text)]
        world.later(5)
        return [*said, await world.verdict(text)]

    assert asyncio.run(calls()) == ["router", "Unauthenticated"]


def test_rotation_takes_both_secrets_and_then_the_new_one(world: World) -> None:
    old, key_id = world.create()
    with world.engine.begin() as connection:
        new, _ = keys.rotate(connection, key_id, timedelta(minutes=1), world.now)

    async def calls() -> list[str]:
        said = [await world.verdict(old), await world.verdict(new)]
        world.later(60)
        return [*said, await world.verdict(old), await world.verdict(new)]

    assert asyncio.run(calls()) == ["router", "router", "Unauthenticated", "router"]


def test_every_failure_costs_the_same(world: World) -> None:
    live, _ = world.create()
    expired, _ = world.create(expires_at=NOW + timedelta(seconds=1))
    world.later(1)
    costs = []
    for token in (UNKNOWN, f"{live[:-8]}AAAAAAAA", expired):
        before = world.hashed
        assert asyncio.run(world.verdict(token)) == "Unauthenticated"
        costs.append(world.hashed - before)
    assert costs == [2, 2, 2]


def test_what_is_no_key_costs_nothing(world: World) -> None:
    for token in ("", "simmer_x_y", "x" * 100_000, UNKNOWN + "\n", "ключ"):
        assert asyncio.run(world.verdict(token)) == "Unauthenticated"
    assert (world.hashed, world.looked_up) == (0, 0)


def test_a_wrong_key_is_remembered_for_a_while(world: World) -> None:
    async def calls() -> None:
        for _ in range(20):
            assert await world.verdict(UNKNOWN) == "Unauthenticated"
        world.later(31)
        assert await world.verdict(UNKNOWN) == "Unauthenticated"

    asyncio.run(calls())
    assert world.looked_up == 2


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A world that takes three attempts a caller, two keys known, and four checks at a time."""
    attempts = RateConfig(per_second=0.1, burst=3, callers=10)
    world = World(monkeypatch, VerifierConfig(keys=2, waiting=4, attempts=attempts))
    yield world
    world.close()


def test_a_flood_from_one_caller_is_told_to_wait_and_harms_nobody_else(strict: World) -> None:
    text, _ = strict.create()

    async def calls() -> list[str]:
        said = [await strict.verdict(wrong(number), "flood") for number in range(5)]
        with pytest.raises(TooManyAttempts) as refused:
            await strict.verifier.verify(wrong(9), "flood")
        assert 0 < refused.value.wait <= 10
        return [*said, await strict.verdict(text)]

    assert asyncio.run(calls()) == ["Unauthenticated"] * 3 + ["TooManyAttempts"] * 2 + ["router"]
    assert strict.hashed == 3 * 2 + 1


def test_a_flood_does_not_push_out_a_known_key(strict: World) -> None:
    text, _ = strict.create()

    async def calls() -> None:
        assert await strict.verdict(text, "flood") == "router"
        for number in range(10):
            await strict.verdict(wrong(number), "flood")
        strict.later(31)
        assert await strict.verdict(text, "flood") == "router"

    asyncio.run(calls())
    assert strict.hashed == 1 + 3 * 2


def test_a_flood_from_everywhere_waits_in_a_bounded_line(strict: World) -> None:
    async def calls() -> list[str]:
        return await asyncio.gather(*(strict.verdict(wrong(number), f"caller {number}") for number in range(50)))

    said = asyncio.run(calls())
    assert said.count("Unauthenticated") == 4
    assert said.count("TooManyAttempts") == 46
    assert asyncio.run(strict.verdict(UNKNOWN)) == "Unauthenticated"  # and the line is free again


def test_a_slow_flood_from_everywhere_burns_little(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, VerifierConfig(all_attempts=RateConfig(per_second=0.1, burst=3, callers=1)))
    text, _ = world.create()

    async def calls() -> list[str]:
        said = [await world.verdict(wrong(number), f"caller {number}") for number in range(5)]
        world.later(10)
        return [*said, await world.verdict(text)]

    assert asyncio.run(calls()) == ["Unauthenticated"] * 3 + ["TooManyAttempts"] * 2 + ["router"]
    world.close()


def test_right_keys_use_up_no_attempts(strict: World) -> None:
    texts = [strict.create()[0] for _ in range(6)]

    async def calls() -> list[str]:
        return [await strict.verdict(text) for text in texts]

    assert asyncio.run(calls()) == ["router"] * 6


def test_a_store_that_fails_is_no_verdict(world: World) -> None:
    text, _ = world.create()
    real = world.verifier._lookup

    def down(_: str) -> Credential | None:
        raise ConnectionError

    async def calls() -> str:
        world.verifier._lookup = down
        with pytest.raises(ConnectionError):
            await world.verifier.verify(text, ADDRESS)
        world.verifier._lookup = real
        return await world.verdict(text)

    assert asyncio.run(calls()) == "router"


def test_a_hash_that_is_none_matches_nothing(world: World) -> None:
    text, key_id = world.create()
    found = world.look_up(key_id)
    assert found is not None
    world.verifier._lookup = lambda _: replace(found, hash="nonsense")
    assert asyncio.run(world.verdict(text)) == "Unauthenticated"


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearerabc", None),
    ],
)
def test_the_token_of_a_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token
