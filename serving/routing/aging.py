"""Waiting ages priority: the order of a queue whose members wait.

What a person sees is score + points_per_hour · hours waited. Everybody ages alike, so `now` drops out of the order: the
key of a conversation, score - points_per_hour · (hours since 1970 at which its customer began to wait), stands still
until its score or its waiting changes. It can be stored, indexed and paged, hottest first being descending.

Nobody starves: who comes after (100 - score) / points_per_hour hours stands behind, however hot. A policy with other
points_per_hour gives other keys, so stored ones must be made anew.
"""

from __future__ import annotations

from datetime import UTC, datetime

from serving.routing.rules import Aging

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = 3_600.0


def rank(score: float, waiting_since: datetime | None, aging: Aging) -> float | None:
    """The static key of a waiting conversation, greater first; None where nobody waits.

    Raises ValueError for a time without a time zone.
    """
    if waiting_since is None:
        return None
    return score - aging.points_per_hour * _hours(_EPOCH, waiting_since)


def aged_score(score: float, waiting_since: datetime | None, now: datetime, aging: Aging) -> float:
    """What the order amounts to now: the score with what waiting has added. Clocks that went back add nothing.

    Raises ValueError for a time without a time zone.
    """
    if waiting_since is None:
        return score
    return score + aging.points_per_hour * max(0.0, _hours(waiting_since, now))


def _hours(since: datetime, until: datetime) -> float:
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return (until - since).total_seconds() / _SECONDS
