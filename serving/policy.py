"""Scores to priority: a policy is the file `configs/routing.yaml`, and this is how it is read.

    score = 100 · (1 − Π (1 − weight · strength))

Each factor's strength lies in [0, 1] and only ever raises the score, so more frustration, more urgency or another
signal never lowers a priority, and never leads to a cooler queue. What the same file says of waiting, the hold-out
and agents is read here and acted on in `serving.routing`. Knows nothing of models or of HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from pipeline.config import CONFIGS, Config, ConfigError, load_config, parse_config
from pipeline.heads import Floats
from pipeline.vocabulary import Vocabulary
from serving.routing.rules import Aging, Assignment, HoldOut


class Factor(Config):
    """Something that raises priority: a level of an ordinal head or worse, or one value of another head."""

    head: str
    at_least: str | None = None
    value: str | None = None
    weight: float = Field(ge=0, lt=1)
    fires_at: float = Field(gt=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> Factor:
        if (self.at_least is None) == (self.value is None):
            raise ValueError("give either at_least or value")
        return self


class Waiting(Config):
    """What waiting adds: strength grows linearly up to `full_after_minutes`."""

    reason: str
    weight: float = Field(ge=0, lt=1)
    full_after_minutes: float = Field(gt=0)
    fires_at: float = Field(gt=0)


class Queue(Config):
    """A queue takes a conversation when one of its reasons fired or its score is reached."""

    name: str
    reasons: tuple[str, ...]
    score: int = Field(ge=0, le=100)


class Abstained(Config):
    """Where a conversation goes that the model would not judge."""

    score: int = Field(ge=0, le=100)
    queue: str


class RoutingConfig(Config):
    """A whole policy. Queues stand hottest first; the last takes whatever is left."""

    factors: dict[str, Factor]
    waiting: Waiting
    queues: tuple[Queue, ...] = Field(min_length=1)
    abstained: Abstained
    aging: Aging = Aging()
    holdout: HoldOut = HoldOut()
    assignment: Assignment = Assignment()

    @model_validator(mode="after")
    def _names_exist(self) -> RoutingConfig:
        names, reasons = [queue.name for queue in self.queues], {*self.factors, self.waiting.reason}
        if len(set(names)) < len(names):
            raise ValueError(f"two queues are called {max(names, key=names.count)}")
        for where, meant in self._queues_meant():
            if meant not in names:
                raise ValueError(f"{where}: no queue is called {meant}")
        for where, waits in self._reasons_meant():
            if unknown := set(waits) - reasons:
                raise ValueError(f"{where} waits for unknown reasons: {', '.join(sorted(unknown))}")
        if self.queues[-1].score > 0:
            raise ValueError("the last queue must take every score")
        return self

    def _queues_meant(self) -> Iterator[tuple[str, str]]:
        yield "abstained.queue", self.abstained.queue
        if self.holdout.queue is not None:
            yield "holdout.queue", self.holdout.queue
        yield from (("assignment.qualified", name) for name in self.assignment.qualified)
        yield from (("assignment.hard.queues", name) for name in self.assignment.hard.queues)

    def _reasons_meant(self) -> Iterator[tuple[str, Collection[str]]]:
        yield from ((f"queue {queue.name}", queue.reasons) for queue in self.queues)
        yield "holdout.never", self.holdout.never


class PolicyMismatch(ValueError):
    """A policy names a head or value that the model does not have."""


class Contribution(NamedTuple):
    """What one reason adds: its weight, its strength in [0, 1], and whether it fired."""

    reason: str
    weight: float
    strength: float
    fired: bool

    @property
    def raises(self) -> float:
        """How much of the remaining calm it takes away."""
        return self.weight * self.strength


@dataclass(frozen=True)
class Decision:
    """Priority 0-100, the queue, and the reasons that fired, weightiest first."""

    score: int
    queue: str
    reasons: tuple[str, ...]


class Policy:
    """A routing configuration bound to a model's vocabulary. Raises PolicyMismatch where they do not fit.

    `digest` names what the policy says; other comments or another layout of the file leave it as it is.
    """

    def __init__(self, config: RoutingConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.digest = "sha256:" + hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        self._outputs = {name: _outputs_of(name, factor, vocabulary) for name, factor in config.factors.items()}

    def strengths(self, probabilities: Floats) -> dict[str, float]:
        """Every factor's strength for one message's calibrated probabilities [outputs]."""
        values = probabilities.tolist()
        return {name: sum(values[where], 0.0) for name, where in self._outputs.items()}

    def decide(self, probabilities: Floats, waiting_minutes: float = 0.0) -> Decision:
        """The decision for one message's calibrated probabilities [outputs] and the customer's wait."""
        return self.decide_by(self.strengths(probabilities), waiting_minutes)

    def decide_by(self, strengths: Mapping[str, float], waiting_minutes: float = 0.0) -> Decision:
        """The decision for every factor's strength in [0, 1]."""
        contributions = self.contributions(strengths, waiting_minutes)
        calm = 1.0
        for one in contributions:
            calm *= 1.0 - one.raises
        score = round(100 * (1.0 - calm))
        fired = {one.reason: one.raises for one in contributions if one.fired}
        return Decision(score, self._queue(score, fired), tuple(sorted(fired, key=fired.__getitem__, reverse=True)))

    def contributions(self, strengths: Mapping[str, float], waiting_minutes: float = 0.0) -> list[Contribution]:
        """What every factor, and waiting, adds to the score."""
        found = []
        for name, factor in self.config.factors.items():
            strength = min(1.0, strengths[name])
            found.append(Contribution(name, factor.weight, strength, strength >= factor.fires_at))
        waiting = self.config.waiting
        waited = min(1.0, max(0.0, waiting_minutes) / waiting.full_after_minutes)
        return [*found, Contribution(waiting.reason, waiting.weight, waited, waited >= waiting.fires_at)]

    def decide_abstained(self, reason: str) -> Decision:
        """The decision for a message that the model would not judge."""
        return Decision(self.config.abstained.score, self.config.abstained.queue, (f"abstained_{reason}",))

    def _queue(self, score: int, fired: Mapping[str, float]) -> str:
        for queue in self.config.queues:
            if score >= queue.score or any(reason in fired for reason in queue.reasons):
                return queue.name
        raise AssertionError("the last queue takes every score")


