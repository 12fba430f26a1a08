"""Readiness: red within seconds when a check fails, lies or hangs, green again afterwards, and never a pile-up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.bundle import Bundle
from pipeline.engine import Engine
from pipeline.predictor import Predictor
from serving.operation.health import Health, HealthConfig, NotReady, in_thread
from serving.policy import load_policy
from serving.scorer import Scorer

QUICK = HealthConfig(every_s=0.02, timeout_s=0.1, fresh_s=0.0, answer_s=0.2)


class Check:
    """A check that does what it is told, and counts."""

    def __init__(self) -> None:
        self.runs, self.fails_with, self.hangs = 0, None, False
        self.fails_with: Exception | None
        self.at_once = self.most_at_once = 0

    async def __call__(self) -> None:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(3600 if self.hangs else 0.001)
            if self.fails_with is not None:
                raise self.fails_with
        finally:
            self.at_once -= 1


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


async def until(health: Health, ready: bool, within: float = 2.0) -> None:
    """Return once the report says so without being asked to renew anything."""
    began = time.monotonic()
    while health.report().ready != ready:
        assert time.monotonic() - began < within, health.report()
        await asyncio.sleep(0.005)


def test_it_is_not_ready_before_its_checks_ran() -> None:
    health = Health(QUICK)
    assert health.report().ready
    health.add("model", Check())
    assert health.report().reason == "model: has not run yet"


@pytest.mark.parametrize("error", [NotReady("wrong answers"), RuntimeError("wrong answers"), ValueError()])
def test_red_when_a_check_fails_and_green_again(error: Exception) -> None:
    async def scenario() -> None:
        health, model, store = Health(QUICK), Check(), Check()
        health.add("model", model)
        health.add("store", store)
        watching = asyncio.create_task(health.watch())
        await until(health, ready=True)
        model.fails_with = error
        await until(health, ready=False)
        report = health.report()
        assert report.reason == f"model: {str(error) or 'ValueError'}"
        assert (report.checks["model"].ok, report.checks["store"].ok) == (False, True)
        model.fails_with = None
        await until(health, ready=True)
        watching.cancel()

    run(scenario)


def test_red_when_a_check_hangs_and_green_again() -> None:
    async def scenario() -> None:
        health, model, store = Health(QUICK), Check(), Check()
        health.add("model", model)
        health.add("store", store)
        watching = asyncio.create_task(health.watch())
        await until(health, ready=True)
        model.hangs = True
        await until(health, ready=False)
        assert "no answer within" in (health.report().reason or "")
        seen = store.runs
        await asyncio.sleep(0.5)
        assert store.runs > seen, "the other check goes on"
        model.hangs = False
        await until(health, ready=True)
        watching.cancel()

    run(scenario)


def test_a_result_that_is_old_no_longer_counts() -> None:
    async def scenario() -> None:
        clock = [100.0]
        health = Health(HealthConfig(every_s=5, timeout_s=3), now=lambda: clock[0])
        health.add("model", Check())
        assert (await health.ask()).ready
        clock[0] += 16
        assert health.report().ready
        clock[0] += 1
        assert health.report().reason == "model: last well 17 s ago"
        assert (await health.ask()).ready

    run(scenario)


def test_many_who_ask_share_one_run() -> None:
    async def scenario() -> None:
        health, model = Health(QUICK.model_copy(update={"fresh_s": 60.0})), Check()
        health.add("model", model)
        reports = await asyncio.gather(*(health.ask() for _ in range(50)))
        assert all(report.ready for report in reports)
        assert (model.runs, model.most_at_once) == (1, 1)
        await health.ask()
        assert model.runs == 1

    run(scenario)


def test_a_question_is_answered_in_time_whatever_hangs() -> None:
    async def scenario() -> None:
        health, model = Health(HealthConfig(timeout_s=60, answer_s=0.1)), Check()
        model.hangs = True
        health.add("model", model)
        began = time.monotonic()
        assert not (await health.ask()).ready
        assert time.monotonic() - began < 1

    run(scenario)


def test_stopping_is_for_good() -> None:
    async def scenario() -> None:
        health, model = Health(QUICK), Check()
        health.add("model", model)
        assert (await health.ask()).ready
        health.stop("draining")
        health.stop("something else")
        runs = model.runs
        assert (await health.ask()).reason == "draining"
        assert model.runs == runs

    run(scenario)


def test_a_blocking_check_that_hangs_is_one_thread_and_no_more() -> None:
    release = threading.Event()

    def blocking() -> None:
        release.wait(10)

    async def scenario() -> None:
        before = threading.active_count()
        health = Health(QUICK)
        health.add("store", in_thread(blocking))
        watching = asyncio.create_task(health.watch())
        await asyncio.sleep(0.6)
        assert threading.active_count() == before + 1
        assert health.report().reason == "store: the run before has not come back"
        release.set()
        await until(health, ready=True)
        watching.cancel()

    run(scenario)


def test_a_blocking_check_tells_what_went_wrong() -> None:
    def broken() -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        with pytest.raises(OSError, match="No space left"):
            await in_thread(broken)()
        await in_thread(lambda: None)()

    run(scenario)


class Moody:
    """An engine that gives right answers, wrong ones, NaN, an exception, or none at all."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.mood, self.woken = engine, "well", threading.Event()

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.mood == "raises":
            raise RuntimeError("engine down")
        if self.mood == "hangs":
            self.woken.wait(10)
        logits = self.engine.run(ids, segments)
        return {"garbage": logits[::-1] * 3, "nan": logits * np.float32("nan")}.get(self.mood, logits)


@pytest.fixture
def moody(bundle: Bundle) -> tuple[Moody, Callable[[], Awaitable[None]]]:
    engine = Moody(bundle.predictor.engine)
    predictor = Predictor(bundle.predictor.encoder, engine, bundle.card.labels, bundle.card.calibration)
    scorer = Scorer(replace(bundle, predictor=predictor), load_policy(bundle.card.labels))
    return engine, in_thread(scorer.ready)


@pytest.mark.parametrize("mood", ["garbage", "nan", "raises", "hangs"])
def test_readiness_follows_the_engine(moody: tuple[Moody, Callable[[], Awaitable[None]]], mood: str) -> None:
    engine, check = moody

    async def scenario() -> None:
        health = Health(HealthConfig(every_s=0.05, timeout_s=1.5, fresh_s=0.0, answer_s=1.0))
        health.add("model", check)
        watching = asyncio.create_task(health.watch())
        await until(health, ready=True, within=5)
        engine.mood = mood
        await until(health, ready=False, within=5)
        engine.mood = "well"
        engine.woken.set()
        await until(health, ready=True, within=5)
        watching.cancel()

    run(scenario)
