"""Micro-batching: the inputs of many callers share runs of the engine, on several streams, and nobody waits for more.

    predict    encode, look in the cache, join an equal input in flight, or wait in a bucket of like length
    streams    threads that take the most urgent batch as soon as they are free, run it and hand the rows back

A free stream takes what is there, so a lone input is not delayed; under load batches fill by themselves. A row that
breaks a run is run alone and fails alone. Knows nothing of conversations, answers or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, Protocol

import numpy as np
from pydantic import Field

from pipeline.config import Config
from pipeline.encode import Encoded, Input
from pipeline.heads import Floats
from pipeline.predictor import Predictor
from serving.buckets import Buckets, padded, shapes

logger = logging.getLogger("simmer.batcher")

_PACE_MEMORY = 0.9  # of the measured pace is kept at each run
_SOONEST_RETRY = 0.05  # seconds
_DRAIN_LOOK = 0.01  # seconds
_JOIN_SECONDS = 1.0
FOREVER = float("inf")


class BatcherConfig(Config):
    """How inputs are batched. Token counts are padded ones.

    `streams` batches run at a time, `auto` being one a core that the process may use (`serving.streams` measures).
    A request has at most `request_tokens` waiting at once, and new ones are turned away above `waiting_tokens`. What
    does not fit into that at once comes in portions, and those behind the first of a request take half the room.
    """

    streams: Literal["auto"] | int = "auto"
    threads: int = Field(default=1, ge=1)  # of each stream
    batch_tokens: int = Field(default=512, ge=8)  # more is hardly faster, and whoever comes next waits for it
    waiting_tokens: int = Field(default=8192, ge=8)
    request_tokens: int = Field(default=2048, ge=8)
    cache_entries: int = Field(default=8192, ge=0)
    offload_characters: int = Field(default=4000, ge=0)  # longer requests are encoded beside the event loop
    patience_seconds: float = Field(default=0.5, gt=0)  # after that long nothing that came later goes first
    spare_seconds: float = Field(default=5.0, gt=0)  # the same for rows of rank SPARE
    warm_seconds: float = Field(default=1.0, ge=0)  # at most, of running every shape once at start

    def stream_count(self) -> int:
        """The number of streams."""
        cores = len(os.sched_getaffinity(0))
        return max(1, cores // self.threads) if self.streams == "auto" else max(1, self.streams)


class Rank(IntEnum):
    """Who goes first. A PROBE is run whatever waits and is never answered from the cache; SPARE lets others pass."""

    PROBE = 0
    LIVE = 1
    SPARE = 2


class Overloaded(Exception):
    """Too much waits already; `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too much waits for the engine; try again in {retry_after:.2f} s")
        self.retry_after = retry_after


class DeadlinePassed(Exception):
    """The deadline passed before the answer was there."""


class Closed(Exception):
    """The batcher takes nothing more."""


class EngineFailed(Exception):
    """The engine raised, or gave no finite numbers, for this input run alone."""


class Observer(Protocol):
    """What the batcher tells of itself; called from its threads and from the event loop, so quick and thread-safe."""

    def took(self, stage: Literal["read", "queue", "answer"], seconds: float) -> None:
        """A request was read or answered, or a row waited for a stream, for so long."""

    def ran(self, rows: int, tokens: int, seconds: float) -> None:
        """A stream ran one batch of `tokens` padded tokens."""

    def hit(self, inputs: int) -> None:
        """Inputs were answered from the cache or by the run of an equal one."""

    def shed(self, reason: Literal["overload", "deadline"]) -> None:
        """A request was turned away, or its deadline passed."""


class Silent:
    """An observer that looks away."""

    def took(self, stage: Literal["read", "queue", "answer"], seconds: float) -> None:
        """Nothing."""

    def ran(self, rows: int, tokens: int, seconds: float) -> None:
        """Nothing."""

    def hit(self, inputs: int) -> None:
        """Nothing."""

    def shed(self, reason: Literal["overload", "deadline"]) -> None:
        """Nothing."""


@dataclass(eq=False, slots=True)
class _Part:
    """What one caller waits for at a time: rows of its results [inputs, outputs], each from a row of ours."""

    results: Floats
    deadline: float
    done: asyncio.Future[None]
    rows: list[_Row] = field(default_factory=list)
    missing: int = 0

    def put(self, position: int, outcome: Floats | Exception) -> None:
        """Take the outcome for one position; the first exception is the outcome of all."""
        if self.done.done():
            return
        if isinstance(outcome, Exception):
            self.done.set_exception(outcome)
            return
        self.results[position] = outcome
        self.missing -= 1
        if not self.missing:
            self.done.set_result(None)


@dataclass(eq=False, slots=True)
class _Row:
    """One distinct input on its way through the engine, and where its probabilities are wanted."""

    key: Hashable
    encoded: Encoded
    length: int
    urgency: float
    queued: float
    wanted: list[tuple[_Part, int]] = field(default_factory=list)

    def deadline(self) -> float:
        """When the last caller stops waiting."""
        return max((part.deadline for part, _ in self.wanted), default=FOREVER)


_Outcome = tuple[_Row, Floats | Exception]


class Batcher:
    """One network, shared by everything that runs in one event loop. `start` it first, `close` it last."""

    def __init__(self, predictor: Predictor, config: BatcherConfig, observer: Observer | None = None) -> None:
        self.config = config
        self._predictor = predictor
        self.observer = observer or Silent()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = threading.Condition()  # held for whatever streams and the event loop share
        self._buckets: Buckets[_Row] = Buckets(config.batch_tokens)
        self._in_flight: dict[Hashable, _Row] = {}
        self._cache = _Cache(config.cache_entries)
        self._count = config.stream_count()
        self._streams: list[threading.Thread] = []
        self._pace = 0.0  # padded tokens a second of one stream, 0 until measured
        self._stopped = False
        self._closing = False
        self._requests = 0
        self._turns = asyncio.Semaphore(max(1, config.waiting_tokens // 2 // config.request_tokens))

    def start(self) -> None:
        """Start the streams, which first run the shapes that batches have, as far as `warm_seconds` reach."""
        for _ in range(self._count):
            self._start_stream(warm=True)

    @property
    def waiting(self) -> int:
        """How many inputs wait for a stream."""
        return len(self._buckets)

    async def predict(self, inputs: Sequence[Input], deadline: float | None = None, rank: Rank = Rank.LIVE) -> Floats:
        """Calibrated probabilities [inputs, outputs], in order; not to be changed.

        `deadline` is a reading of `time.monotonic`. Raises Overloaded at once, DeadlinePassed at the deadline at the
        latest, EngineFailed, and Closed once `close` was called.
        """
        if self._closing:
            raise Closed("the scorer is shutting down")
        self._loop = asyncio.get_running_loop()
        self._requests += 1
        try:
            encoded = await self._encode(inputs)
            results = np.empty((len(inputs), self._predictor.vocabulary.size))
            until = FOREVER if deadline is None else deadline
            for number, positions in enumerate(self._portions(encoded)):
                async with self._turn(number > 0 and rank is not Rank.PROBE, until):
                    part = _Part(results, until, self._loop.create_future())
                    self._submit(part, {position: encoded[position] for position in positions}, rank, number > 0)
                    if part.missing:
                        await self._answered(part)
            results.setflags(write=False)
            return results
        finally:
            self._requests -= 1

    async def close(self, drain: bool = True, patience: float = 30.0) -> None:
        """Take nothing more; answer what was taken, for at most `patience` seconds, or refuse it; stop the streams."""
        self._closing = True
        give_up = time.monotonic() + (patience if drain else 0.0)
        while self._requests and time.monotonic() < give_up:
            await asyncio.sleep(_DRAIN_LOOK)
        with self._changed:
            self._stopped = True
            refused = self._buckets.clear()
            self._changed.notify_all()
        self._settle([(row, Closed("the scorer is shutting down")) for row in refused])
        for stream in self._streams:  # one that hangs in the engine ends with the process
            await asyncio.to_thread(stream.join, _JOIN_SECONDS)

    async def _encode(self, inputs: Sequence[Input]) -> list[Encoded]:
        size = sum(len(given.message.text) + sum(len(turn.text) for turn in given.earlier) for given in inputs)
        if size > self.config.offload_characters:
            return await asyncio.to_thread(self._predictor.encoder.encode_many, inputs)
        return self._predictor.encoder.encode_many(inputs)

    def _portions(self, encoded: Sequence[Encoded]) -> Iterator[list[int]]:
        """Positions in such portions as may wait at once, like lengths together."""
        portion, tokens = list[int](), 0
        for position in sorted(range(len(encoded)), key=lambda position: len(encoded[position].ids)):
            length = padded(len(encoded[position].ids))
            if portion and tokens + length > self.config.request_tokens:
                yield portion
                portion, tokens = [], 0
            portion.append(position)
            tokens += length
        if portion:
            yield portion

    @asynccontextmanager
    async def _turn(self, needed: bool, deadline: float) -> AsyncIterator[None]:
        """The turn of a later portion: were all of them to wait for the engine, no small request would be let in."""
        if not needed:
            yield
            return
        await self._until(deadline, self._turns.acquire())
        try:
            yield
        finally:
            self._turns.release()

    async def _until(self, deadline: float, awaited: Awaitable[object]) -> None:
        """Wait for something until the deadline at the latest. Raises DeadlinePassed."""
        try:
            async with asyncio.timeout(None if deadline == FOREVER else deadline - time.monotonic()):
                await awaited
        except (TimeoutError, DeadlinePassed):
            self.observer.shed("deadline")
            raise DeadlinePassed("the deadline passed before the answer was there") from None

    async def _answered(self, part: _Part) -> None:
        try:
            if part.deadline == FOREVER:
                await part.done  # most of the time, so without what a timeout costs
            else:
                await self._until(part.deadline, part.done)
        finally:
            if part.missing:
                self._abandon(part)

    def _submit(self, part: _Part, encoded: Mapping[int, Encoded], rank: Rank, admitted: bool) -> None:
        """Answer from the cache, join rows in flight and let the others wait; or raise, having changed nothing."""
        keys = {position: _key(one, rank) for position, one in encoded.items()}
        with self._changed:
            if self._stopped:
                raise Closed("the scorer is shutting down")
            hits = {position: hit for position, key in keys.items() if (hit := self._cache.get(key)) is not None}
            missed = {position: key for position, key in keys.items() if position not in hits}
            fresh = {key: encoded[position] for position, key in missed.items() if key not in self._in_flight}
            if fresh and not admitted and rank is not Rank.PROBE:
                self._admit(sum(padded(len(one.ids)) for one in fresh.values()), rank, part.deadline)
            urgency = min(part.deadline, self._patience(rank))
            for key, one in fresh.items():
                self._enter(key, one, urgency)
            for position, key in missed.items():
                self._want(part, position, self._in_flight[key], urgency)
            self._changed.notify(len(fresh))
        for position, hit in hits.items():
            part.results[position] = hit
        if len(keys) > len(fresh):
            self.observer.hit(len(keys) - len(fresh))

    def _admit(self, tokens: int, rank: Rank, deadline: float) -> None:
        """Raise Overloaded where so many more tokens do not fit, or would not be run before the deadline."""
        waiting = self._buckets.tokens
        limit = self.config.waiting_tokens // (2 if rank is Rank.SPARE else 1)
        wait = waiting / (self._pace * self._count) if self._pace else 0.0
        if waiting and (waiting + tokens > limit or time.monotonic() + wait > deadline):
            self.observer.shed("overload")
            raise Overloaded(max(_SOONEST_RETRY, wait))

    def _patience(self, rank: Rank) -> float:
        """The time by which a row of this rank that comes now would run if all could."""
        seconds = {Rank.PROBE: -FOREVER, Rank.LIVE: self.config.patience_seconds, Rank.SPARE: self.config.spare_seconds}
        return time.monotonic() + seconds[rank]

    def _enter(self, key: Hashable, one: Encoded, urgency: float) -> None:
        row = _Row(key, one, len(one.ids), urgency, time.monotonic())
        self._in_flight[key] = row
        self._buckets.add(row)

    def _want(self, part: _Part, position: int, row: _Row, urgency: float) -> None:
        row.wanted.append((part, position))
        part.rows.append(row)
        part.missing += 1
        self._buckets.hasten(row, urgency)

    def _abandon(self, part: _Part) -> None:
        """Forget a caller that is gone, and the waiting rows that nobody else wants."""
        with self._changed:
            for row in part.rows:
                row.wanted = [(other, position) for other, position in row.wanted if other is not part]
                if not row.wanted and row in self._buckets:
                    self._buckets.discard(row)
                    del self._in_flight[row.key]

    def _settle(self, outcomes: Sequence[_Outcome]) -> None:
        """Hand outcomes to whoever wants them; in the event loop."""
        with self._changed:
            wanted = []
            for row, outcome in outcomes:
                if self._in_flight.get(row.key) is row:
                    del self._in_flight[row.key]
                if not isinstance(outcome, Exception):
                    self._cache.put(row.key, outcome)
                wanted += [(part, position, outcome) for part, position in row.wanted]
                row.wanted = []
        for part, position, outcome in wanted:
            part.put(position, outcome)

    def _start_stream(self, warm: bool = False) -> None:
        stream = threading.Thread(target=self._stream, args=(warm,), name="simmer-stream", daemon=True)
        with self._changed:
            self._streams = [*(other for other in self._streams if other is not threading.current_thread()), stream]
        stream.start()

    def _stream(self, warm: bool) -> None:
        batch: list[_Row] = []
        try:
            if warm:
                self._warm()
            while batch := self._next():
                self._run(batch)
        except BaseException:
            logger.exception("a stream of the engine died; another takes its place")
            self._finish([(row, EngineFailed("the stream that ran it died")) for row in batch])
            self._start_stream()

    def _warm(self) -> None:
        """Run what batches may look like once, so that no caller waits for the engine to prepare a shape."""
        until = time.monotonic() + self.config.warm_seconds
        for rows, length in shapes(self._predictor.encoder.config.max_tokens, self.config.batch_tokens):
            if time.monotonic() > until or self._stopped:
                return
            self._attempt([Encoded([1] * length, [0] * length)] * rows, length)

    def _next(self) -> list[_Row]:
        """The next batch, waiting for it; empty where there will be none."""
        with self._changed:
            while True:
                batch = self._buckets.take()
                late = [row for row in batch if row.deadline() <= time.monotonic()]
                if batch and not late:
                    return batch
                if late:
                    for row in late:  # whoever comes now must not join them
                        del self._in_flight[row.key]
                    self._finish(
                        [(row, DeadlinePassed("the deadline passed before a stream was free")) for row in late]
                    )
                    for row in batch:
                        if row not in late:
                            self._buckets.add(row)
                elif self._stopped:
                    return []
                else:
                    self._changed.wait()

    def _run(self, batch: Sequence[_Row]) -> None:
        length = padded(max(row.length for row in batch))
        started = time.monotonic()
        self._finish(list(zip(batch, self._attempt([row.encoded for row in batch], length), strict=True)))
        seconds = time.monotonic() - started
        pace = len(batch) * length / max(seconds, 1e-6)
        self._pace = _PACE_MEMORY * (self._pace or pace) + (1 - _PACE_MEMORY) * pace
        self.observer.ran(len(batch), len(batch) * length, seconds)
        for row in batch:
            self.observer.took("queue", started - row.queued)

    def _attempt(self, batch: Sequence[Encoded], length: int) -> list[Floats | Exception]:
        """Each row's probabilities, or why there are none. What breaks a run, or comes out broken, is run alone."""
        try:
            logits = self._predictor.run(batch, length)
            chances = self._predictor.calibrate(logits)
            sound: list[bool] = np.asarray(np.isfinite(logits).all(axis=1)).tolist()
        except BaseException as error:
            if len(batch) == 1:
                return [EngineFailed(f"the engine failed: {type(error).__name__}")]
            return [outcome for one in batch for outcome in self._attempt([one], length)]
        return [
            row if fine else self._attempt([one], length)[0] if len(batch) > 1 else EngineFailed("no finite numbers")
            for one, row, fine in zip(batch, chances, sound, strict=True)
        ]

    def _finish(self, outcomes: Sequence[_Outcome]) -> None:
        """Settle from a stream's thread."""
        if self._loop is not None and outcomes:
            with suppress(RuntimeError):  # the event loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle, outcomes)


class _Cache:
    """The probabilities of inputs that were seen, the least recently used forgotten first."""

    def __init__(self, entries: int) -> None:
        self._most = entries
        self._known: OrderedDict[Hashable, Floats] = OrderedDict()

    def get(self, key: Hashable) -> Floats | None:
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, key: Hashable, chances: Floats) -> None:
        if isinstance(key, bytes):
            self._known[key] = chances.copy()  # not a view that holds its whole batch
            if len(self._known) > self._most:
                self._known.popitem(last=False)


def _key(one: Encoded, rank: Rank) -> Hashable:
    """Equal for equal inputs, and for nothing else; a probe equals nothing."""
    return object() if rank is Rank.PROBE else array("i", one.ids + one.segments).tobytes()
