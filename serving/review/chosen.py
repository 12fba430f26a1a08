"""Which conversations a list shows: the filters, read from a query string and written as one. Knows no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args
from urllib.parse import urlencode

from pipeline.conversation import Channel, writable
from serving.store.records import Status

Of = Literal["flagged", "sampled", "any"]
Review = Literal["open", "mine", "reviewed", "asked", "agreed", "disputed", "settled"]

LONGEST = 200  # characters of one filter
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "of": get_args(Of),
    "review": get_args(Review),
    "channel": get_args(Channel),
    "status": get_args(Status),
}


class FilterInvalid(ValueError):
    """A filter that there is not; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True)
class Chosen:
    """Which conversations; None takes all.

    of: flagged (the customer was hot at some time), sampled (drawn so that quality can be estimated), any (with one of
    the reviews but open).
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

    def __post_init__(self) -> None:
        if self.of == "any" and self.review in (None, "open"):
            raise FilterInvalid("of", "any goes with a review that somebody has begun")

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Chosen:
        """From a query's parameters, empty ones left out; those it does not know are not looked at.

        Raises FilterInvalid.
        """
        given = {field.name: query.get(field.name, "").strip() for field in fields(cls)}
        for name, value in given.items():
            _check(name, value)
        return cls(**{name: value for name, value in given.items() if value})  # type: ignore[arg-type]

    def query(self) -> str:
        """As a query string, defaults left out, without a question mark."""
        plain = Chosen().__dict__ if self.of != "any" else {}
        return urlencode({n: v for n, v in asdict(self).items() if v is not None and v != plain.get(n)})


def _check(name: str, value: str) -> None:
    if len(value) > LONGEST:
        raise FilterInvalid(name, f"must have at most {LONGEST} characters")
    if value != writable(value) or not value.isprintable():
        raise FilterInvalid(name, "has characters that cannot be looked for")
    allowed = _ALLOWED.get(name)
    if allowed and value and value not in allowed:
        raise FilterInvalid(name, f"is one of {', '.join(allowed)}")
