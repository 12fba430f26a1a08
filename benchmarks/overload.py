"""What a server does at twice its saturation, and how soon it is itself again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.load import Phase
from benchmarks.measure import Bench, Run

BEFORE, AFTER = 1.0, 4.0  # seconds at half of saturation around the overload
HALF, TWICE = 0.5, 2.0
WINDOW = 0.25  # seconds over which recovery is looked for
SLACK = 0.025  # seconds above twice the usual latency that still count as recovered
REFUSED = 429


@dataclass(frozen=True)
class Overload:
    """Half, then twice, then half of a saturation. Rates are a second; memory is resident bytes."""

    offered: float
    goodput: float  # answered 200 within a second of being due
    refused_share: float  # answered 429
    refused_with_retry_after: float  # share of those that say when to come back
    other_share: float  # neither 200 nor 429: errors, time-outs
    recovery_seconds: float  # infinite where it did not recover while it was watched
    memory_before: int
    memory_after: int
    memory_most: int


def overload(bench: Bench, saturation: float, seconds: float, seed: int) -> Overload:
    """Overload a server for so many seconds."""
    phases = [
        Phase(rate=saturation * share, seconds=length)
        for share, length in ((HALF, BEFORE), (TWICE, seconds), (HALF, AFTER))
    ]
    return read_overload(bench.open_loop(*phases, seed=seed), seconds)


def read_overload(run: Run, seconds: float) -> Overload:
    """What a run of the three phases says, so many seconds of overload in the middle."""
    end = BEFORE + seconds
    hot = run.between(BEFORE, end)
    refused = hot.status == REFUSED
    memory = [held for at, held in run.memory if at <= end + AFTER] or [0]
    return Overload(
        offered=len(hot.due) / seconds,
        goodput=hot.rate(seconds),
        refused_share=float(refused.mean()),
        refused_with_retry_after=float(np.isfinite(hot.retry_after[refused]).mean()) if refused.any() else 0.0,
        other_share=float((~refused & ~hot.good).mean()),
        recovery_seconds=recovery(run, end),
        memory_before=memory[0],
        memory_after=memory[-1],
        memory_most=max(memory),
    )


def recovery(run: Run, end: float) -> float:
    """Seconds from the end of the overload until every later request is answered about as quickly as before it."""
    usual = 2 * run.between(0, BEFORE).quantile(0.9) + SLACK
    recovered = float("inf")
    for start in np.arange(end, end + AFTER, WINDOW)[::-1]:
        window = run.between(start, start + WINDOW)
        if len(window.due) and not (window.good.all() and window.quantile(0.9) <= usual):
            break
        recovered = float(start - end)
    return recovered
