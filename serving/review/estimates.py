"""How good the flags are, how far reviewers agree, how long they take, how that drifts: estimated from verdicts.

Precision and recall rest on drawn conversations alone: what reviewers pick themselves is the hottest there is. A drawn
conversation counts for 1 / chance of those like it (Horvitz and Thompson 1952), scaled to how many there were to draw
from, and to those that were drawn and not yet reviewed. Intervals are 95 %, by a Bayesian bootstrap over conversations
(Rubin 1981) with half a right and half a wrong one added to each stratum, so that a dozen conversations without a fault
do not pass for certainty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from pipeline.vocabulary import Head
from serving.review import agreement
from serving.review.labelling import Labelling
from serving.review.recent import Recent
from serving.review.sampling import FLAGGED
from serving.review.standing import HOT, WHOLE, Standing, labels_of, standing, unswayed
from serving.store import reviews
from serving.store.reader import Reader
from serving.store.reviews import Verdict
from serving.store.schema import draws, samples

ROUNDS = 400
SEED = 20
MOST_WEEKS = 104
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval, and how many conversations it rests on. `value` is None where that is none."""

    value: float | None
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class HeadQuality:
    """How often reviewers left a head's label as the model had it, and how far two reviewers agree on it."""

    head: str
    kept: Estimate
    alpha: float | None  # Krippendorff's; None where no message has two verdicts
    twice: int  # messages with two verdicts


@dataclass(frozen=True)
class Week:
    """A week, by its Monday (UTC)."""

    monday: date
    precision: Estimate  # of flags on conversations that began in it
    kept: Estimate  # labels that reviewers left as they were in it, all heads together
    conversations: int  # reviewed
    seconds: float | None  # median, a review


@dataclass(frozen=True)
class Quality:
    """What the quality page shows. Precision and recall come from the drawn conversations alone."""

    precision: Estimate
    recall: Estimate
    drawn: int
    reviewed: int  # of those drawn
    heads: Sequence[HeadQuality]
    hot_alpha: float | None  # on whether the customer was hot at any time
    seconds: float | None  # median, a review
    weeks: Sequence[Week]


@dataclass(frozen=True)
class Unit:
    """A drawn conversation: whether it was flagged and, where somebody has said so, whether the customer was hot."""

    kind: str
    chance: float
    day: date
    flagged: bool
    hot: bool | None


@dataclass(frozen=True)
class _Judged:
    """A reviewed conversation, and what the verdicts on it come to."""

    verdicts: Sequence[Verdict]
    stands: Standing
    monday: date  # of the newest verdict's week
    blind: Mapping[str | None, Mapping[str, Verdict]]  # what each said before seeing what others had said
    kept: Sequence[tuple[str, bool]]  # head by head of each message, whether what holds is what the model had said

    def seconds(self) -> list[float]:
        """How long each form took."""
        return [verdict.seconds for verdict in self.verdicts if verdict.seconds is not None]


@dataclass(frozen=True)
class _Data:
    judged: Sequence[_Judged]
    units: Sequence[Unit]
    totals: Mapping[str, tuple[int, int]]  # by day: flagged and others, to draw from


class Estimates:
    """Reads verdicts."""

    def __init__(self, reader: Reader, labelling: Callable[[], Labelling], now: Callable[[], datetime]) -> None:
        self._reader, self._labelling, self._now = reader, labelling, now
        self._seen: Recent[Quality] = Recent()

    async def quality(self, weeks: int = 12) -> Quality:
        """What the verdicts of the last weeks say, as it was within the last minute. Raises StoreUnavailable."""
        weeks = max(1, min(weeks, MOST_WEEKS))
        first = monday_of(self._now().astimezone(UTC).date()) - timedelta(weeks=weeks - 1)
        return await self._seen.get(first, lambda: self._make([first + timedelta(weeks=n) for n in range(weeks)]))

    async def _make(self, mondays: Sequence[date]) -> Quality:
        labelling = self._labelling()
        data = await self._reader.run(lambda connection: _read(connection, mondays[0], labelling))
        return await asyncio.to_thread(_quality, data, mondays, labelling)


