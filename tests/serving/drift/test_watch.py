"""Drift in a running service: measured from its store in the background, told as gauges, and harmless when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.bundle import Bundle, load_bundle
from serving.drift.config import DriftConfig
from serving.drift.watch import DriftWatch
from serving.operation.metrics import Metrics
from serving.policy import Policy, load_policy
from serving.store.database import Database, open_database
from tests.serving.drift.referenced import sentence
from tests.serving.drift.test_live import keep

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
CONFIG = DriftConfig(least_messages=50, least_conversations=20, permutations=19, messages=300)


@dataclass
class Serving:
    bundle: Bundle
    policy: Policy


@pytest.fixture(scope="module")
def serving(referenced: Path) -> Serving:
    bundle = load_bundle(referenced)
    return Serving(bundle, load_policy(bundle.card.labels))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    database, rng = open_database(f"sqlite:///{tmp_path}/simmer.db"), np.random.default_rng(2)
    for number in range(80):
        keep(database, f"c{number}", NOW - timedelta(days=number % 14), [sentence(rng)] * 2)
    yield database
    database.close()


def gauges(metrics: Metrics) -> dict[str, float]:
    text = metrics.exposition()[0].decode()
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("simmer_drift")
    }


def test_it_is_measured_and_told(store: Database, serving: Serving) -> None:
    watch, metrics = DriftWatch(store, lambda: serving, CONFIG, lambda: NOW), Metrics()
    watch.watch_gauges(metrics)
    assert gauges(metrics) == {}
    found = asyncio.run(watch.check())
    watch.close()
    assert found is not None
    assert (found.window.messages, found.before.messages) == (84, 64)
    told = gauges(metrics)
    assert told["simmer_drift_checked_at"] == NOW.timestamp()
    assert told["simmer_drift_psi tokens"] >= 0
    assert 0 <= told["simmer_drift_auc training"] <= 1
    assert told["simmer_drift_verdict"] in (0, 1, 2)
    assert "simmer_drift_psi frustration" not in told  # the store's answers are another model's


def test_what_was_measured_before_stays_when_measuring_fails(store: Database, serving: Serving) -> None:
    times = iter([NOW, None])
    watch = DriftWatch(store, lambda: serving, CONFIG, lambda: next(times))  # type: ignore[arg-type,return-value]
    first = asyncio.run(watch.check())
    assert asyncio.run(watch.check()) is None
    watch.close()
    assert watch.latest is first is not None


def test_a_model_that_does_not_say_what_it_was_made_for_is_not_measured(store: Database, toy: Path) -> None:
    bundle = load_bundle(toy)
    watch = DriftWatch(store, lambda: Serving(bundle, load_policy(bundle.card.labels)), CONFIG, lambda: NOW)
    assert asyncio.run(watch.check()) is None
    watch.close()


def test_it_measures_again_and_again_unless_it_is_told_never_to(store: Database, serving: Serving) -> None:
    often = CONFIG.model_copy(update={"every_minutes": 1e-6})
    seen: list[int] = []

    def asked() -> Serving:
        seen.append(1)
        return serving

    async def run(config: DriftConfig) -> None:
        watch = DriftWatch(store, asked, config, lambda: NOW)
        task = asyncio.create_task(watch.run(first=0))
        while config.every_minutes is not None and len(seen) < 3:
            await asyncio.sleep(0.01)
        task.cancel() if config.every_minutes else await task
        await asyncio.gather(task, return_exceptions=True)
        watch.close()

    asyncio.run(run(often))
    seen.clear()
    asyncio.run(run(CONFIG.model_copy(update={"every_minutes": None})))
    assert not seen
