"""Where a server's limit lies: open-loop rates that rise until it no longer keeps up.

A step is sustained when 98 in 100 of what was offered are answered by a quarter of a second after the last arrival, and
99 in 100 within a second of being due.
A step that fails is tried again, since a busy machine can fail any server, and a limit found too low flatters others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load import Phase
from benchmarks.measure import Bench, Run

WRITERS = 32  # of the closed loop that guesses where to begin
FIRST, NEAR, UP, DOWN = 0.8, 0.9, 1.12, 0.75  # of a guess, of what was found before, and of the step before
TRIES, TRIES_DOWN, TRIES_UP = 3, 5, 8
GIVE_UP = 4.0  # seconds; a step that far behind has failed, and what is left of it must not spoil the next


@dataclass(frozen=True)
class Step:
    """One rate that was offered."""

    offered: float  # requests a second
    seconds: float
    run: Run

    @property
    def sustained(self) -> bool:
        return self.run.kept_up(self.seconds)


@dataclass(frozen=True)
class Climb:
    """The steps that were taken, and the highest that was sustained; None where none was."""

    steps: tuple[Step, ...]

    @property
    def best(self) -> Step | None:
        return max((step for step in self.steps if step.sustained), key=lambda step: step.offered, default=None)

    @property
    def saturation(self) -> float:
        """Requests a second that the server keeps up with; 0 where it kept up with nothing that was tried."""
        return self.best.offered if self.best else 0.0


TakeStep = Callable[[float], Step]


def climb(bench: Bench, seconds: float, seed: int, expected: float | None = None) -> Climb:
    """Find a server's saturation in steps of so many seconds, beginning near where it is expected."""
    first = expected * NEAR if expected else guessed(bench, seconds) * FIRST
    return climbed(lambda rate: step(bench, rate, seconds, seed), first)


def climbed(take: TakeStep, first: float) -> Climb:
    """Rise from the first rate to one that fails each time, or sink to one that does not; then once to halfway."""
    steps = [_tried(take, first)]
    while not steps[-1].sustained and len(steps) <= TRIES_DOWN:
        steps.append(_tried(take, steps[-1].offered * DOWN))
    while all(step.sustained for step in steps) and len(steps) <= TRIES_UP:
        steps.append(_tried(take, steps[-1].offered * UP))
    good = [step.offered for step in steps if step.sustained]
    failed = [step.offered for step in steps if not step.sustained]
    if good and failed:
        steps.append(take((max(good) * min(failed)) ** 0.5))
    return Climb(tuple(steps))


def _tried(take: TakeStep, rate: float) -> Step:
    for _ in range(TRIES - 1):
        if (taken := take(rate)).sustained:
            return taken
    return take(rate)


def guessed(bench: Bench, seconds: float) -> float:
    """Answers a second in a closed loop: near the limit, on the low side for a server that fills its batches."""
    run = bench.closed_loop(WRITERS, seconds)
    return max(1.0, float(run.good.sum()) / seconds)


def step(bench: Bench, rate: float, seconds: float, seed: int) -> Step:
    """Offer one rate."""
    run = bench.open_loop(Phase(rate=rate, seconds=seconds), seed=seed, timeout=GIVE_UP)
    return Step(rate, seconds, run)
