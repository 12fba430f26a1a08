"""The model that serves now, and how another takes its place without a restart.

    with models.use() as model:      # stays whole until the block ends, whatever happens meanwhile
        ...

When the source names another bundle it is loaded and warmed beside the one that serves, checked as at the start, and
takes over between two requests; the old one is closed after its last. A bundle that is refused, or a source that does
not answer, is reported, and what serves stays. Knows nothing of scorers: it is told how to load and to close.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Generic, TypeVar

from pydantic import Field

from pipeline.bundle import Bundle, BundleRefused, load_bundle
from pipeline.config import Config
from serving.answers import Shape
from serving.operation.registry import Candidate, Source, SourceUnavailable

logger = logging.getLogger("simmer.models")

T = TypeVar("T")

_LOOK_S = 0.05  # pause between two looks at whether an old model is still used


class ReloadConfig(Config):
    """How often the source is asked. Seconds."""

    every_s: float = Field(default=5.0, gt=0)
    retry_s: float = Field(default=60.0, gt=0, description="until a refused bundle is tried again unchanged")
    retire_s: float = Field(default=30.0, ge=0, description="at most, until an old model is closed though it is used")


class ModelStatus(Shape):
    """What is known of reloading: since when the model serves, and why another does not take its place."""

    loaded_at: datetime
    checked_at: datetime
    refused: str | None
    unavailable: str | None


@dataclass(eq=False)
class _Loaded(Generic[T]):
    model: T
    users: int = 0


class Models(Generic[T]):
    """Holds the model that serves. `load` may block and raise; `close` is awaited after a model's last use."""

    def __init__(
        self,
        source: Source,
        load: Callable[[Candidate], T],
        close: Callable[[T], Awaitable[None]],
        config: ReloadConfig,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Load the first model. Raises SourceUnavailable and whatever `load` raises."""
        self._source, self._load, self._close, self._config, self._now = source, load, close, config, now
        self._lock = threading.Lock()
        candidate = source.find()
        self._loaded = _Loaded(load(candidate))
        self._key = candidate.key
        self._tried, self._tried_at = candidate.key, 0.0
        self._retiring: set[asyncio.Task[None]] = set()
        self._status = ModelStatus(loaded_at=now(), checked_at=now(), refused=None, unavailable=None)

    @contextmanager
    def use(self) -> Iterator[T]:
        """The model that serves, kept whole until the block ends."""
        with self._lock:
            loaded = self._loaded
            loaded.users += 1
        try:
            yield loaded.model
        finally:
            with self._lock:
                loaded.users -= 1

    @property
    def current(self) -> T:
        """The model that serves, for a look at it; work is done inside `use`."""
        return self._loaded.model

    def status(self) -> ModelStatus:
        """What is known of reloading."""
        return self._status

    async def watch(self) -> None:
        """Follow the source for ever."""
        while True:
            await asyncio.sleep(self._config.every_s)
            try:
                await self.check()
            except Exception:
                logger.exception("following the model failed")

    async def check(self) -> bool:
        """Ask the source once, and take another model where it names one; whether it did."""
        try:
            candidate = await asyncio.to_thread(self._source.find)
        except SourceUnavailable as error:
            if str(error) != self._status.unavailable:
                logger.warning("the model that serves stays: %s", error)
            self._tell(unavailable=str(error))
            return False
        if candidate.key == self._key:
            self._tell(unavailable=None, refused=None)
            return False
        if candidate.key == self._tried and monotonic() - self._tried_at < self._config.retry_s:
            self._tell(unavailable=None)
            return False
        return await self._take(candidate)

    async def close(self) -> None:
        """Close every model."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._close(self._loaded.model)

    async def _take(self, candidate: Candidate) -> bool:
        self._tried, self._tried_at = candidate.key, monotonic()
        try:
            model = await asyncio.to_thread(self._load, candidate)
        except Exception as error:  # whatever a bundle does when it is loaded, the model that serves stays
            refused = str(error) or type(error).__name__
            logger.warning("another bundle was refused, the model that serves stays: %s", refused)
            self._tell(unavailable=None, refused=refused)
            return False
        with self._lock:
            old, self._loaded, self._key = self._loaded, _Loaded(model), candidate.key
        self._tell(unavailable=None, refused=None, loaded_at=self._now())
        logger.info("another model serves: version %s of %s", candidate.version, candidate.path)
        task = asyncio.create_task(self._retire(old))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return True

    async def _retire(self, old: _Loaded[T]) -> None:
        until = monotonic() + self._config.retire_s
        try:
            while old.users and monotonic() < until:
                await asyncio.sleep(_LOOK_S)
        finally:
            await self._close(old.model)

    def _tell(self, **news: object) -> None:
        self._status = self._status.model_copy(update={"checked_at": self._now(), **news})


def load_candidate(candidate: Candidate, threads: int = 1, streams: int = 1) -> Bundle:
    """The candidate's bundle under the registry's version. Raises BundleRefused, also where it is another's digest."""
    bundle = load_bundle(candidate.path, threads, streams)
    if candidate.digest is not None and candidate.digest != bundle.digest:
        raise BundleRefused(f"{candidate.path}: not the bundle that was registered as version {candidate.version}")
    return bundle if candidate.version is None else replace(bundle, version=candidate.version)
