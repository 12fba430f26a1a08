"""Rows that wait for the engine, in buckets of like length: which of them run next, together.

    add, hasten, discard    rows come, become more urgent, and go away again
    take                    the most urgent row, with others of its length

The engine keeps about 2 MB for every shape it has seen, so shapes are few: lengths are padded to multiples of `WIDTH`
tokens, and a batch holds 1, 2, 4, 8 … rows. Knows nothing of threads, callers or engines; whoever shares it locks it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Generic, Protocol, TypeVar

WIDTH = 8  # tokens; a run costs about as much again as 8 tokens more, so a neighbour's row may be padded by as many
_COMPACT_FROM = 64  # entries; fewer are not worth tidying


class Waiting(Protocol):
    """What a row must tell: its length in tokens, and the time by which it would run if all could."""

    length: int
    urgency: float


R = TypeVar("R", bound=Waiting)
_Entry = tuple[float, int, R]


def padded(length: int) -> int:
    """The length in tokens that a row of this many is run at."""
    return -(-length // WIDTH) * WIDTH


def most_rows(length: int, budget: int) -> int:
    """The largest batch, a power of two, of rows of this padded length within a budget of padded tokens."""
    return _power_of_two(max(1, budget // length))


def shapes(longest: int, budget: int) -> Iterator[tuple[int, int]]:
    """Every shape (rows, tokens) that batches can have; lone rows first, and then the fullest batches."""
    lengths = range(WIDTH, padded(longest) + 1, WIDTH)
    yield from ((1, length) for length in lengths)
    full = most_rows(WIDTH, budget)
    while full > 1:
        yield from ((full, length) for length in lengths if full <= most_rows(length, budget))
        full //= 2


class Buckets(Generic[R]):
    """Rows by padded length, the most urgent of each first. `tokens` and `len()` count what waits."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._heaps: dict[int, list[_Entry[R]]] = {}
        self._places: dict[R, int] = {}  # the number of a waiting row's entry; other entries of it are void
        self._numbers = count()
        self._entries = 0
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, row: R) -> bool:
        return row in self._places

    def add(self, row: R) -> None:
        """Let a row wait."""
        self._push(row)
        self.tokens += padded(row.length)

    def hasten(self, row: R, urgency: float) -> None:
        """Let a waiting row wait less; one that waits no more, or is as urgent already, stays as it is."""
        if row in self._places and urgency < row.urgency:
            row.urgency = urgency
            self._push(row)
            self._compact()

    def discard(self, row: R) -> None:
        """Let a row go that nobody waits for any more; one that was taken is not touched."""
        if self._places.pop(row, None) is not None:
            self.tokens -= padded(row.length)
            self._compact()

    def take(self) -> list[R]:
        """The most urgent row and such as are best run with it, most urgent first of each length; none if none wait."""
        heads = [(heap[0], length) for length, heap in self._heaps.items() if self._tidy(heap)]
        if not heads:
            return []
        length = min(heads)[1]
        most = most_rows(length, self._budget)
        batch = self._pop(length, most)
        batch += self._pop(length - WIDTH, most - len(batch))
        kept = _power_of_two(len(batch))
        for row in batch[kept:]:
            self._push(row)
        for row in batch[:kept]:
            self.tokens -= padded(row.length)
        return batch[:kept]

    def clear(self) -> list[R]:
        """Every waiting row, which wait no more."""
        rows = list(self._places)
        self._places.clear()
        self._heaps.clear()
        self._entries = self.tokens = 0
        return rows

    def _push(self, row: R) -> None:
        self._places[row] = number = next(self._numbers)
        heapq.heappush(self._heaps.setdefault(padded(row.length), []), (row.urgency, number, row))
        self._entries += 1

    def _pop(self, length: int, most: int) -> list[R]:
        heap = self._heaps.get(length, [])
        rows: list[R] = []
        while len(rows) < most and self._tidy(heap):
            rows.append(heapq.heappop(heap)[2])
            self._entries -= 1
            del self._places[rows[-1]]
        return rows

    def _tidy(self, heap: list[_Entry[R]]) -> bool:
        """Drop void entries from the top; whether anything is left."""
        while heap and self._places.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
            self._entries -= 1
        return bool(heap)

    def _compact(self) -> None:
        """Rebuild once most entries are void, so that rows which come and go leave nothing behind."""
        if self._entries < max(_COMPACT_FROM, 2 * len(self._places)):
            return
        for length, heap in self._heaps.items():
            self._heaps[length] = [entry for entry in heap if self._places.get(entry[2]) == entry[1]]
            heapq.heapify(self._heaps[length])
        self._entries = len(self._places)


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)
