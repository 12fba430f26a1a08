"""What a team lead wants to see over time, from the store's own conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

By = Literal["day", "week"]


@dataclass(frozen=True)
class Figures:
    """Of conversations that began in a time."""

    conversations: int
    hot: int  # were hot at some time
    answered: int  # by a person
    answer_minutes: float | None  # mean to the first human answer
    saved: int  # were hot, and are resolved without being so
    lost: int  # were hot, and still were when they were resolved
    foreseen: int  # began calm, and the forecast came before they boiled over
    missed: int  # began calm, and boiled over unforeseen
    false_alarms: int  # foreseen, and resolved without having been hot


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
    channels: Sequence[Part]
    languages: Sequence[Part]


class Trends:
    """Reads conversations' figures."""

    async def read(self, days: int = 84, by: By = "week", channel: str | None = None) -> Trend:
        """The figures of the last days. Raises StoreUnavailable."""
        raise NotImplementedError
