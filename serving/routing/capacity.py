"""Capacity to threshold: from which score on a queue takes no more than a team can, and what it then misses.

History is decided anew, a conversation counting once, by its hottest turn: its score, and its chance of being hot, are
the greatest of its turns'. What hotter queues take, the same people take, so it counts against the capacity. What is
missed is told twice: by the model's own chances, which holds as far as they are calibrated and turns come
independently, and, where somebody labelled the history, by counting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import numpy as np
from pydantic import Field

from pipeline.config import Config
from pipeline.conversation import Conversation, RowError, RowInvalid
from pipeline.errors import InputError
from pipeline.heads import Floats
from pipeline.scores import share_with_interval
from pipeline.vocabulary import Vocabulary
from serving.policy import Policy, Queue
from serving.routing.changes import upper_queues
from serving.routing.history import Past, hot_chance, redecide

HIGHEST = 100
ROUNDS = 4_000
SEED = 0
AROUND = (-10, -5, -1, 0, 1, 5, 10)


class NoPlan(InputError):
    """A threshold cannot be told; the message says why."""


class Capacity(Config):
    """How many conversations a day a team takes. `days`: how many the history spans, by its times where None.

    The queue's reasons are given up, so that the score alone decides, unless they are kept.
    """

    per_day: float = Field(ge=0, allow_inf_nan=False)
    days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep_reasons: bool = False


class Figure(Config):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Span(Config):
    """The days that a history spans; by its times there is a first, a last, and some without a conversation."""

    days: float
    first: date | None = None
    last: date | None = None
    empty: int = 0


class Expected(Config):
    """By the model's chances: hot conversations in all, those missed, and the share reached, None where none are."""

    hot: float
    missed: Figure
    reached: Figure | None


class Step(Config):
    """What a threshold comes to: conversations taken a day, hot ones expected to be missed a day, and the share of hot
    ones expected to be reached, None where none are."""

    threshold: int
    per_day: float
    missed_per_day: float
    reached: float | None


class Measured(Config):
    """What labels say at the threshold, of conversations whose labels tell whether they are hot."""

    labelled: int
    hot: int
    taken: int
    taken_hot: int
    recall: Figure | None
    precision: Figure | None


class Swing(Config):
    """Conversations taken by day: median, 95th of a hundred, most, and on how many days more than the capacity."""

    p50: float
    p95: float
    most: int
    days_over: int


class Plan(Config):
    """The threshold of a queue for a capacity, and what it comes to. `forced` goes to the queue or a hotter one at any
    threshold; `overfull` says that even the highest threshold takes more than the capacity."""

    queue: str
    capacity: float
    threshold: int
    overfull: bool
    conversations: int
    abstained: int
    span: Span
    forced: int
    by_reason: int
    taken: int
    ties: int
    expected: Expected
    around: tuple[Step, ...]
    swing: Swing | None
    measured: Measured | None
    line: str


@dataclass
class Seen:
    """A conversation as the queue sees it. `score` and `hot` are None where the model judged none of its turns;
    `by_reason`: one of the queue's own reasons fired, `above`: a hotter queue takes it."""

    score: int | None = None
    hot: float | None = None
    above: bool = False
    by_reason: bool = False
    at: datetime | None = None
    turns: list[int] = field(default_factory=list)


def queue_to_plan(policy: Policy, named: str | None = None) -> Queue:
    """The queue that is planned for: the one named, else the coolest that not every agent may take from.

    Raises NoPlan where there is no such queue, or it is the last, which takes whatever is left.
    """
    queues = policy.config.queues
    upper = set(upper_queues(policy))
    found = [q for q in queues if (q.name == named if named is not None else q.name in upper)]
    if not found:
        raise NoPlan(f"no queue is called {named} (there are {', '.join(q.name for q in queues)})")
    if found[-1] == queues[-1]:
        raise NoPlan(f"{found[-1].name} is the last queue, which takes whatever is left")
    return found[-1]


