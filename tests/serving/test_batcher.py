"""The batcher: each caller gets its own rows, at once or in time, whatever the others and the engine do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.encode import Encoder, EncodingConfig, Input
from pipeline.heads import no_calibration, sigmoid
from pipeline.predictor import Predictor
from pipeline.text import Cleaned
from pipeline.vocabulary import Head, Hot, Vocabulary
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, load_tokenizer
from serving.batcher import (
    Batcher,
    BatcherConfig,
    Closed,
    DeadlinePassed,
    EngineFailed,
    Observer,
    Overloaded,
    Rank,
)

FLAGS = Head(kind="multilabel", values=("loud", "late"), wording="")
VOCABULARY = Vocabulary(heads={"flags": FLAGS}, hot=Hot(frustration=2, signals=(), horizon=3))
ENCODING = EncodingConfig(max_tokens=64, message_tokens=60, turn_tokens=8, earlier_turns=1)
ENCODER = Encoder(load_tokenizer(TrainedEncoder(name=BUNDLED_ENCODER)), ENCODING)
QUICK = BatcherConfig(streams=2, batch_tokens=64, warm_seconds=0)
WAIT = 5.0  # seconds; longer means that something hangs


class Fake:
    """Logits are two small functions of the ids. It can be held, and breaks on words it is told to break on."""

    def __init__(self, breaks: str = "", blind: str = "", error: type[BaseException] = RuntimeError) -> None:
        self.breaks, self.blind, self.error = ids(breaks), ids(blind), error
        self.batches: list[NDArray[np.int64]] = []
        self.go = threading.Event()
        self.go.set()
        self.running = threading.Semaphore(0)

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        self.batches.append(ids)
        self.running.release()
        assert self.go.wait(WAIT)
        if np.isin(ids, list(self.breaks)).any():
            raise self.error("a row that breaks the run")
        logits = np.stack([ids.sum(axis=1) % 97, ids.sum(axis=1) % 89], axis=1).astype(np.float32) / 50
        logits[np.isin(ids, list(self.blind)).any(axis=1)] = np.nan
        return logits

    @property
    def rows(self) -> int:
        return sum(map(len, self.batches))


class Watch:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def took(self, stage: str, seconds: float) -> None:
        self.said.append(("took", stage))

    def ran(self, rows: int, tokens: int, seconds: float) -> None:
        self.said.append(("ran", rows, tokens))

    def hit(self, inputs: int) -> None:
        self.said.append(("hit", inputs))

    def shed(self, reason: str) -> None:
        self.said.append(("shed", reason))


def ids(word: str) -> set[int]:
    return set(ENCODER.encode(said(word)).ids[1:-1]) if word else set()


def said(text: str) -> Input:
    return Input(Cleaned(text), ())


def wanted(text: str) -> list[float]:
    total = sum(ENCODER.encode(said(text)).ids)
    return sigmoid(np.array([total % 97, total % 89]).astype(np.float32) / 50).tolist()


def serve(
    engine: Fake,
    work: Callable[[Batcher], Awaitable[None]],
    config: BatcherConfig = QUICK,
    observer: Observer | None = None,
) -> None:
    """Run some work with a batcher that is started before and closed after."""

    async def run() -> None:
        batcher = Batcher(Predictor(ENCODER, engine, VOCABULARY, no_calibration(VOCABULARY)), config, observer)
        batcher.start()
        try:
            async with asyncio.timeout(2 * WAIT):
                await work(batcher)
        finally:
            engine.go.set()
            await batcher.close()

    asyncio.run(run())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not true():
            await asyncio.sleep(0.002)


async def hold(engine: Fake, batcher: Batcher, streams: int = 1) -> list[asyncio.Task[object]]:
    """Keep the streams busy with rows of their own until `engine.go` is set."""
    engine.go.clear()
    while engine.running.acquire(blocking=False):
        pass
    tasks = []
    for number in range(streams):
        tasks.append(asyncio.create_task(batcher.predict([said(f"busy {number} " * 20)])))
        await until(lambda: engine.running.acquire(blocking=False))
    return tasks


def one(**values: object) -> BatcherConfig:
    return BatcherConfig.model_validate(QUICK.model_dump() | {"streams": 1} | values)


TEXTS = st.lists(st.sampled_from(["no", "ok thanks", "where is it", "still no refund " * 5, "gone " * 50]), max_size=8)


@settings(max_examples=40, deadline=None)
@given(callers=st.lists(TEXTS, max_size=12), streams=st.integers(1, 3), entries=st.sampled_from([0, 2, 100]))
def test_every_caller_gets_its_own_rows(callers: Sequence[Sequence[str]], streams: int, entries: int) -> None:
    async def work(batcher: Batcher) -> None:
        answers = await asyncio.gather(*(batcher.predict([said(text) for text in texts]) for texts in callers))
        for texts, answer in zip(callers, answers, strict=True):
            assert answer.shape == (len(texts), 2)
            assert answer.tolist() == [pytest.approx(wanted(text), abs=1e-6) for text in texts]

    config = BatcherConfig(streams=streams, batch_tokens=64, request_tokens=80, cache_entries=entries, warm_seconds=0)
    serve(Fake(), work, config)


def test_equal_inputs_in_flight_are_run_once() -> None:
    engine, watch = Fake(), Watch()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        asked = [asyncio.create_task(batcher.predict([said("again"), said("again")])) for _ in range(5)]
        await until(lambda: ("hit", 2) in watch.said)
        assert batcher.waiting == 1
        engine.go.set()
        for answer in await asyncio.gather(*asked):
            assert answer.tolist() == [pytest.approx(wanted("again"))] * 2
        await asyncio.gather(*busy)
        assert engine.rows == 2

    serve(engine, work, one(cache_entries=0), watch)


def test_what_was_seen_is_answered_from_the_cache() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        first = await batcher.predict([said("seen")])
        assert (await batcher.predict([said("seen")])).tolist() == first.tolist()
        assert engine.rows == 1
        with pytest.raises(ValueError, match="read-only"):
            first[0, 0] = 9
        await batcher.predict([said("two")])
        await batcher.predict([said("three")])
        await batcher.predict([said("seen")])  # forgotten by now
        assert engine.rows == 4

    serve(engine, work, one(cache_entries=2))


def test_under_load_batches_fill() -> None:
    engine, watch = Fake(), Watch()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        asked = [asyncio.create_task(batcher.predict([said(f"number {n}")])) for n in range(16)]
        await until(lambda: batcher.waiting == 16)
        engine.go.set()
        await asyncio.gather(*busy, *asked)
        assert [len(batch) for batch in engine.batches[1:]] == [8, 8]

    serve(engine, work, one(), watch)
    assert ("ran", 8, 64) in watch.said
    assert watch.said.count(("took", "queue")) == 17


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_poisoned_row_fails_alone(error: type[BaseException]) -> None:
    engine = Fake(breaks="poison", blind="fog", error=error)

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        texts = ["fine", "poison", "well", "fog", "good", "poison"]
        asked = [asyncio.create_task(batcher.predict([said(text)])) for text in texts]
        await until(lambda: batcher.waiting == 5)
        engine.go.set()
        for text, answer in zip(texts, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if text in ("poison", "fog"):
                assert isinstance(answer, EngineFailed)
            else:
                assert answer.tolist() == [pytest.approx(wanted(text))]
        await asyncio.gather(*busy)
        assert (await batcher.predict([said("after")])).tolist() == [pytest.approx(wanted("after"))]

    serve(engine, work, one())


def test_failures_are_not_remembered() -> None:
    engine = Fake(breaks="poison")

    async def work(batcher: Batcher) -> None:
        with pytest.raises(EngineFailed):
            await batcher.predict([said("poison")])
        engine.breaks = set()
        assert (await batcher.predict([said("poison")])).tolist() == [pytest.approx(wanted("poison"))]

    serve(engine, work)


def test_a_stream_that_dies_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    class Deadly(Watch):
        def ran(self, rows: int, tokens: int, seconds: float) -> None:
            raise RuntimeError("an observer that breaks")

    async def work(batcher: Batcher) -> None:
        for text in ("one", "two", "three"):
            assert (await batcher.predict([said(text)])).tolist() == [pytest.approx(wanted(text))]

    with caplog.at_level(logging.ERROR):
        serve(Fake(), work, one(), Deadly())
    assert "a stream of the engine died" in caplog.text


def test_overload_is_said_at_once_and_passes() -> None:
    engine, watch = Fake(), Watch()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        asked = [asyncio.create_task(batcher.predict([said(f"number {n}")])) for n in range(8)]
        await until(lambda: batcher.waiting == 8)
        with pytest.raises(Overloaded) as refused:
            await batcher.predict([said("too many")])
        assert refused.value.retry_after > 0
        await batcher.predict([])  # nothing to do is no load
        engine.go.set()
        await asyncio.gather(*busy, *asked)
        assert (await batcher.predict([said("too many")])).shape == (1, 2)

    serve(engine, work, one(waiting_tokens=64), watch)
    assert watch.said.count(("shed", "overload")) == 1


def test_spare_rows_leave_room_for_live_ones() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        spare = [asyncio.create_task(batcher.predict([said(f"spare {n}")], rank=Rank.SPARE)) for n in range(4)]
        await until(lambda: batcher.waiting == 4)
        with pytest.raises(Overloaded):
            await batcher.predict([said("one more")], rank=Rank.SPARE)
        live = asyncio.create_task(batcher.predict([said("live")]))
        await until(lambda: batcher.waiting == 5)
        engine.go.set()
        await asyncio.gather(*busy, *spare, live)

    serve(engine, work, one(waiting_tokens=64))


def test_a_request_larger_than_the_queue_is_served_in_portions() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        texts = [f"row {n}" for n in range(200)]
        asked = asyncio.create_task(batcher.predict([said(text) for text in texts]))
        most = 0
        while not asked.done():
            most = max(most, batcher.waiting)
            await asyncio.sleep(0)
        assert asked.result().tolist() == [pytest.approx(wanted(text), abs=1e-6) for text in texts]
        assert most <= 8

    serve(engine, work, one(waiting_tokens=64, request_tokens=64))


def test_whoever_waits_too_long_is_told_and_not_run() -> None:
    engine, watch = Fake(), Watch()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        started = time.monotonic()
        with pytest.raises(DeadlinePassed):
            await batcher.predict([said("hurry")], started + 0.05)
        assert time.monotonic() - started < 1
        assert batcher.waiting == 0
        with pytest.raises(DeadlinePassed):
            await batcher.predict([said("too late")], started - 1)
        engine.go.set()
        await asyncio.gather(*busy)
        await batcher.predict([said("patient")], time.monotonic() + WAIT)
        assert engine.rows == 2

    serve(engine, work, one(), watch)
    assert watch.said.count(("shed", "deadline")) == 2


def test_one_impatient_caller_does_not_take_the_row_from_another() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        patient = asyncio.create_task(batcher.predict([said("shared")]))
        with pytest.raises(DeadlinePassed):
            await batcher.predict([said("shared")], time.monotonic() + 0.03)
        engine.go.set()
        assert (await patient).tolist() == [pytest.approx(wanted("shared"))]
        await asyncio.gather(*busy)

    serve(engine, work, one())


def test_cancelled_callers_are_dropped() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        asked = [asyncio.create_task(batcher.predict([said(f"gone {n}"), said("shared")])) for n in range(5)]
        kept = asyncio.create_task(batcher.predict([said("shared")]))
        await until(lambda: batcher.waiting == 6)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert batcher.waiting == 1
        engine.go.set()
        assert (await kept).tolist() == [pytest.approx(wanted("shared"))]
        await asyncio.gather(*busy)
        assert engine.rows == 2

    serve(engine, work, one())


def test_an_old_row_is_not_passed_over_for_fuller_batches() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        old = asyncio.create_task(batcher.predict([said("long " * 55)]))
        await until(lambda: batcher.waiting == 1)
        short = [asyncio.create_task(batcher.predict([said(f"short {n}")])) for n in range(40)]
        await until(lambda: batcher.waiting == 41)
        engine.go.set()
        await asyncio.gather(*busy, old, *short)
        assert engine.batches[1].shape == (1, 64)

    serve(engine, work, one())


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"rank": Rank.PROBE}, {}),
        ({}, {"rank": Rank.SPARE}),
        ({"deadline": 0.3}, {}),
        ({"deadline": 0.3}, {"rank": Rank.SPARE}),
    ],
)
def test_what_is_urgent_overtakes(first: dict[str, float], last: dict[str, float]) -> None:
    engine = Fake()

    def asks(batcher: Batcher, text: str, how: dict[str, float]) -> asyncio.Task[object]:
        due = {"deadline": time.monotonic() + how["deadline"]} if "deadline" in how else {}
        return asyncio.create_task(batcher.predict([said(text)], **{**how, **due}))

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        late = asks(batcher, "late " * 50, last)
        await until(lambda: batcher.waiting == 1)
        early = asks(batcher, "early", first)
        await until(lambda: batcher.waiting == 2)
        engine.go.set()
        await asyncio.gather(*busy, late, early)
        assert engine.batches[1].shape[1] == 8

    serve(engine, work, one())


def test_a_probe_is_run_whatever_waits_and_whatever_was_seen() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        await batcher.predict([said("probe")])
        busy = await hold(engine, batcher)
        asked = [asyncio.create_task(batcher.predict([said(f"number {n}")])) for n in range(8)]
        await until(lambda: batcher.waiting == 8)
        probe = asyncio.create_task(batcher.predict([said("probe")], rank=Rank.PROBE))
        await until(lambda: batcher.waiting == 9)
        engine.go.set()
        assert (await probe).tolist() == [pytest.approx(wanted("probe"))]
        await asyncio.gather(*busy, *asked)
        assert engine.rows == 11

    serve(engine, work, one(waiting_tokens=64))


def test_closing_answers_what_was_taken_and_takes_nothing_more() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        asked = asyncio.create_task(batcher.predict([said(f"row {n}") for n in range(40)]))
        await until(lambda: batcher.waiting > 0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.02)
        with pytest.raises(Closed):
            await batcher.predict([said("late")])
        engine.go.set()
        await closing
        assert (await asked).shape == (40, 2)
        await asyncio.gather(*busy)

    serve(engine, work, one(request_tokens=64))


@pytest.mark.parametrize("how", [{"drain": False}, {"patience": 0.05}])
def test_closing_refuses_what_waits_when_it_must(how: dict[str, float]) -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        asked = asyncio.create_task(batcher.predict([said("waits")]))
        await until(lambda: batcher.waiting == 1)
        closing = asyncio.create_task(batcher.close(**how))
        with pytest.raises(Closed):
            await asked
        engine.go.set()
        await asyncio.gather(closing, *busy)

    serve(engine, work, one())


def test_closing_does_not_wait_for_a_stream_that_hangs() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        busy = await hold(engine, batcher)
        started = time.monotonic()
        await batcher.close(patience=0.05)
        assert time.monotonic() - started < WAIT / 2
        engine.go.set()
        await asyncio.gather(*busy)

    serve(engine, work, one())


def test_shapes_are_run_before_anything_else() -> None:
    engine = Fake()

    async def work(batcher: Batcher) -> None:
        await batcher.predict([said("first")])

    serve(engine, work, one(warm_seconds=WAIT))
    warmed = [batch.shape for batch in engine.batches[:-1]]
    assert warmed[0] == (1, 8)
    assert {(8, 8), (1, 64), (2, 32)} <= set(warmed)


def test_an_engine_that_breaks_while_warming_still_serves() -> None:
    engine = Fake(breaks="poison")
    engine.breaks = {1}

    async def work(batcher: Batcher) -> None:
        assert (await batcher.predict([said("fine")])).tolist() == [pytest.approx(wanted("fine"))]

    serve(engine, work, one(warm_seconds=WAIT))


def test_long_texts_are_encoded_beside_the_event_loop() -> None:
    async def work(batcher: Batcher) -> None:
        text = "gone " * 5000
        assert (await batcher.predict([said(text)])).tolist() == [pytest.approx(wanted(text))]

    serve(Fake(), work)


def test_streams_are_one_a_core_unless_said() -> None:
    assert BatcherConfig(streams=3).stream_count() == 3
    assert BatcherConfig().stream_count() >= 1
    assert BatcherConfig(threads=1000).stream_count() == 1


def test_large_requests_leave_room_for_small_ones() -> None:
    class Slow(Fake):
        def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
            time.sleep(0.004)
            return super().run(ids, segments)

    async def work(batcher: Batcher) -> None:
        large = [
            asyncio.create_task(batcher.predict([said(f"{number} {row}") for row in range(60)])) for number in range(6)
        ]
        await asyncio.sleep(0.05)
        for number in range(20):
            await batcher.predict([said(f"small {number}")])
        assert not all(task.done() for task in large)
        assert [len(found) for found in await asyncio.gather(*large)] == [60] * 6

    serve(Slow(), work, one(batch_tokens=8, waiting_tokens=96, request_tokens=16))


def test_a_portion_that_waits_for_its_turn_keeps_to_the_deadline() -> None:
    async def work(batcher: Batcher) -> None:
        busy = asyncio.create_task(batcher.predict([said(f"busy {row}") for row in range(20)]))
        await until(lambda: len(engine.batches) > 4)
        engine.go.clear()
        with pytest.raises(DeadlinePassed):
            await batcher.predict([said(f"late {row}") for row in range(20)], time.monotonic() + 0.1)
        engine.go.set()
        await busy

    engine = Fake()
    serve(engine, work, one(batch_tokens=8, waiting_tokens=32, request_tokens=16))
