"""When a difference counts as drift: the section `drift` of `configs/serve.yaml`."""

from __future__ import annotations

from pydantic import Field

from pipeline.config import Config


class DriftConfig(Config):
    """What is compared, and from where on it matters.

    `some` and `much` are PSI above what chance gives on average; `chance` is how often chance alone may go so far as is
    asked for, in any of all the comparisons together.
    """

    every_minutes: float | None = Field(default=60.0, gt=0, description="that a running service measures; null never")
    window_days: float = Field(default=7.0, gt=0, description="the days before them are what they are compared with")
    messages: int = Field(default=2_000, gt=0, description="of each window, at most")
    least_messages: int = Field(default=200, ge=2, description="with fewer nothing is claimed")
    least_conversations: int = Field(default=50, ge=2)
    some: float = Field(default=0.1, gt=0)
    much: float = Field(default=0.25, gt=0)
    chance: float = Field(default=0.05, gt=0, lt=0.5)
    auc_before: float = Field(default=0.6, gt=0.5, lt=1, description="of telling this window from the one before")
    auc_training: float = Field(default=0.85, gt=0.5, lt=1, description="of telling it from the training data")
    foreign: float = Field(default=0.1, gt=0, lt=1, description="share of messages not judged for their language")
    permutations: int = Field(default=199, ge=19)
