"""The live scorer: it says what the scorer says, to many at a time, and tells when the engine is wrong or dead."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.bundle import Bundle, BundleRefused
from pipeline.engine import Engine
from pipeline.predictor import Predictor
from serving.batcher import Batcher, BatcherConfig, Closed, DeadlinePassed
from serving.policy import load_policy
from serving.scorer import MANY, Job, LiveScorer, Scorer, every_turn, last_turn
from tests.serving.test_scorer import ABSTAINED, BATCH_TOLERANCE, MESSAGES, said, talk

CONFIG = BatcherConfig(streams=1, warm_seconds=0)


class Spoiled:
    """An engine that answers wrongly, breaks, or hangs until it is let go."""

    def __init__(self, engine: Engine, how: str) -> None:
        self.engine, self.how, self.go = engine, how, threading.Event()

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.how == "hangs":
            self.go.wait(5)
        if self.how == "breaks":
            raise RuntimeError("broken")
        return self.engine.run(ids, segments) + np.float32(3 if self.how == "wrong" else 0)


def with_live(scorer: Scorer, work: Callable[[LiveScorer], Awaitable[object]], config: BatcherConfig = CONFIG) -> None:
    async def run() -> None:
        batcher = Batcher(scorer.bundle.predictor, config)
        batcher.start()
        try:
            await work(LiveScorer(scorer, batcher))
        finally:
            await batcher.close(patience=1)

    asyncio.run(run())


def spoiled(bundle: Bundle, how: str) -> tuple[Scorer, Spoiled]:
    engine = Spoiled(bundle.predictor.engine, how)
    predictor = Predictor(bundle.predictor.encoder, engine, bundle.card.labels, bundle.card.calibration)
    return Scorer(replace(bundle, predictor=predictor), load_policy(bundle.card.labels)), engine


def test_a_lone_message_is_answered_as_by_the_scorer(scorer: Scorer) -> None:
    async def work(live: LiveScorer) -> None:
        for text in MESSAGES:
            found, wanted = (await live.score(last_turn(said(text))))[0], scorer.score(last_turn(said(text)))[0]
            assert found.id == wanted.id
            assert found.signals
            assert wanted.signals
            assert list(found.signals.values()) == pytest.approx(list(wanted.signals.values()), abs=BATCH_TOLERANCE)
            assert found.priority.score == pytest.approx(wanted.priority.score, abs=100 * BATCH_TOLERANCE)

    with_live(scorer, work)


def test_equal_probabilities_give_equal_bytes(scorer: Scorer) -> None:
    jobs = [job for text in MESSAGES for job in last_turn(said(text))]

    async def work(live: LiveScorer) -> None:
        readings = await live.read(jobs)
        chances = await live.batcher.predict(readings)
        wanted = [answer.model_dump_json() for answer in scorer.answers(jobs, readings, chances)]
        assert [answer.model_dump_json() for answer in await live.score(jobs)] == wanted

    with_live(scorer, work)


@pytest.mark.parametrize("times", [1, MANY])
def test_many_jobs_are_answered_in_order_abstentions_among_them(scorer: Scorer, times: int) -> None:
    texts = [MESSAGES[0], ABSTAINED[0][0], MESSAGES[1], "x" * 10_000, ABSTAINED[4][0]] * times
    jobs = [Job(said(text).model_copy(update={"id": f"m{n}"}), 0) for n, text in enumerate(texts)]

    async def work(live: LiveScorer) -> None:
        found = await live.score(jobs)
        assert [answer.id for answer in found] == [job.conversation.id for job in jobs]
        assert [answer.abstained for answer in found] == [answer.abstained for answer in scorer.score(jobs)]

    with_live(scorer, work)


def test_a_conversation_without_a_customer_needs_no_engine(bundle: Bundle) -> None:
    scorer, _ = spoiled(bundle, "breaks")

    async def work(live: LiveScorer) -> None:
        found = await live.score(every_turn(talk(("agent", "Hello?"))))
        assert [answer.abstained.reason for answer in found if answer.abstained] == ["no_customer_text"]

    with_live(scorer, work)


def test_a_sound_engine_is_ready(scorer: Scorer) -> None:
    with_live(scorer, lambda live: live.ready())


@pytest.mark.parametrize(("how", "says"), [("wrong", "drifted"), ("breaks", "failed"), ("hangs", "said nothing")])
def test_a_spoiled_engine_is_not_ready(bundle: Bundle, how: str, says: str) -> None:
    scorer, engine = spoiled(bundle, how)

    async def work(live: LiveScorer) -> None:
        with pytest.raises(BundleRefused, match=says):
            await live.ready(patience=0.5)
        engine.go.set()

    with_live(scorer, work)


def test_readiness_does_not_wait_behind_the_queue(scorer: Scorer) -> None:
    async def work(live: LiveScorer) -> None:
        jobs = [
            Job(said(f"Where is parcel number {n}? It was due on Monday, and I wait still."), 0) for n in range(300)
        ]
        asked = asyncio.create_task(live.score(jobs))
        while not live.batcher.waiting:
            await asyncio.sleep(0.001)
        await live.ready()
        assert not asked.done()
        await asked

    with_live(scorer, work)


def test_a_deadline_holds(bundle: Bundle) -> None:
    scorer, engine = spoiled(bundle, "hangs")

    async def work(live: LiveScorer) -> None:
        with pytest.raises(DeadlinePassed):
            await live.score(last_turn(said(MESSAGES[0])), time.monotonic() + 0.05)
        engine.go.set()

    with_live(scorer, work)


def test_a_closed_one_says_so(scorer: Scorer) -> None:
    async def work(live: LiveScorer) -> None:
        await live.batcher.close()
        for asked in (live.score(last_turn(said("hello"))), live.ready()):
            with pytest.raises(Closed):
                await asked

    with_live(scorer, work)
