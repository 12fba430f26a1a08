"""What another policy would change: both policies decide every past answer, and the decisions are compared.

Waiting is left out on both sides, for answers do not say how long a customer had waited; hold-outs too.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.config import Config
from pipeline.conversation import RowError, RowInvalid
from pipeline.vocabulary import Vocabulary
from serving.policy import Decision, Policy
from serving.routing.history import Past, redecide

EXAMPLES = 10
ROUNDING = 1  # a score can differ by this much because answers carry four digits


class Shift(Config):
    """How scores move: the mean, the 5th, 50th and 95th of a hundred, and how many rise, fall and stay."""

    mean: float
    p5: float
    p50: float
    p95: float
    up: int
    down: int
    same: int


class Move(Config):
    """One answer whose decision changes."""

    id: str
    turn: int
    queue: tuple[str, str]
    score: tuple[int, int]


class Changes(Config):
    """What would change. Pairs are (by the old policy, by the new); `moves` is old queue to new queue to how many."""

    policies: tuple[str, str]
    answers: int
    conversations: int
    abstained: int
    unreadable: int
    otherwise_then: int
    queues: tuple[str, ...]
    moves: dict[str, dict[str, int]]
    moved: int
    upper_queues: tuple[str, ...]
    sent_up: tuple[int, int]
    scores: Shift | None
    gained: dict[str, int]
    lost: dict[str, int]
    biggest: tuple[Move, ...]


@dataclass
class _Tally:
    """What is counted while history streams by."""

    ids: set[str] = field(default_factory=set)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    gained: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    shifts: Counter[int] = field(default_factory=Counter)
    biggest: list[tuple[tuple[int, int], int, Move]] = field(default_factory=list)
    abstained: int = 0
    otherwise_then: int = 0


def compare(
    history: Iterable[Past | RowError], old: Policy, new: Policy, vocabulary: Vocabulary
) -> tuple[Changes, list[RowError]]:
    """What would change if `new` took the place of `old`, and the rows that could not be read."""
    tally, bad, ranks = _Tally(), list[RowError](), _ranks(old, new)
    for past in history:
        if isinstance(past, RowError):
            bad.append(past)
            continue
        try:
            before, after = (redecide(past.answer, policy, vocabulary) for policy in (old, new))
        except RowInvalid as error:
            bad.append(RowError(past.line, past.answer.id, str(error)))
            continue
        _count(tally, past, before, after, ranks)
    return _summed(tally, old, new, len(bad)), bad


def _ranks(old: Policy, new: Policy) -> dict[str, int]:
    """How cool each queue is: 0 for the hottest. A queue of both stands where the new policy has it."""
    order = [queue.name for queue in new.config.queues]
    gone = [queue.name for queue in old.config.queues if queue.name not in order]
    return {name: place for place, name in enumerate([*order, *gone])}


def _count(tally: _Tally, past: Past, before: Decision, after: Decision, ranks: dict[str, int]) -> None:
    answer = past.answer
    tally.ids.add(answer.id)
    tally.moves[before.queue, after.queue] += 1
    tally.gained.update(set(after.reasons) - set(before.reasons))
    tally.lost.update(set(before.reasons) - set(after.reasons))
    tally.abstained += answer.abstained is not None
    off = abs(answer.priority.score - before.score) > ROUNDING or answer.priority.queue != before.queue
    tally.otherwise_then += off
    tally.shifts[after.score - before.score] += 1
    size = (abs(ranks[after.queue] - ranks[before.queue]), abs(after.score - before.score))
    if any(size):
        move = Move(
            id=answer.id, turn=answer.turn, queue=(before.queue, after.queue), score=(before.score, after.score)
        )
        entry = (size, -sum(tally.shifts.values()), move)  # of equal moves the first stay
        (heapq.heappush if len(tally.biggest) < EXAMPLES else heapq.heappushpop)(tally.biggest, entry)


def _summed(tally: _Tally, old: Policy, new: Policy, unreadable: int) -> Changes:
    queues, upper = tuple(_ranks(old, new)), upper_queues(old, new)
    moves = {a: {b: tally.moves[a, b] for b in queues if tally.moves[a, b]} for a in queues}
    return Changes(
        policies=(old.digest, new.digest),
        answers=sum(tally.moves.values()),
        conversations=len(tally.ids),
        abstained=tally.abstained,
        unreadable=unreadable,
        otherwise_then=tally.otherwise_then,
        queues=queues,
        moves={name: to for name, to in moves.items() if to},
        moved=sum(count for (a, b), count in tally.moves.items() if a != b),
        upper_queues=upper,
        sent_up=(
            sum(count for (a, _), count in tally.moves.items() if a in upper),
            sum(count for (_, b), count in tally.moves.items() if b in upper),
        ),
        scores=_shift(tally.shifts),
        gained=dict(tally.gained.most_common()),
        lost=dict(tally.lost.most_common()),
        biggest=tuple(move for _, _, move in sorted(tally.biggest, key=lambda entry: entry[:2], reverse=True)),
    )


def upper_queues(*policies: Policy) -> tuple[str, ...]:
    """The queues that not every agent may take from; where no policy names any, all but the last."""
    names = dict.fromkeys(name for policy in policies for name in policy.config.assignment.qualified)
    return tuple(names) or tuple(dict.fromkeys(q.name for policy in policies for q in policy.config.queues[:-1]))


def _shift(shifts: Counter[int]) -> Shift | None:
    if not shifts:
        return None
    sizes = sorted(shifts)
    counts = np.array([shifts[size] for size in sizes])
    p5, p50, p95 = _quantiles(sizes, counts, (0.05, 0.5, 0.95))
    return Shift(
        mean=round(float(np.average(sizes, weights=counts)), 2),
        p5=p5,
        p50=p50,
        p95=p95,
        up=sum(count for size, count in shifts.items() if size > 0),
        down=sum(count for size, count in shifts.items() if size < 0),
        same=shifts[0],
    )


def _quantiles(sizes: Sequence[int], counts: np.ndarray, shares: Sequence[float]) -> list[float]:
    """The least size that this share of all does not exceed."""
    reached = np.cumsum(counts) / counts.sum()
    return [float(sizes[int(np.searchsorted(reached, share - 1e-12))]) for share in shares]
