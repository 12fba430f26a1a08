"""History to run a policy over: what `simmer score` wrote, or conversations that the store exported.

    {"id", "turn", "sentiment", …, "priority", "model"}                    an answer
    {"conversation": {"id", …}, "turns": [{"at", "answer", …}, …]}         a conversation with its answers

Answers carry probabilities to four digits, so a policy's strengths come out of them as they did when they were given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.conversation import RowError, RowInvalid, decode_json, describe, id_of
from pipeline.heads import Floats
from pipeline.vocabulary import Vocabulary
from serving.answers import Answer, Level, Satisfaction
from serving.policy import Decision, Policy


@dataclass(frozen=True)
class Past:
    """An answer once given, the line it stands in, and when its message came (UTC), where that is known."""

    answer: Answer
    line: int
    at: datetime | None = None


class _Lenient(BaseModel):
    """Base of what an export holds; whatever else it says is not for us."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Turn(_Lenient):
    at: datetime | None = None
    answer: Answer | None = None


class _Export(_Lenient):
    turns: tuple[_Turn, ...]


def read_history(lines: Iterable[bytes]) -> Iterator[Past | RowError]:
    """Each answer of each line, or an error in the line's place; blank lines are passed over.

    What `simmer score` wrote in the place of a row that it could not read is an error here too.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row_id: str | None = None
        try:
            row = decode_json(line)
            row_id = id_of(row)
            yield from _pasts(row, number)
        except RowInvalid as error:
            yield RowError(number, row_id, str(error))


def _pasts(row: object, line: int) -> list[Past]:
    if not isinstance(row, dict):
        raise RowInvalid("a row must be an object")
    try:
        if "conversation" in row:
            turns = _Export.model_validate(row).turns
            return [Past(turn.answer, line, _utc(turn.at)) for turn in turns if turn.answer is not None]
        if "priority" in row:
            return [Past(Answer.model_validate(row), line)]
    except ValidationError as error:
        raise RowInvalid(describe(error)) from None
    if "error" in row:
        raise RowInvalid(f"was no answer then: {row['error']}")
    raise RowInvalid("no answer in it; `simmer score` gives one")


def _utc(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def outputs_of(answer: Answer, vocabulary: Vocabulary) -> Floats:
    """The probabilities [outputs] that an answer was given by, not a number for heads that it does not carry.

    Raises RowInvalid where they are not this vocabulary's, or no probabilities.
    """
    values = np.full(vocabulary.size, math.nan)
    where = vocabulary.slices()
    for name, found in _said(answer, vocabulary).items():
        if name not in where or len(found) != len(vocabulary.heads[name].values):
            raise RowInvalid(f"{name}: not as the labels have it; another model's answer?")
        values[where[name]] = found
    said = values[~np.isnan(values)]
    if ((said < 0) | (said > 1)).any():
        raise RowInvalid("a probability is not between 0 and 1")
    return values


def _said(answer: Answer, vocabulary: Vocabulary) -> dict[str, list[float]]:
    """What the answer says of each head that it speaks of, in the order of the head's values."""
    said: dict[str, list[float]] = dict(answer.auxiliary or {})
    lists: dict[str, Level | Satisfaction | None] = {
        "frustration": answer.frustration,
        "urgency": answer.urgency,
        "satisfaction": answer.satisfaction,
    }
    said |= {name: part.probabilities for name, part in lists.items() if part is not None}
    named: dict[str, dict[str, float] | None] = {
        "sentiment": answer.sentiment.probabilities if answer.sentiment else None,
        "signals": answer.signals,
    }
    said |= {name: _ordered(name, part, vocabulary) for name, part in named.items() if part is not None}
    return said if answer.boil_over is None else said | {"boil_over": [answer.boil_over]}


def _ordered(name: str, part: dict[str, float], vocabulary: Vocabulary) -> list[float]:
    values: Any = vocabulary.heads[name].values if name in vocabulary.heads else ()
    return [part[value] for value in values] if set(values) == set(part) else []


def strengths_of(answer: Answer, policy: Policy, vocabulary: Vocabulary) -> dict[str, float]:
    """The strength of each of the policy's factors in an answer that did not abstain.

    Raises RowInvalid naming a factor whose head the answer does not carry.
    """
    strengths = policy.strengths(outputs_of(answer, vocabulary))
    for name, strength in strengths.items():
        if math.isnan(strength):
            raise RowInvalid(f"{policy.config.factors[name].head}: the answer does not say, but factor {name} asks")
    return strengths


def redecide(answer: Answer, policy: Policy, vocabulary: Vocabulary) -> Decision:
    """What a policy decides on a past answer, at no wait; an abstention stays one. Raises RowInvalid."""
    if answer.abstained is not None:
        return policy.decide_abstained(answer.abstained.reason)
    return policy.decide_by(strengths_of(answer, policy, vocabulary))


def hot_chance(answer: Answer, vocabulary: Vocabulary) -> float:
    """The probability that an answered turn is hot, as if what makes a turn hot came independently.

    What makes it hot is the vocabulary's to say. Not a number where the model abstained. Raises RowInvalid.
    """
    return hot_chance_in(outputs_of(answer, vocabulary), vocabulary)


def hot_chance_in(outputs: Floats, vocabulary: Vocabulary) -> float:
    """The same, of the probabilities [outputs]."""
    where, hot = vocabulary.slices(), vocabulary.hot
    worse = [number >= hot.frustration for number in vocabulary.heads["frustration"].numbers]
    signals = [signal in hot.signals for signal in vocabulary.heads["signals"].values]
    angry = min(1.0, float(outputs[where["frustration"]][worse].sum()))
    return 1.0 - (1.0 - angry) * float(np.prod(1.0 - outputs[where["signals"]][signals]))
