"""What routing does, estimated from conversations that a hash drew for the hold-out beside those it did not draw.

Conversations count by how they were drawn, not by how they ended up, so one that a safety rule took out of the hold-out
later still counts as held out; those that were exempt from their first message on are left out on both sides. Both
sides share the same agents: held-out conversations wait longer because others overtake them, so the difference is that
between the two places in one queue, not between a team with a model and one without.

95 % intervals by bootstrap within each side, p by permutation of the draw, two-sided (Fisher 1935). Plain numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from pydantic import Field

from pipeline.config import Config
from pipeline.heads import Floats

Statistic: TypeAlias = Callable[[Floats], float]

LEAST = 2  # conversations a side, for anything to be said


class Record(Config):
    """A conversation that is over. `held_out`: it was drawn; `exempt`: a safety rule fired at its first message.

    Boiling over and satisfaction (1 to 5) are None where they are not known, and leave that figure out;
    `minutes_to_human` is None where no person ever answered, which counts as the longest wait of all.
    """

    id: str
    held_out: bool
    exempt: bool = False
    boiled_over: bool | None = None
    minutes_to_human: float | None = Field(default=None, ge=0)
    satisfaction: float | None = None


class Arm(Config):
    """One side: how many conversations speak of it, and its figure, None where there is none."""

    conversations: int
    value: float | None


class Effect(Config):
    """Both sides and the difference, routed less held out, with its interval and how likely chance alone gives as
    large a one. None where too few conversations speak of it."""

    held_out: Arm
    routed: Arm
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


class Effects(Config):
    """Share that boiled over, median minutes to the first answer by a person, and mean satisfaction."""

    boiled_over: Effect
    minutes_to_human: Effect
    satisfaction: Effect


def effects(records: Sequence[Record], rounds: int = 2_000, seed: int = 0) -> Effects:
    """The effect of routing on each outcome."""
    counted = [record for record in records if not record.exempt]
    drawn = np.array([record.held_out for record in counted], dtype=bool)
    nan, rng = float("nan"), np.random.default_rng(seed)
    boiled = [nan if r.boiled_over is None else float(r.boiled_over) for r in counted]
    minutes = [float("inf") if r.minutes_to_human is None else r.minutes_to_human for r in counted]
    satisfied = [nan if r.satisfaction is None else r.satisfaction for r in counted]
    return Effects(
        boiled_over=_effect(np.array(boiled), drawn, _mean, rounds, rng),
        minutes_to_human=_effect(np.array(minutes), drawn, _median, rounds, rng),
        satisfaction=_effect(np.array(satisfied), drawn, _mean, rounds, rng),
    )


def _mean(values: Floats) -> float:
    return float(values.mean())


def _median(values: Floats) -> float:
    """The middle value, the later of two middle ones; endless waits have a place in the order though no mean."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _effect(values: Floats, drawn: np.ndarray, statistic: Statistic, rounds: int, rng: np.random.Generator) -> Effect:
    known = ~np.isnan(values)
    held, routed = values[known & drawn], values[known & ~drawn]
    arms = [Arm(conversations=len(side), value=_value(side, statistic)) for side in (held, routed)]
    if min(len(held), len(routed)) < LEAST or any(arm.value is None for arm in arms):
        return Effect(held_out=arms[0], routed=arms[1])
    difference = statistic(routed) - statistic(held)
    low, high = _interval(held, routed, statistic, rounds, rng)
    return Effect(
        held_out=arms[0],
        routed=arms[1],
        difference=_finite(difference),
        low=_finite(low),
        high=_finite(high),
        p=_p(held, routed, statistic, rounds, rng),
    )


def _interval(
    held: Floats, routed: Floats, statistic: Statistic, rounds: int, rng: np.random.Generator
) -> tuple[float, float]:
    drawn = np.array([_difference(rng.choice(routed, len(routed)), rng.choice(held, len(held)), statistic)
                      for _ in range(rounds)])  # fmt: skip
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")  # no mean of an endless wait and another
    return float(low), float(high)


def _p(held: Floats, routed: Floats, statistic: Statistic, rounds: int, rng: np.random.Generator) -> float:
    pooled, cut = np.concatenate([held, routed]), len(held)
    seen = abs(_difference(routed, held, statistic)) - 1e-12
    as_large = 0
    for _ in range(rounds):
        rng.shuffle(pooled)
        as_large += abs(_difference(pooled[cut:], pooled[:cut], statistic)) >= seen
    return round((1 + as_large) / (1 + rounds), 4)


def _difference(routed: Floats, held: Floats, statistic: Statistic) -> float:
    first, second = statistic(routed), statistic(held)
    return 0.0 if first == second else first - second  # two endless waits are alike


def _value(side: Floats, statistic: Statistic) -> float | None:
    return _finite(statistic(side)) if len(side) else None


def _finite(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
