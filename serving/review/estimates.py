"""How good the flags are, how far reviewers agree, how long they take, how that drifts: estimated from verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval, and how many conversations (or turns) it rests on. `value` None: none yet."""

    value: float | None
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class HeadQuality:
    """How often reviewers left a head's label as the model had it, and how far two reviewers agree on it."""

    head: str
    kept: Estimate
    alpha: float | None  # Krippendorff's; None where no message has two verdicts
    twice: int  # messages with two verdicts


@dataclass(frozen=True)
class Week:
    """A week, by its Monday."""

    monday: date
    precision: Estimate
    kept: Estimate  # labels that reviewers left as they were, all heads together
    conversations: int  # reviewed
    seconds: float | None  # median, a conversation


@dataclass(frozen=True)
class Quality:
    """What the quality page shows. Precision and recall come from the drawn conversations alone."""

    precision: Estimate
    recall: Estimate
    drawn: int
    reviewed: int  # of those drawn
    heads: Sequence[HeadQuality]
    hot_alpha: float | None
    seconds: float | None  # median time of a review
    weeks: Sequence[Week]


class Estimates:
    """Reads verdicts."""

    async def quality(self, weeks: int = 12) -> Quality:
        """What the verdicts of the last weeks say. Raises StoreUnavailable."""
        raise NotImplementedError