def gather(
    history: Iterable[Past | RowError], policy: Policy, queue: Queue, vocabulary: Vocabulary
) -> tuple[dict[str, Seen], list[RowError]]:
    """Each conversation by its id, decided anew, and the rows that could not be read."""
    order = [q.name for q in policy.config.queues]
    target, seen, bad = order.index(queue.name), dict[str, Seen](), list[RowError]()
    for past in history:
        if isinstance(past, RowError):
            bad.append(past)
            continue
        answer = past.answer
        try:
            decision = redecide(answer, policy, vocabulary)
            hot = None if answer.abstained else hot_chance(answer, vocabulary)
        except RowInvalid as error:
            bad.append(RowError(past.line, answer.id, str(error)))
            continue
        one, place = seen.setdefault(answer.id, Seen()), order.index(decision.queue)
        one.above |= place < target or (hot is None and place == target)
        one.by_reason |= not set(queue.reasons).isdisjoint(decision.reasons)
        one.turns.append(answer.turn)
        one.at = min((at for at in (one.at, past.at) if at is not None), default=None)
        if hot is not None:
            one.score, one.hot = max(one.score or 0, decision.score), max(one.hot or 0.0, hot)
    return seen, bad


@dataclass(frozen=True)
class _Crowd:
    """Conversations side by side [conversations]; score is -1 and the chance 0 where the model judged nothing."""

    score: np.ndarray
    hot: Floats
    forced: np.ndarray

    def taken(self, threshold: int) -> np.ndarray:
        return np.asarray(self.forced | (self.score >= threshold))


def plan(
    seen: Mapping[str, Seen],
    queue: Queue,
    vocabulary: Vocabulary,
    capacity: Capacity,
    labelled: Iterable[Conversation] | None = None,
) -> Plan:
    """The lowest threshold at which the queue takes at most the capacity on average, and what it comes to.

    Raises NoPlan where there is no history, or no telling how many days it spans.
    """
    if not seen:
        raise NoPlan("the history holds no answer")
    calendar = _calendar(seen)
    span, crowd = _span(seen, calendar, capacity.days), _crowd(seen, capacity.keep_reasons)
    threshold, overfull = _threshold(crowd, capacity.per_day * span.days)
    taken = crowd.taken(threshold)
    steps = sorted({max(0, min(HIGHEST, threshold + by)) for by in AROUND})
    return Plan(
        queue=queue.name,
        capacity=capacity.per_day,
        threshold=threshold,
        overfull=overfull,
        conversations=len(seen),
        abstained=int((crowd.score < 0).sum()),
        span=span,
        forced=int(crowd.forced.sum()),
        by_reason=sum(one.by_reason and not one.above for one in seen.values()),
        taken=int(taken.sum()),
        ties=int((~crowd.forced & (crowd.score == threshold)).sum()),
        expected=_expected(crowd, taken),
        around=tuple(_step(crowd, at, span.days) for at in steps),
        swing=_swing(seen, taken, calendar, capacity.per_day),
        measured=None if labelled is None else _measured(seen, taken, labelled, vocabulary),
        line=_line(queue, threshold, capacity.keep_reasons),
    )


def _span(seen: Mapping[str, Seen], calendar: Sequence[date], said: float | None) -> Span:
    if not calendar and said is None:
        raise NoPlan("the history has no times; say how many days it spans (--days)")
    if not calendar or said is not None:
        return Span(days=said or 0.0)
    filled = len({one.at.date() for one in seen.values() if one.at})
    return Span(days=len(calendar), first=calendar[0], last=calendar[-1], empty=len(calendar) - filled)


def _calendar(seen: Mapping[str, Seen]) -> list[date]:
    """Every day (UTC) from the first conversation to the last; none where no conversation has a time."""
    found = [one.at.date() for one in seen.values() if one.at]
    if not found:
        return []
    return [min(found) + timedelta(days=n) for n in range((max(found) - min(found)).days + 1)]


def _crowd(seen: Mapping[str, Seen], keep_reasons: bool) -> _Crowd:
    return _Crowd(
        score=np.array([-1 if one.score is None else one.score for one in seen.values()]),
        hot=np.array([one.hot or 0.0 for one in seen.values()]),
        forced=np.array([one.above or (keep_reasons and one.by_reason) for one in seen.values()]),
    )