def _outputs_of(name: str, factor: Factor, vocabulary: Vocabulary) -> slice:
    if factor.head not in vocabulary.heads:
        raise PolicyMismatch(f"factor {name}: the model has no head {factor.head}")
    head, where = vocabulary.heads[factor.head], vocabulary.slices()[factor.head]
    value = factor.at_least or factor.value
    if value not in head.values:
        raise PolicyMismatch(f"factor {name}: {factor.head} has no value {value}")
    if factor.at_least is not None and head.kind != "ordinal":
        raise PolicyMismatch(f"factor {name}: at_least needs an ordinal head, {factor.head} is {head.kind}")
    if factor.value is not None and head.kind == "ordinal":  # a worse level would lower the priority
        raise PolicyMismatch(f"factor {name}: {factor.head} is ordinal and needs at_least, not value")
    start = where.start + head.values.index(value)
    return slice(start, where.stop if factor.at_least is not None else start + 1)


def load_policy(vocabulary: Vocabulary, folder: Path = CONFIGS) -> Policy:
    """The policy of `routing.yaml`. Raises ConfigError or PolicyMismatch."""
    return Policy(load_config(RoutingConfig, "routing.yaml", folder=folder), vocabulary)


def read_policy(path: Path, vocabulary: Vocabulary) -> Policy:
    """The policy of any file. Raises ConfigError or PolicyMismatch."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return parse_policy(content, str(path), vocabulary)


def parse_policy(content: bytes, name: str, vocabulary: Vocabulary) -> Policy:
    """The policy that a file's content spells, called `name` in messages. Raises ConfigError or PolicyMismatch."""
    config = parse_config(RoutingConfig, content, name)
    try:
        return Policy(config, vocabulary)
    except PolicyMismatch as error:
        raise PolicyMismatch(f"{name}: {error}") from None
