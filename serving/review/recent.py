"""What was read a moment ago: figures that take long to add up and change little from one look to the next."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MOST = 32

T = TypeVar("T")


@dataclass
class Recent(Generic[T]):
    """Values that are believed for some seconds, a bounded number of them. For use on one event loop."""

    seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _known: OrderedDict[Hashable, tuple[float, T]] = field(default_factory=OrderedDict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The value of a key, made anew where it is too old; not twice at a time. Raises what `make` raises."""
        known = self._fresh(key)
        if known is not None:
            return known[1]
        async with self._one:
            known = self._fresh(key)
            if known is None:
                known = self._known[key] = (self.clock() + self.seconds, await make())
                self._known.move_to_end(key)
                if len(self._known) > MOST:
                    self._known.popitem(last=False)
            return known[1]

    def _fresh(self, key: Hashable) -> tuple[float, T] | None:
        known = self._known.get(key)
        return known if known is not None and self.clock() < known[0] else None
