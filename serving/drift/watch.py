"""Drift as a running service knows it: measured now and then from the store, told as gauges.

The work is done in a thread of its own, on a bounded sample, in small steps with a rest after each. It fails alone:
what was measured before stays, and the time of it tells how old it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pipeline.bundle import Bundle
from serving.drift.config import DriftConfig
from serving.drift.live import read_span, seen_of, span_until
from serving.drift.measure import made_for, measure
from serving.drift.shapes import Drift
from serving.operation.metrics import Metrics
from serving.policy import Policy
from serving.store.database import Database

logger = logging.getLogger("simmer.drift")

BREATH_S = 0.01  # of rest after a few messages: they take a few milliseconds, which requests would wait for
FIRST_S = 60.0  # after the start, when there is less to do
SAYS = ("nothing", "look", "retrain")


class Serving(Protocol):
    """The model that serves, with the policy in force."""

    @property
    def bundle(self) -> Bundle: ...
    @property
    def policy(self) -> Policy: ...


@dataclass(frozen=True)
class _Asked:
    """What is measured against, taken at one moment."""

    bundle: Bundle
    policy: Policy


class DriftWatch:
    """Measures for ever, unless `every_minutes` is null."""

    def __init__(
        self, database: Database, serving: Callable[[], Serving], config: DriftConfig, now: Callable[[], datetime]
    ) -> None:
        self._database, self._serving, self._config, self._now = database, serving, config, now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="simmer-drift")
        self._latest: Drift | None = None

    @property
    def latest(self) -> Drift | None:
        """What was measured last."""
        return self._latest

    async def run(self, first: float = FIRST_S) -> None:
        """Measure until cancelled."""
        if self._config.every_minutes is None:
            return
        await asyncio.sleep(first)
        while True:
            await self.check()
            await asyncio.sleep(60 * self._config.every_minutes)

    async def check(self) -> Drift | None:
        """Measure once; None where it failed, or where the model does not say what it was made for."""
        scorer = self._serving()
        asked = _Asked(scorer.bundle, scorer.policy)
        if asked.bundle.card.reference is None:
            self._latest = None
            return None
        try:
            self._latest = await asyncio.get_running_loop().run_in_executor(self._thread, self._measure, asked)
        except Exception:
            logger.exception("drift could not be measured; it is tried again")
            return None
        verdict = self._latest.verdict
        logger.info("drift: %s (%s)", verdict.headline, "; ".join(verdict.reasons))
        return self._latest

    def close(self) -> None:
        """Take nothing more; what is under way ends with the process."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def watch_gauges(self, metrics: Metrics) -> None:
        """Tell what was measured whenever metrics are asked; nothing before the first time."""
        metrics.watch("simmer_drift_psi", self._indices)
        metrics.watch("simmer_drift_auc", self._told)
        metrics.watch("simmer_drift_verdict", self._said)
        metrics.watch("simmer_drift_checked_at", self._checked)

    def _measure(self, asked: _Asked) -> Drift:
        now, config, bundle = self._now(), self._config, asked.bundle
        span = span_until(now, config.window_days)
        made = made_for(bundle.card, asked.policy, bundle.digest, bundle.version)
        windows = []
        for part in (span, span.before()):
            with self._database.reading.begin() as connection:
                said = read_span(connection, part, config.messages)
            windows.append(seen_of(said, bundle.predictor.encoder, bundle.card.labels, bundle.digest, BREATH_S))
        return measure(windows[0], windows[1], made, config, now, span)

    def _indices(self) -> dict[str, float]:
        features = self._latest.features if self._latest else ()
        found = ((one.name, one.against_training) for one in features)
        return {name: moved.excess for name, moved in found if moved.level != "too_few"}

    def _told(self) -> dict[str, float]:
        found: dict[str, float] = {one.against: one.auc for one in (self._latest.classifiers if self._latest else ())}
        return found

    def _said(self) -> dict[tuple[str, ...], float]:
        says = self._latest.verdict.says if self._latest else None
        return {(): float(SAYS.index(says))} if says in SAYS else {}

    def _checked(self) -> dict[tuple[str, ...], float]:
        return {(): self._latest.checked_at.timestamp()} if self._latest else {}
