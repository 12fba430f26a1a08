"""Which conversations are looked at besides those that somebody picks, so that quality can be estimated from them.

Of each day, once it is settled, three draws: a share of what was flagged, a random share of what was not, and a share
of what was nearly flagged, the hotter the likelier. Each conversation is drawn or not by a number of its own, made
from its id and the salt, so every replica draws the same and doing it twice changes nothing; the chance that it had is
kept with it, and estimates weigh by it (Horvitz and Thompson 1952). A day is drawn from once: what becomes hot after
that keeps the chance it had. Knows nothing of verdicts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from serving.live.judging import HOT_AT
from serving.review.config import SamplingConfig
from serving.store.reader import Reader
from serving.store.schema import conversations, draws, samples
from serving.store.writer import Writer

logger = logging.getLogger("simmer.review")

FLAGGED, RANDOM, UNCERTAIN = "flagged", "random", "uncertain"
CATCHES_UP = 28  # days, for a service that was away
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Drawn:
    """A conversation that is to be looked at, why, and with which chance that came about."""

    conversation: str
    kind: str
    chance: float
    place: float  # a random one in the day's list


def draw(identifier: str, flagged: bool, heat: float, config: SamplingConfig) -> Drawn | None:
    """Whether a conversation is looked at. `heat` is the highest chance of its messages to be hot."""
    place = _number(identifier, "place", config)
    if flagged:
        drawn = _number(identifier, FLAGGED, config) < config.flagged
        return Drawn(identifier, FLAGGED, config.flagged, place) if drawn else None
    unsure = config.uncertain * min(1.0, heat / HOT_AT)
    chance = 1 - (1 - config.random) * (1 - unsure)
    if _number(identifier, RANDOM, config) < config.random:
        return Drawn(identifier, RANDOM, chance, place)
    if _number(identifier, UNCERTAIN, config) < unsure:
        return Drawn(identifier, UNCERTAIN, chance, place)
    return None


class Sampler:
    """Draws from every day once. Every replica may."""

    def __init__(self, reader: Reader, writer: Writer, config: SamplingConfig, now: Callable[[], datetime]) -> None:
        self._reader, self._writer, self._config, self._now = reader, writer, config, now

    async def run(self) -> None:
        """Draw until cancelled."""
        while True:
            try:
                await self.catch_up()
            except Exception:
                logger.exception("drawing what is to be reviewed failed; it is tried again")
            await asyncio.sleep(self._config.every_s)

    async def catch_up(self) -> int:
        """Draw from every settled day that nobody has drawn from; how many conversations. Raises StoreUnavailable."""
        last = (self._now() - timedelta(hours=self._config.settle_hours)).astimezone(UTC).date() - _DAY
        days = [last - number * _DAY for number in reversed(range(CATCHES_UP))]
        done, first = await self._reader.run(_done)
        drawn = 0
        for day in days:
            if first is not None and first.date() <= day and day.isoformat() not in done:
                drawn += await self._draw(day)
        return drawn

    async def _draw(self, day: date) -> int:
        """Decide outside of the writer, for a day may be long; what was decided is written at once."""
        rows = await self._reader.run(lambda connection: list(_began(connection, day)))
        found = [one for row in rows if (one := draw(row.id, row.flagged, row.heat, self._config))]
        flagged = sum(row.flagged for row in rows)
        counts = {"flagged": flagged, "calm": len(rows) - flagged}
        return await self._writer.run(lambda connection: _write(connection, day, counts, found, self._now()))


def _done(connection: Connection) -> tuple[set[str], datetime | None]:
    """The days that were drawn from, and when the first conversation began."""
    first: datetime | None = connection.scalar(select(func.min(conversations.c.created_at)))
    return set(connection.scalars(select(draws.c.day))), first


def _began(connection: Connection, day: date) -> Iterator[Row[Any]]:
    begin = datetime.combine(day, time(), UTC)
    c = conversations.c
    query = select(c.id, c.first_hot_at.is_not(None).label("flagged"), c.heat)
    yield from connection.execute(query.where(c.created_at >= begin, c.created_at < begin + _DAY))


def _write(connection: Connection, day: date, counts: dict[str, int], found: list[Drawn], now: datetime) -> int:
    name = day.isoformat()
    if connection.scalar(select(func.count()).select_from(draws).where(draws.c.day == name)):
        return 0  # another replica was here first
    connection.execute(insert(draws).values(day=name, at=now, **counts))
    if found:
        connection.execute(insert(samples), [{**vars(one), "day": name} for one in found])
    return len(found)


def _number(identifier: str, what: str, config: SamplingConfig) -> float:
    """A number in [0, 1) that is this conversation's, for this purpose."""
    said = f"{config.salt}\0{what}\0{identifier}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest()) / 2**64
