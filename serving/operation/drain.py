"""Told once that the process is to end, so that whoever keeps connections or work for long can let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger("simmer.server")


class Drain:
    """Begins once and stays begun. A stream of events waits for it beside its next event. Of one event loop."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def when_begun(self, callback: Callable[[], None]) -> None:
        """Call this when draining begins; at once where it has begun."""
        if self.begun:
            callback()
        else:
            self._callbacks.append(callback)

    def begin(self) -> None:
        """Tell everyone. A callback that raises does not keep the others from being told."""
        if self.begun:
            return
        self._begun.set()
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback of draining failed")

    async def wait(self) -> None:
        """Return when draining has begun."""
        await self._begun.wait()
