"""Verdicts: given, undone by a newer one, asked for a second time, settled. Append-only.

form = parse_form(await request.form())                        # VerdictInvalid, with `field`
saved = await verdicts.save(conversation, form, reviewer)      # Gone, VerdictInvalid, NotAllowed
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from pipeline.vocabulary import Labels
from serving.live.bodies import Body, Identifier
from serving.review.accounts import Reviewer

LONGEST_NOTE = 2_000
Round = Literal["first", "second", "adjudication"]


class Gone(LookupError):
    """The conversation was erased, or never was: nothing can be kept of a verdict on it."""


class NotAllowed(PermissionError):
    """This reviewer may not do this; the message says why."""


class VerdictInvalid(ValueError):
    """A verdict that says something that cannot be; `field` names where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class TurnVerdict(Body):
    """What a reviewer says of one customer's message: that the model is right, or every label as it should be."""

    message: Identifier
    agrees: bool = False
    labels: Labels | None = None


class VerdictForm(Body):
    """A reviewer's verdict on a conversation and on any of its messages, saved whole or not at all."""

    token: str = Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    turns: tuple[TurnVerdict, ...] = Field(default=(), max_length=2_000)
    hot: bool | None = Field(default=None, description="whether the customer was hot at any time; null: not said")
    routing_right: bool | None = None
    note: str | None = Field(default=None, max_length=LONGEST_NOTE)
    seconds: float | None = Field(default=None, ge=0, le=86_400, description="from opening to saving")
    adjudicates: bool = Field(default=False, description="settles a dispute")


@dataclass(frozen=True)
class Saved:
    """What came of a form."""

    round: Round
    review: str  # the conversation's: reviewed, asked, agreed, disputed, settled
    verdicts: int  # how many were kept
    replayed: bool  # the form had been sent before, and counted then


def parse_form(fields: Iterable[tuple[str, str]]) -> VerdictForm:
    """A form as a page sends it. Raises VerdictInvalid.

    token, seconds, note, adjudicates ("yes"), hot ("yes", "no", ""), routing ("right", "wrong", ""); and for the
    N-th message, N any number: message-N (its id), verdict-N ("agree", "correct", "" for none), and one field a head:
    sentiment-N (a value), frustration-N, urgency-N, satisfaction-N (a level), signals-N (a value, any number of times).
    """
    raise NotImplementedError


class Verdicts:
    """Takes verdicts in."""

    async def save(self, conversation: str, form: VerdictForm, reviewer: Reviewer) -> Saved:
        """Keep a verdict. Raises Gone, VerdictInvalid, NotAllowed, StoreUnavailable."""
        raise NotImplementedError

    async def ask(self, conversation: str, reviewer: Reviewer, of: str | None = None) -> None:
        """Ask for a second, blind verdict, of anybody or of one reviewer. Raises Gone, NotAllowed, VerdictInvalid."""
        raise NotImplementedError
