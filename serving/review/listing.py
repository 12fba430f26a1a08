"""The list: flagged conversations, hottest first, or those drawn to be looked at; filters, search, saved views.

chosen = Chosen.parse(request.query_params)           # FilterInvalid; chosen.query() is the same as text
page = await listing.page(chosen, reviewer, after)    # page.next goes into the next page's `after`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from serving.review.accounts import Reviewer

Of = Literal["flagged", "sampled"]
Review = Literal["open", "mine", "reviewed", "asked", "agreed", "disputed", "settled"]


class FilterInvalid(ValueError):
    """A filter that there is not; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True)
class Chosen:
    """Which conversations; None takes all.

    review: open (nobody has reviewed it), mine (I have), reviewed (somebody has), asked (a second verdict is wanted,
    and I may give it), agreed (two verdicts, alike), disputed (two that differ), settled (somebody decided).
    """

    of: Of = "flagged"
    queue: str | None = None
    channel: str | None = None
    language: str | None = None
    status: str | None = None
    signal: str | None = None  # a reason that fired at any time
    model: str | None = None
    review: Review | None = None
    text: str | None = None  # somewhere in what was said

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Chosen:
        """From a query's parameters, empty ones left out; those it does not know are not looked at.

        Raises FilterInvalid.
        """
        raise NotImplementedError

    def query(self) -> str:
        """As a query string, defaults left out, without a question mark."""
        raise NotImplementedError


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
    review: Review  # open, reviewed, asked, agreed, disputed or settled
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
    """What filters may be set to, as the store has it."""

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


@dataclass(frozen=True)
class View:
    """A saved filter of one reviewer's."""

    name: str
    query: str


class Listing:
    """Reads the list."""

    async def page(self, chosen: Chosen, reviewer: Reviewer, after: str | None = None, limit: int = 50) -> Page:
        """A page of the list, from behind `after`. Raises FilterInvalid, StoreUnavailable."""
        raise NotImplementedError

    async def choices(self) -> Choices:
        """What filters may be set to. Raises StoreUnavailable."""
        raise NotImplementedError

    async def counts(self, reviewer: Reviewer) -> Counts:
        """What waits. Raises StoreUnavailable."""
        raise NotImplementedError

    async def views(self, reviewer: Reviewer) -> list[View]:
        """A reviewer's saved views, by name. Raises StoreUnavailable."""
        raise NotImplementedError

    async def save_view(self, reviewer: Reviewer, name: str, chosen: Chosen) -> None:
        """Save a view, in the place of one of its name. Raises FilterInvalid, StoreUnavailable."""
        raise NotImplementedError

    async def remove_view(self, reviewer: Reviewer, name: str) -> None:
        """Remove a view, if there is one of this name. Raises StoreUnavailable."""
        raise NotImplementedError
