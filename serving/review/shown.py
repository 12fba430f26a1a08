"""What a reviewer is shown of a conversation: plain values, from which a page and its JSON twin are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.vocabulary import Labels


@dataclass(frozen=True)
class Removed:
    """A piece of a message that was not scored: quoted, signature, disclaimer, auto_reply."""

    kind: str
    text: str


@dataclass(frozen=True)
class Heat:
    """What the model said of a customer's turn, for the timeline."""

    frustration: float  # expected, 0-3
    urgency: float  # expected, 0-3
    boil_over: float  # 0-1
    low: float | None  # of how often such a forecast came true, 95 %; None where that was not measured
    high: float | None
    hot: float  # the chance that this turn is hot, 0-1


@dataclass(frozen=True)
class TurnVerdictView:
    """A verdict on a turn."""

    reviewer: str
    round: str
    at: datetime
    labels: Labels
    agrees: bool


@dataclass(frozen=True)
class TurnView:
    """A message. Only the customer's have labels, heat and verdicts."""

    message: str
    role: str
    at: datetime
    text: str  # redacted
    removed: Sequence[Removed]
    labels: Labels | None  # what the model says, None where it abstained
    said: Mapping[str, Any] | None  # its whole answer
    abstained: str | None  # why
    heat: Heat | None
    revised: bool  # a late message changed what is said of it
    mine: Labels | None  # what this reviewer said last
    verdicts: Sequence[TurnVerdictView]  # those this reviewer may see
    disputed: Sequence[str]  # heads on which two reviewers differ; empty for who may not see that


@dataclass(frozen=True)
class VerdictView:
    """A verdict on the conversation as a whole."""

    reviewer: str
    round: str
    at: datetime
    hot: bool | None
    routing_right: bool | None
    note: str | None


@dataclass(frozen=True)
class RuleView:
    """A rule of the policy that fired, now or earlier, and what it adds to the latest judged message."""

    reason: str
    weight: float | None  # None where the policy no longer has it
    strength: float | None
    now: bool


@dataclass(frozen=True)
class Step:
    """Something that a person or the policy did with the conversation."""

    at: datetime
    actor: str
    action: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Hint:
    """One value of a head, its wording, and the rule by which it is given."""

    value: str
    rule: str


@dataclass(frozen=True)
class HeadHints:
    """What a reviewer needs to label by a head. `levels` are the numbers of an ordinal head's values."""

    head: str
    kind: str
    wording: str
    values: Sequence[Hint]
    levels: Sequence[int] | None


@dataclass(frozen=True)
class ConversationView:
    """Everything that the page of a conversation shows."""

    id: str
    version: int
    channel: str
    language: str | None
    status: str
    agent: str | None
    queue: str
    score: int
    peak: int
    hot: bool  # now
    flagged: bool  # at any time
    held_out: bool
    waiting_since: datetime | None
    outcome: str | None
    model: str | None
    meta: Mapping[str, Any]  # as the routing service sent it, redacted
    turns: Sequence[TurnView]
    turned: str | None  # the message at which the customer was first hot, as the model has it
    rules: Sequence[RuleView]
    history: Sequence[Step]
    verdicts: Sequence[VerdictView]  # on the whole, those this reviewer may see
    mine: VerdictView | None
    hidden: int  # reviewers whose verdicts are not shown before this one's
    review: str  # open, reviewed, asked, agreed, disputed, settled
    round: str  # which verdict this reviewer would give: first, second
    asked_of: str | None  # whose second verdict is wanted, where it is somebody's in particular
    adjudicates: bool  # whether this reviewer may settle the dispute
    may_ask: bool  # whether this reviewer may ask for a second verdict
    sample: str | None
    intervals: bool  # whether forecasts have intervals: whether the model's card says how often they came true
    hints: Sequence[HeadHints]
    token: str  # of the verdict's form: sent twice it counts once
    opened_at: datetime
