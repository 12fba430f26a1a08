"""The list: flagged conversations, hottest first, or those drawn to be looked at; filters, search, saved views.

    chosen = Chosen.parse(request.query_params)           # FilterInvalid; chosen.query() is the same as text
    page = await listing.page(chosen, reviewer, after)    # page.next goes into the next page's `after`

What was drawn stands in a random order, day by day: reviewed hottest first, it would say nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from pipeline.conversation import Channel
from serving.live.judging import Judge
from serving.review import listed
from serving.review.accounts import Reviewer
from serving.review.chosen import Chosen, FilterInvalid, Of, Review
from serving.review.recent import Recent
from serving.review.views import View, Views
from serving.store.reader import Reader
from serving.store.records import Status
from serving.store.writer import Writer

__all__ = ["Choices", "Chosen", "Counts", "FilterInvalid", "Listing", "Of", "Page", "Review", "Row", "View"]

MOST = 200  # rows of a page


@dataclass(frozen=True)
class Row:
    """A conversation of the list."""

    id: str
    channel: str
    language: str | None
    status: str
    queue: str
    peak: int  # the highest priority so far, 0-100
    heat: float  # the highest chance so far that the customer is hot, 0-1
    reasons: Sequence[str]  # every reason that ever fired
    hot: bool  # now
    first_hot_at: datetime | None
    updated_at: datetime
    model: str | None
    review: str  # open, reviewed, asked, agreed, disputed or settled
    sample: str | None  # flagged, random or uncertain, where it was drawn
    snippet: str  # of the customer's latest message, redacted


@dataclass(frozen=True)
class Page:
    """Some rows; `next` is where the following page begins, None at the end.

    A search looks at a bounded number of conversations a page: `rows` may be fewer than `limit`, even none, while
    `next` goes on.
    """

    rows: Sequence[Row]
    next: str | None


@dataclass(frozen=True)
class Choices:
    """What filters may be set to, as policy and store have it."""

    queues: Sequence[str]
    channels: Sequence[str]
    languages: Sequence[str]
    signals: Sequence[str]
    models: Sequence[str]
    statuses: Sequence[str]
    reviews: Sequence[str]


@dataclass(frozen=True)
class Counts:
    """What waits for this reviewer; each counted up to 1,000."""

    open: int  # flagged, and nobody has reviewed it
    sampled: int  # drawn, and nobody has reviewed it
    asked: int
    disputed: int


class Listing:
    """Reads the list, and keeps each reviewer's views of it."""

    def __init__(self, reader: Reader, writer: Writer, judge: Callable[[], Judge]) -> None:
        self._reader, self._judge = reader, judge
        self._views = Views(reader, writer)
        self._seen: Recent[tuple[list[str], list[str]]] = Recent()

    async def page(self, chosen: Chosen, reviewer: Reviewer, after: str | None = None, limit: int = 50) -> Page:
        """A page of the list, from behind `after`. Raises FilterInvalid, StoreUnavailable."""
        limit, begin = max(1, min(limit, MOST)), listed.cursor_of(after, chosen) if after else None
        found, following = await self._reader.run(
            lambda connection: listed.page(connection, chosen, reviewer.id, limit, begin)
        )
        rows = [Row(**{**row, "review": row["review"] or "open", "snippet": row["snippet"] or ""}) for row in found]
        return Page(rows, listed.cursor(following) if following else None)

    async def choices(self) -> Choices:
        """What filters may be set to. Raises StoreUnavailable."""
        languages, models = await self._seen.get("", lambda: self._reader.run(listed.languages_and_models))
        policy = self._judge().policy.config
        return Choices(
            queues=[queue.name for queue in policy.queues],
            channels=get_args(Channel),
            languages=languages,
            signals=[*policy.factors, policy.waiting.reason],
            models=models,
            statuses=get_args(Status),
            reviews=get_args(Review),
        )

    async def counts(self, reviewer: Reviewer) -> Counts:
        """What waits. Raises StoreUnavailable."""
        return Counts(**await self._reader.run(lambda connection: listed.counts(connection, reviewer.id)))

    async def views(self, reviewer: Reviewer) -> list[View]:
        """A reviewer's saved views, by name. Raises StoreUnavailable."""
        return await self._views.of(reviewer)

    async def save_view(self, reviewer: Reviewer, name: str, chosen: Chosen) -> None:
        """Save a view, in the place of one of its name. Raises FilterInvalid, StoreUnavailable."""
        await self._views.save(reviewer, name, chosen)

    async def remove_view(self, reviewer: Reviewer, name: str) -> None:
        """Remove a view, if there is one of this name. Raises StoreUnavailable."""
        await self._views.remove(reviewer, name)
