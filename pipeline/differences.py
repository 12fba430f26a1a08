"""Where two models' answers to the same messages differ: what a team would notice if the other one served.

    differences(answers of the one that serves, answers of the other)

Answers are mappings in the shape that `simmer score` writes; they are matched by conversation and turn. Says nothing of
who is right, and holds no text.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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


def differences(before: Iterable[Answer], after: Iterable[Answer], examples: int = EXAMPLES) -> Differences:
    """What changes from the first answers to the second; the examples that change most come first.

    Rows without a `priority`, such as `simmer score` writes for a line it could not read, are passed over.
    """
    first, second = _by_turn(before), _by_turn(after)
    pairs = [(first[key], second[key]) for key in first if key in second]
    both = [(a, b) for a, b in pairs if _judged(a) and _judged(b)]
    moves = Counter((a["priority"]["queue"], b["priority"]["queue"]) for a, b in pairs)
    return Differences(
        answers=len(pairs),
        unmatched=len(first.keys() ^ second.keys()),
        judged=len(both),
        abstained=sum(_judged(a) != _judged(b) for a, b in pairs),
        moved=_share(sum(count for (a, b), count in moves.items() if a != b), len(pairs)),
        queues=_nested(moves),
        levels={head: _share(sum(head in _changed(a, b) for a, b in both), len(both)) for head in LEVELS},
        mean_score_change=round(sum(map(_shift, pairs)) / max(1, len(pairs)), 2),
        examples=tuple(_example(a, b) for a, b in heapq.nlargest(examples, filter(_differs, pairs), key=_size)),
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
