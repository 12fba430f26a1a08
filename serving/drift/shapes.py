"""What is told of drift, on a page, as JSON and as gauges: shares and counts, no text and no id."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pipeline.config import Config
from pipeline.reference import Kind

Level = Literal["too_few", "steady", "some", "much"]
Against = Literal["training", "before"]
Says = Literal["too_few", "nothing", "look", "retrain"]


class Moved(Config):
    """How far a feature moved against one side.

    `excess` is what of the PSI chance does not explain on average; above `ceiling` chance alone hardly goes.
    """

    level: Level
    psi: float
    excess: float
    ceiling: float

    @property
    def moved(self) -> bool:
        """Whether it counts."""
        return self.level in ("some", "much")


class Feature(Config):
    """A feature in its bins: what it was in training, is now, and was before; shares from 0 to 1.

    The vocabulary's bins are single words, and so are not told.
    """

    name: str
    kind: Kind
    messages: int
    bins: tuple[str, ...]
    training: tuple[float, ...]
    live: tuple[float, ...]
    before: tuple[float, ...]
    against_training: Moved
    against_before: Moved


class Told(Config):
    """How well a classifier tells this window's messages from others: AUC, 0.5 being not at all.

    `p` is how often it would with the sides shuffled; `apart` whether that counts.
    """

    against: Against
    messages: int
    auc: float
    p: float
    apart: bool


class Window(Config):
    """Which messages were looked at; times are None where nothing tells them."""

    begins: datetime | None = None
    ends: datetime | None = None
    messages: int
    conversations: int


class Verdict(Config):
    """What to do, and why, each reason a line."""

    says: Says
    reasons: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What to do, in two or three words."""
        return {
            "too_few": "too few messages to tell",
            "nothing": "nothing to do",
            "look": "have a look",
            "retrain": "retrain",
        }[self.says]


class Drift(Config):
    """Everything that was compared, and the verdict in words. `models` counts answers by bundle."""

    checked_at: datetime
    version: str | None
    bundle: str
    window: Window
    before: Window
    reference: Window
    features: tuple[Feature, ...]
    classifiers: tuple[Told, ...]
    languages: dict[str, float]
    not_judged: dict[str, float]
    models: dict[str, int]
    verdict: Verdict
