"""Where two models' answers to the same messages differ: what a team would notice if the other one served.

    differences(answers of the one that serves, answers of the other)
    tally.add(answer of the one that serves, answer of the other)      as they come

Answers are mappings in the shape that `simmer score` writes; they are matched by conversation and turn. Says nothing of
who is right, and holds no text.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from pipeline.config import Config

EXAMPLES = 10
LEVELS = {"sentiment": "label", "frustration": "level", "urgency": "level"}

Answer = Mapping[str, Any]


class Example(Config):
    """One turn answered otherwise: queues, priorities (0 to 100) and the heads that changed, before and after."""

    id: str
    turn: int
    queue: tuple[str, str]
    score: tuple[int, int]
    changed: dict[str, tuple[str, str]]


class Differences(Config):
    """Turns that both answered, how many only one did, and what changed in which share of the former.

    `levels` is by head, over turns that both judged; `abstained` counts turns that one judged and the other would not;
    `queues` says how many turns went from which queue to which.
    """

    answers: int
    unmatched: int
    judged: int
    abstained: int
    moved: float
    queues: dict[str, dict[str, int]]
    levels: dict[str, float]
    mean_score_change: float
    examples: tuple[Example, ...]


class Shadow(Config):
    """What a running service knows of a model that scores beside the one that serves: `GET /v1/shadow`.

    `offered` are the messages drawn for it; of them some were `scored`, some `dropped` because too much was under way
    or they were too long, and some `failed`. `refused` says why there is no challenger at work, `failure` what went
    wrong last. Everything counts from `since` on, when the pair of models became this one.
    """

    champion: str | None = Field(description="digest of the bundle that serves")
    challenger: str | None = Field(description="digest of the bundle in the shadow")
    version: str | None = Field(description="the challenger's, in the registry")
    since: datetime
    share: float
    offered: int
    scored: int
    dropped: int
    failed: int
    refused: str | None
    failure: str | None
    differences: Differences


def differences(before: Iterable[Answer], after: Iterable[Answer], examples: int = EXAMPLES) -> Differences:
    """What changes from the first answers to the second; the examples that change most come first.

    Rows without a `priority`, such as `simmer score` writes for a line it could not read, are passed over.
    """
    first, second = _by_turn(before), _by_turn(after)
    tally = Tally(examples)
    for key in first:
        if key in second:
            tally.add(first[key], second[key])
    return tally.differences(unmatched=len(first.keys() ^ second.keys()))


class Tally:
    """Differences as they come, pair by pair, in bounded memory."""

    def __init__(self, examples: int = EXAMPLES) -> None:
        self._most = examples
        self._answers = self._judged = self._abstained = self._shifted = 0
        self._moves: Counter[tuple[str, str]] = Counter()
        self._changed: Counter[str] = Counter()
        self._examples: list[tuple[tuple[bool, int, int], int, Example]] = []

    def add(self, before: Answer, after: Answer) -> None:
        """Take two answers to the same turn in."""
        both, changed = _judged(before) and _judged(after), _changed(before, after)
        self._answers += 1
        self._judged += both
        self._abstained += _judged(before) != _judged(after)
        self._shifted += _shift((before, after))
        self._moves[before["priority"]["queue"], after["priority"]["queue"]] += 1
        self._changed.update(list(changed) if both else ())
        if _differs((before, after)):
            entry = (_size((before, after)), -self._answers, _example(before, after))
            keep = heapq.heappush if len(self._examples) < self._most else heapq.heappushpop
            keep(self._examples, entry)

    def differences(self, unmatched: int = 0) -> Differences:
        """What was taken in so far."""
        return Differences(
            answers=self._answers,
            unmatched=unmatched,
            judged=self._judged,
            abstained=self._abstained,
            moved=_share(sum(count for (a, b), count in self._moves.items() if a != b), self._answers),
            queues=_nested(self._moves),
            levels={head: _share(self._changed[head], self._judged) for head in LEVELS},
            mean_score_change=round(self._shifted / max(1, self._answers), 2),
            examples=tuple(example for *_, example in sorted(self._examples, reverse=True, key=lambda one: one[:2])),
        )


def _by_turn(answers: Iterable[Answer]) -> dict[tuple[str, int], Answer]:
    return {(str(answer["id"]), int(answer["turn"])): answer for answer in answers if "priority" in answer}


def _judged(answer: Answer) -> bool:
    return answer.get("abstained") is None


def _changed(before: Answer, after: Answer) -> dict[str, tuple[str, str]]:
    """The heads that are read as another value, and those that one side does not speak of."""
    return {head: (a, b) for (head, a), (_, b) in zip(_read(before), _read(after), strict=True) if a != b}


def _read(answer: Answer) -> Iterator[tuple[str, str]]:
    for head, field in LEVELS.items():
        part = answer.get(head)
        yield head, str(part[field]) if part else "none"


def _shift(pair: tuple[Answer, Answer]) -> int:
    return int(pair[1]["priority"]["score"]) - int(pair[0]["priority"]["score"])


def _differs(pair: tuple[Answer, Answer]) -> bool:
    return pair[0]["priority"]["queue"] != pair[1]["priority"]["queue"] or bool(_changed(*pair))


def _size(pair: tuple[Answer, Answer]) -> tuple[bool, int, int]:
    moved = pair[0]["priority"]["queue"] != pair[1]["priority"]["queue"]
    return moved, abs(_shift(pair)), len(_changed(*pair))


def _example(before: Answer, after: Answer) -> Example:
    one, other = before["priority"], after["priority"]
    return Example(
        id=str(before["id"]),
        turn=int(before["turn"]),
        queue=(one["queue"], other["queue"]),
        score=(one["score"], other["score"]),
        changed=_changed(before, after),
    )


def _nested(moves: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for (a, b), count in sorted(moves.items()):
        rows.setdefault(a, {})[b] = count
    return rows


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
