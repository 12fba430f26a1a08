"""Why a message scored as it did: which words moved each head, by leaving them out, and which rules fired.

    delta of a unit = what the head says of the whole  -  what it says without the unit

Units are the words of the cleaned, redacted message, merged into chunks where there are many, and the earlier turns
that the model read. Each costs one run of the engine, which waits behind whatever is live. What two words only do
together is not seen: each is left out alone. Knows nothing of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pydantic import Field

from pipeline.encode import Input
from pipeline.heads import Floats
from serving.answers import Abstention, Shape
from serving.batcher import Rank
from serving.scorer import Job, LiveScorer, waiting_minutes

MOST_UNITS = 64
_WORD = re.compile(r"\S+")


class Unit(Shape):
    """A piece of what the model read: words of the message from `start` to `end` of `text`, or an earlier turn."""

    text: str
    start: int = Field(description="offset into the cleaned message, or into the earlier turn's text")
    end: int
    turn: int | None = Field(description="index of the earlier turn; null for words of the message itself")


class Rule(Shape):
    """What one rule of the policy adds: weight times strength of the calm that is left."""

    reason: str
    weight: float
    strength: float
    fired: bool


class Explanation(Shape):
    """What moved each score. A positive delta raised it: without the unit the head would say that much less."""

    text: str = Field(description="the message as it was scored: cut and redacted")
    units: list[Unit]
    heads: dict[str, list[float]] = Field(description="a delta for each unit, in the units of the head")
    rules: list[Rule]
    abstained: Abstention | None = None


async def explain(
    scorer: LiveScorer, job: Job, deadline: float | None = None, most: int = MOST_UNITS, rank: Rank = Rank.SPARE
) -> Explanation:
    """The explanation of one job, by at most `most` + 1 runs. Raises what `Batcher.predict` raises."""
    given = (await scorer.read([job]))[0]
    if isinstance(given, Abstention):
        return Explanation(text="", units=[], heads={}, rules=[], abstained=given)
    units = _units(given, job, most)
    without = [_without(given, unit, job) for unit in units]
    chances = await scorer.batcher.predict([given, *without], deadline, rank)
    told = scorer.scorer.expectations(chances)
    return Explanation(
        text=given.message.text,
        units=units,
        heads={name: _rounded(values[0] - values[1:]) for name, values in told.items()},
        rules=_rules(scorer, job, chances[0]),
    )


def _units(given: Input, job: Job, most: int) -> list[Unit]:
    """The earlier turns, and the message's words in at most as many chunks as are left, in reading order."""
    turns = [
        Unit(text=turn.text, start=0, end=len(turn.text), turn=_turn(job, number))
        for number, turn in enumerate(given.earlier)
        if turn.text
    ][: max(0, most - 1)]
    return [*turns[::-1], *_words(given.message.text, most - len(turns))]


def _words(text: str, most: int) -> Iterator[Unit]:
    spans = [match.span() for match in _WORD.finditer(text)]
    together = -(-len(spans) // most)
    for first in range(0, len(spans), together or 1):
        start, end = spans[first][0], spans[min(first + together, len(spans)) - 1][1]
        yield Unit(text=text[start:end], start=start, end=end, turn=None)


def _without(given: Input, unit: Unit, job: Job) -> Input:
    if unit.turn is not None:
        return replace(given, earlier=tuple(t for n, t in enumerate(given.earlier) if _turn(job, n) != unit.turn))
    text = given.message.text
    left = f"{text[: unit.start].rstrip()} {text[unit.end :].lstrip()}".strip()
    return replace(given, message=replace(given.message, text=left))


def _turn(job: Job, number: int) -> int:
    """The index in the conversation of an earlier turn; they stand newest first."""
    return (job.turn or 0) - 1 - number


def _rules(scorer: LiveScorer, job: Job, chances: Floats) -> list[Rule]:
    """What adds to the priority, the most first."""
    policy = scorer.scorer.policy
    found = policy.contributions(policy.strengths(chances), waiting_minutes(job.conversation))
    return [
        Rule(reason=one.reason, weight=one.weight, strength=round(one.strength, 4), fired=one.fired)
        for one in sorted(found, key=lambda one: one.raises, reverse=True)
        if one.raises > 0
    ]


def _rounded(deltas: Floats) -> list[float]:
    return [float(delta) + 0.0 for delta in np.round(deltas, 4)]  # no -0.0
