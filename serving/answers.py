"""The shape of every answer, on the command line and over HTTP alike."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.abstention import Reason


class Shape(BaseModel):
    """Base of every answer part."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sentiment(Shape):
    """The likeliest value, its expected position in [-1, 1], and the whole distribution."""

    label: str
    score: float
    probabilities: dict[str, float]


class Level(Shape):
    """An ordinal head: the level it is read as, the expected level, and the probability of each level."""

    level: int
    expected: float
    probabilities: list[float]


class Satisfaction(Shape):
    """Predicted CSAT, 1 to 5."""

    expected: float
    probabilities: list[float]


class Priority(Shape):
    """Where the conversation belongs: priority 0-100, the queue, and the rules that fired, weightiest first."""

    score: int
    queue: str
    reasons: list[str]


class Abstention(Shape):
    """Why the model would not judge."""

    reason: Reason | Literal["not_customer"]
    detail: str


class ModelName(Shape):
    """Which model spoke: its version in the registry, None where it has none, and its bundle's digest."""

    version: str | None
    bundle: str


class Answer(Shape):
    """What is said of one customer turn. The heads are null where `abstained` says why."""

    id: str
    turn: int = Field(description="index into the conversation's turns")
    sentiment: Sentiment | None = None
    frustration: Level | None = None
    urgency: Level | None = None
    signals: dict[str, float] | None = None
    satisfaction: Satisfaction | None = None
    boil_over: float | None = None
    priority: Priority
    abstained: Abstention | None = None
    model: ModelName
    auxiliary: dict[str, list[float]] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="heads of corpora with conventions of their own",
    )
