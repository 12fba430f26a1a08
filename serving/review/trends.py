"""What a team lead wants to see over time, from the store's own conversations, by when they began.

Whether a customer was hot is the model's word here, not a reviewer's; `estimates` says how good that word is. A
conversation counts as saved where the customer was hot at some time and not when it was resolved. Only one that began
calm can boil over: its first message was not hot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

from sqlalchemy import BigInteger, Connection, Row, and_, case, func, select, type_coerce

from pipeline.language import primary
from serving.review.estimates import monday_of
from serving.review.recent import Recent
from serving.store.reader import Reader
from serving.store.schema import conversations

By = Literal["day", "week"]

MOST_DAYS = 731
_EPOCH = date(1970, 1, 1)
_DAY = 86_400_000_000  # microseconds
_MINUTE = 60_000_000


@dataclass(frozen=True)
class Figures:
    """Of conversations that began in a time."""

    conversations: int = 0
    hot: int = 0  # at some time
    answered: int = 0  # by a person
    answer_minutes: float | None = None  # mean to the first human answer
    saved: int = 0  # were hot, and were not when they were resolved
    lost: int = 0  # were hot, and still were when they were resolved
    foreseen: int = 0  # began calm, and the forecast came before they boiled over
    missed: int = 0  # began calm, and boiled over unforeseen
    false_alarms: int = 0  # foreseen, and resolved without having been hot


@dataclass(frozen=True)
class Point:
    """The figures of a day, or of a week by its Monday (UTC)."""

    start: date
    figures: Figures


@dataclass(frozen=True)
class Part:
    """The figures of a channel or of a language; the language of those that declare none is None."""

    name: str | None
    figures: Figures


@dataclass(frozen=True)
class Trend:
    """What the team page shows."""

    by: By
    total: Figures
    points: Sequence[Point]  # every day or week of the time, those without conversations too
    channels: Sequence[Part]  # the largest first
    languages: Sequence[Part]


@dataclass(frozen=True)
class _Group:
    day: date
    channel: str
    language: str | None
    figures: Figures


class Trends:
    """Reads conversations' figures."""

    def __init__(self, reader: Reader, now: Callable[[], datetime]) -> None:
        self._reader, self._now = reader, now
        self._seen: Recent[list[_Group]] = Recent()

    async def read(self, days: int = 84, by: By = "week", channel: str | None = None) -> Trend:
        """The figures of the last days, as they were within a minute; weeks are whole ones. Raises StoreUnavailable."""
        today = self._now().astimezone(UTC).date()
        first = today - timedelta(days=max(1, min(days, MOST_DAYS)) - 1)
        if by == "week":
            first = monday_of(first)
        groups = await self._seen.get(
            (first, channel), lambda: self._reader.run(lambda connection: _groups(connection, first, channel))
        )
        step = timedelta(weeks=1) if by == "week" else timedelta(days=1)
        starts = [first + number * step for number in range((today - first) // step + 1)]
        return Trend(
            by=by,
            total=_sum(groups),
            points=[Point(s, _sum(g for g in groups if s <= g.day < s + step)) for s in starts],
            channels=_parts(groups, lambda group: group.channel),
            languages=_parts(groups, lambda group: group.language),
        )


def _groups(connection: Connection, first: date, channel: str | None) -> list[_Group]:
    c = conversations.c
    began = type_coerce(c.created_at, BigInteger)
    day = (began - began % _DAY).label("day")
    query = select(day, c.channel, c.language, *_sums()).where(c.created_at >= datetime.combine(first, time(), UTC))
    if channel is not None:
        query = query.where(c.channel == channel)
    return [_group(row) for row in connection.execute(query.group_by(day, c.channel, c.language))]


def _sums() -> list[Any]:
    """The columns of a group, every one named as the figure that it is."""
    c = conversations.c
    was_hot, resolved = c.first_hot_at.is_not(None), c.status == "resolved"
    boiled, foreseen = c.hot_turn > 1, c.foreseen_at.is_not(None)
    waited = type_coerce(c.first_answer_at, BigInteger) - type_coerce(c.created_at, BigInteger)
    counted = {
        "saved": and_(was_hot, resolved, c.hot.is_(False)),
        "lost": and_(was_hot, resolved, c.hot.is_(True)),
        "foreseen": and_(boiled, foreseen),
        "missed": and_(boiled, c.foreseen_at.is_(None)),
        "false_alarms": and_(foreseen, c.first_hot_at.is_(None), resolved),
    }
    return [
        func.count().label("conversations"),
        func.count(c.first_hot_at).label("hot"),
        func.count(c.first_answer_at).label("answered"),
        func.coalesce(func.sum(waited), 0).label("waited"),
        *(func.sum(case((holds, 1), else_=0)).label(name) for name, holds in counted.items()),
    ]


def _group(row: Row[Any]) -> _Group:
    values = dict(row._mapping)
    day = _EPOCH + timedelta(days=int(values.pop("day")) // _DAY)
    channel, language, waited = values.pop("channel"), values.pop("language"), int(values.pop("waited"))
    counts = {name: int(value) for name, value in values.items()}
    minutes = waited / _MINUTE / counts["answered"] if counts["answered"] else None
    return _Group(day, channel, primary(language) if language else None, Figures(**counts, answer_minutes=minutes))


def _sum(groups: Iterable[_Group]) -> Figures:
    figures = [group.figures for group in groups]
    counts = {
        field.name: sum(getattr(one, field.name) for one in figures)
        for field in fields(Figures)
        if field.name != "answer_minutes"
    }
    waited = sum(one.answer_minutes * one.answered for one in figures if one.answer_minutes is not None)
    minutes = round(waited / counts["answered"], 1) if counts["answered"] else None
    return Figures(**counts, answer_minutes=minutes)


def _parts(groups: Sequence[_Group], name_of: Callable[[_Group], str | None]) -> list[Part]:
    names = dict.fromkeys(name_of(group) for group in groups)
    parts = [Part(name, _sum(g for g in groups if name_of(g) == name)) for name in names]
    return sorted(parts, key=lambda part: (-part.figures.conversations, part.name or ""))
