"""The rules of a policy beyond scores: waiting, the hold-out, and who may take what.

Sections `aging`, `holdout` and `assignment` of `configs/routing.yaml`. A file without them ages by the default, holds
nothing out and demands of agents only a language, a channel and room. Knows nothing of queues' names: the policy does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config import Config
from pipeline.language import primary

Qualification = Literal["senior", "empathy_trained"]
Demand = Literal["tier", "skills", "cooldown"]


class Aging(Config):
    """What waiting is worth: points of priority an hour, without an end, so that nobody starves."""

    points_per_hour: float = Field(default=15.0, gt=0, le=10_000)


class HoldOut(Config):
    """The randomised share of conversations that is routed as if there were no model, to measure what routing does.

    `never` names the reasons that end a hold-out: a safety rule fired. `queue` of None is the last queue.
    """

    share: float = Field(default=0.0, ge=0, le=1)
    salt: str = ""
    queue: str | None = None
    never: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _salted(self) -> HoldOut:
        if self.share > 0 and not self.salt:
            raise ValueError("a share needs a salt, or two hold-outs would draw the same conversations")
        return self


class Hard(Config):
    """Which conversations are hard on whoever takes them: those of these queues, or from this score on."""

    queues: tuple[str, ...] = ()
    score: int = Field(default=101, ge=0, le=101, description="101: no score alone is hard")

    def holds(self, queue: str, score: int) -> bool:
        """Whether a conversation of this queue and score is hard."""
        return queue in self.queues or score >= self.score


class CoolDown(Config):
    """How long an agent is spared after a hard conversation: from hard ones, or from all."""

    minutes: float = Field(default=0.0, ge=0, le=1_440)
    spares: Literal["hard", "all"] = "hard"


class Relaxation(Config):
    """Demands that are dropped once the customer has waited this long and nobody fits; only of hard ones if so."""

    after_minutes: float = Field(ge=0, le=100_000)
    drop: tuple[Demand, ...] = Field(min_length=1)
    only_hard: bool = False


class Assignment(Config):
    """Who may take what. `qualified` names for each queue what makes an agent fit for it; other queues take anybody."""

    qualified: dict[str, tuple[Qualification, ...]] = Field(default_factory=dict)
    language: str | None = None
    skills_from: tuple[str, ...] = ()
    hard: Hard = Hard()
    cooldown: CoolDown = CoolDown()
    sticky: bool = True
    relax: tuple[Relaxation, ...] = ()

    @field_validator("language")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        return None if value is None else primary(value)

    @model_validator(mode="after")
    def _sensible(self) -> Assignment:
        for queue, kinds in self.qualified.items():
            if not kinds:
                raise ValueError(f"qualified.{queue}: names nothing that qualifies, so nobody could take it")
        if any(later.after_minutes < earlier.after_minutes for earlier, later in pairwise(self.relax)):
            raise ValueError("relax: steps must stand in the order of their minutes")
        return self