def monday_of(day: date) -> date:
    """The Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def flag_quality(units: Sequence[Unit], flagged: int, others: int) -> tuple[Estimate, Estimate]:
    """Precision and recall of flags, of so many conversations that were flagged when drawn from, and so many others."""
    strata = [
        _stratum([unit for unit in units if (unit.kind == FLAGGED) is hot], total, hot)
        for hot, total in ((True, flagged), (False, others))
    ]
    rng = np.random.default_rng(SEED)
    point = sum((_cells(*stratum, None) for stratum in strata), np.zeros((1, 4)))
    drawn = sum((_cells(*stratum, rng) for stratum in strata), np.zeros((ROUNDS, 4)))
    counts = [int(stratum[2]) for stratum in strata]
    precision = _estimate(_share(point, 3, 2), _share(drawn, 3, 2), counts[0])
    return precision, _estimate(_share(point, 3, 1), _share(drawn, 3, 1), sum(counts) if all(counts) else 0)


def share(kept: Sequence[int], total: Sequence[int]) -> Estimate:
    """The share kept, given how many were kept and how many there are in each conversation."""
    if not total:
        return _estimate(np.zeros(1), np.array([0.0, 1.0]), 0)
    k, n = np.array(kept, dtype=float), np.array(total, dtype=float)
    rng = np.random.default_rng(SEED)
    weights, prior = rng.gamma(1.0, size=(ROUNDS, len(k))), rng.gamma(0.5, size=(ROUNDS, 2)) * n.mean()
    drawn = (weights @ k + prior[:, 0]) / (weights @ n + prior.sum(axis=1))
    return _estimate(np.array([k.sum() / n.sum()]), drawn, len(k))


Stratum = tuple[Floats, Floats, int, float, bool]
"""Weights [units], cells [units, 4], how many units, of how many conversations, whether they were flagged."""


def _stratum(units: Sequence[Unit], total: int, flagged: bool) -> Stratum:
    """The units that somebody has judged. The cells: neither, hot alone, flagged alone, both."""
    judged = [unit for unit in units if unit.hot is not None]
    weight = {}
    for kind in {unit.kind for unit in judged}:
        drawn = sum(unit.kind == kind for unit in units)
        weight[kind] = drawn / sum(unit.kind == kind for unit in judged)
    weights = np.array([weight[unit.kind] / unit.chance for unit in judged])
    cells = np.zeros((len(judged), 4))
    cells[np.arange(len(judged)), [2 * unit.flagged + bool(unit.hot) for unit in judged]] = 1
    return weights, cells, len(judged), float(max(total, len(units))), flagged


def _cells(
    weights: Floats, cells: Floats, count: int, total: float, flagged: bool, rng: np.random.Generator | None
) -> Floats:
    """How many conversations fall into each cell [rounds, 4]: as estimated, or drawn where there are dice."""
    if rng is None:
        return np.asarray(total * (weights @ cells) / weights.sum())[None, :] if count else np.zeros((1, 4))
    typical = weights.mean() if count else 1.0
    found = (rng.gamma(1.0, size=(ROUNDS, count)) * weights) @ cells
    found[:, 2 * flagged : 2 * flagged + 2] += rng.gamma(0.5, size=(ROUNDS, 2)) * typical
    return np.asarray(total * found / found.sum(axis=1, keepdims=True))


def _share(cells: Floats, both: int, alone: int) -> Floats:
    whole = cells[:, both] + cells[:, alone]
    return np.asarray(np.divide(cells[:, both], whole, out=np.full(len(cells), np.nan), where=whole > 0))


def _estimate(point: Floats, drawn: Floats, count: int) -> Estimate:
    drawn = drawn[~np.isnan(drawn)]
    if count == 0 or np.isnan(point[0]) or not len(drawn):
        return Estimate(None, 0.0, 1.0, count)
    value = float(point[0])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(round(value, 4), round(min(float(low), value), 4), round(max(float(high), value), 4), count)


def _read(connection: Connection, first: date, labelling: Labelling) -> _Data:
    since = datetime.combine(first, datetime.min.time(), UTC)
    drawn = {
        row.conversation: row for row in connection.execute(select(samples).where(samples.c.day >= first.isoformat()))
    }
    judged = [_judged(some) for some in reviews.by_conversation(connection, since)]
    truth = {one.verdicts[0].conversation: _truth(one, labelling) for one in judged}
    units = [
        Unit(row.kind, row.chance, date.fromisoformat(row.day), *truth.get(name, (row.kind == FLAGGED, None)))
        for name, row in drawn.items()
    ]
    counts = select(draws.c.day, func.sum(draws.c.flagged), func.sum(draws.c.calm)).group_by(draws.c.day)
    totals = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(counts)}
    return _Data(judged, units, totals)


def _judged(verdicts: Sequence[Verdict]) -> _Judged:
    stands, said = standing(verdicts, None), {verdict.message: verdict.said or {} for verdict in verdicts}
    kept = [
        (name, _plain(label) == _plain(said[message][name]))
        for message, labels in stands.holds.items()
        if message is not WHOLE
        for name, label in labels.items()
        if name in said.get(message, {})
    ]
    return _Judged(verdicts, stands, monday_of(verdicts[-1].at.astimezone(UTC).date()), unswayed(verdicts), kept)


def _truth(one: _Judged, labelling: Labelling) -> tuple[bool, bool | None]:
    """Whether the conversation was flagged when it was judged, and whether the customer really was hot at any time.

    Somebody who labelled messages and said nothing of the whole has shown that it was hot, or has shown nothing.
    """
    wholes = [verdict for verdict in one.verdicts if verdict.message is WHOLE and verdict.said]
    flagged = bool((wholes[-1].said or {}).get(HOT)) if wholes else one.verdicts[0].sample == FLAGGED
    hot = one.stands.holds.get(WHOLE, {}).get(HOT)
    if hot is None and not (one.stands.disputed.get(WHOLE) or ()):
        labelled = (labels for message, labels in one.stands.holds.items() if message is not WHOLE)
        hot = True if any(labelling.vocabulary.hot.applies(labels) for labels in labelled) else None
    return flagged, hot


def _quality(data: _Data, mondays: Sequence[date], labelling: Labelling) -> Quality:
    first = mondays[0].isoformat()
    totals = [counts for day, counts in data.totals.items() if day >= first]
    precision, recall = flag_quality(data.units, sum(n for n, _ in totals), sum(n for _, n in totals))
    wholes = [list(by.values()) for one in data.judged if (by := one.blind.get(WHOLE))]
    return Quality(
        precision=precision,
        recall=recall,
        drawn=len(data.units),
        reviewed=sum(unit.hot is not None for unit in data.units),
        heads=[_head(name, head, data.judged) for name, head in labelling.heads().items()],
        hot_alpha=agreement.alpha(
            [[v.labels[HOT] for v in some if HOT in v.labels] for some in wholes], agreement.nominal
        ),
        seconds=_median(second for one in data.judged for second in one.seconds()),
        weeks=[_week(monday, data) for monday in mondays],
    )


def _head(name: str, head: Head, judged: Sequence[_Judged]) -> HeadQuality:
    units = [
        [labels_of(verdict)[name] for verdict in by.values() if name in verdict.labels]
        for one in judged
        for message, by in one.blind.items()
        if message is not WHOLE
    ]
    if head.exclusive:  # in the order of their numbers, whether they go by them or by names
        number = dict(zip(head.values, head.numbers, strict=True))
        units = [[number.get(label, label) for label in unit] for unit in units]
    metric = agreement.ordinal if head.exclusive else agreement.overlap
    return HeadQuality(
        head=name,
        kept=_kept(judged, {name}),
        alpha=agreement.alpha(units, metric),
        twice=sum(len(unit) > 1 for unit in units),
    )


def _kept(judged: Iterable[_Judged], heads: set[str] | None) -> Estimate:
    """How many labels of the model's stand, conversation by conversation; of some heads, or of all."""
    kept, total = [], []
    for one in judged:
        pairs = [pair for pair in one.kept if heads is None or pair[0] in heads]
        if pairs:
            kept.append(sum(same for _, same in pairs))
            total.append(len(pairs))
    return share(kept, total)


def _plain(label: Any) -> Any:
    return list(label) if isinstance(label, tuple) else label


def _week(monday: date, data: _Data) -> Week:
    judged = [one for one in data.judged if one.monday == monday]
    days = {(monday + timedelta(days=number)).isoformat() for number in range(7)}
    units = [unit for unit in data.units if unit.day.isoformat() in days]
    totals = [counts for day, counts in data.totals.items() if day in days]
    precision, _ = flag_quality(units, sum(n for n, _ in totals), sum(n for _, n in totals))
    seconds = _median(second for one in judged for second in one.seconds())
    return Week(monday, precision, _kept(judged, None), len(judged), seconds)


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(median(found), 1) if found else None