def _threshold(crowd: _Crowd, budget: float) -> tuple[int, bool]:
    """The lowest threshold within the budget of conversations, else the highest, which is over it."""
    free = crowd.score[~crowd.forced & (crowd.score >= 0)]
    from_here = crowd.forced.sum() + np.bincount(free, minlength=HIGHEST + 1)[::-1].cumsum()[::-1]
    within = np.flatnonzero(from_here <= budget)
    return (int(within[0]), False) if len(within) else (HIGHEST, True)


def _expected(crowd: _Crowd, taken: np.ndarray) -> Expected:
    """Intervals are of the Poisson-binomial draw: each conversation is hot or not by its own chance."""
    rng = np.random.default_rng(SEED)
    missed, caught = (_draws(crowd.hot[side], rng) for side in (~taken, taken))
    total, ours = float(crowd.hot.sum()), float(crowd.hot[taken].sum())
    share = np.where(missed + caught == 0, 1.0, caught / np.maximum(1, missed + caught))
    return Expected(
        hot=round(total, 4),
        missed=_figure(total - ours, missed),
        reached=_figure(ours / total, share) if total else None,
    )


def _draws(chances: Floats, rng: np.random.Generator) -> Floats:
    """How many come true in each of many draws; equal chances are drawn together, for which digits are dropped."""
    values, counts = np.unique(np.round(chances, 3), return_counts=True)
    return np.asarray(rng.binomial(counts, values, (ROUNDS, len(values))).sum(axis=1), dtype=np.float64)


def _figure(value: float, draws: Floats) -> Figure:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(value=round(value, 4), low=round(float(low), 4), high=round(float(high), 4))


def _step(crowd: _Crowd, threshold: int, days: float) -> Step:
    taken, total = crowd.taken(threshold), float(crowd.hot.sum())
    return Step(
        threshold=threshold,
        per_day=round(int(taken.sum()) / days, 2),
        missed_per_day=round(float(crowd.hot[~taken].sum()) / days, 2),
        reached=round(float(crowd.hot[taken].sum()) / total, 4) if total else None,
    )


def _swing(seen: Mapping[str, Seen], taken: np.ndarray, calendar: Sequence[date], capacity: float) -> Swing | None:
    if not calendar:
        return None
    loads = dict.fromkeys(calendar, 0)
    for one, is_taken in zip(seen.values(), taken, strict=True):
        if one.at and is_taken:
            loads[one.at.date()] += 1
    by_day = np.array(list(loads.values()))
    p50, p95 = np.quantile(by_day, [0.5, 0.95])
    over = int((by_day > capacity).sum())
    return Swing(p50=round(float(p50), 1), p95=round(float(p95), 1), most=int(by_day.max()), days_over=over)


def _measured(
    seen: Mapping[str, Seen], taken: np.ndarray, labelled: Iterable[Conversation], vocabulary: Vocabulary
) -> Measured:
    truth = {conversation.id: conversation for conversation in labelled}
    known: list[tuple[bool, bool]] = []
    for (name, one), is_taken in zip(seen.items(), taken, strict=True):
        is_hot = _is_hot(truth[name], one.turns, vocabulary) if name in truth else None
        if is_hot is not None:
            known.append((is_hot, bool(is_taken)))
    hot, went = sum(h for h, _ in known), sum(t for _, t in known)
    both = sum(h and t for h, t in known)
    return Measured(
        labelled=len(known), hot=hot, taken=went, taken_hot=both, recall=_share(both, hot), precision=_share(both, went)
    )


def _is_hot(conversation: Conversation, turns: Iterable[int], vocabulary: Vocabulary) -> bool | None:
    """Whether one of these turns is hot by its labels; None where the labels of none of them tell."""
    there = [conversation.turns[turn].labels for turn in turns if 0 <= turn < len(conversation.turns)]
    told = [hot for labels in there if labels and (hot := vocabulary.hot.applies(labels)) is not None]
    return any(told) if told else None


def _share(count: int, total: int) -> Figure | None:
    return Figure(**share_with_interval(count, total)) if total else None


def _line(queue: Queue, threshold: int, keep_reasons: bool) -> str:
    reasons = ", ".join(queue.reasons) if keep_reasons else ""
    return f"- {{name: {queue.name}, reasons: [{reasons}], score: {threshold}}}"
