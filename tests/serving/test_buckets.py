"""Buckets: every row is taken once, in few shapes, and none is passed over for long."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.buckets import WIDTH, Buckets, most_rows, padded, shapes

BUDGET = 64


@dataclass(eq=False)
class Row:
    length: int
    urgency: float


ROWS = st.lists(st.builds(Row, st.integers(1, 100), st.floats(0, 100)), max_size=60)


def filled(rows: list[Row]) -> Buckets[Row]:
    buckets: Buckets[Row] = Buckets(BUDGET)
    for row in rows:
        buckets.add(row)
    return buckets


def taken(buckets: Buckets[Row]) -> list[list[Row]]:
    batches = []
    while batch := buckets.take():
        batches.append(batch)
    return batches


@given(rows=ROWS)
def test_every_row_is_taken_once_in_a_known_shape(rows: list[Row]) -> None:
    buckets = filled(rows)
    assert buckets.tokens == sum(padded(row.length) for row in rows)
    batches = taken(buckets)
    assert sorted(map(id, rows)) == sorted(id(row) for batch in batches for row in batch)
    assert (len(buckets), buckets.tokens) == (0, 0)
    known = set(shapes(100, BUDGET))
    for batch in batches:
        assert (len(batch), padded(max(row.length for row in batch))) in known
        assert max(row.length for row in batch) - min(row.length for row in batch) < 2 * WIDTH


@given(rows=ROWS)
def test_the_most_urgent_row_is_in_the_next_batch(rows: list[Row]) -> None:
    buckets, left = filled(rows), list(rows)
    while batch := buckets.take():
        assert min(row.urgency for row in left) == min(row.urgency for row in batch)
        left = [row for row in left if row not in batch]


@given(rows=ROWS, data=st.data())
def test_rows_that_were_discarded_are_gone(rows: list[Row], data: st.DataObject) -> None:
    buckets = filled(rows)
    gone = [row for row in rows if data.draw(st.booleans())]
    for row in gone + gone:
        buckets.discard(row)
    kept = [row for row in rows if row not in gone]
    assert buckets.tokens == sum(padded(row.length) for row in kept)
    assert sorted(id(row) for batch in taken(buckets) for row in batch) == sorted(map(id, kept))


def test_a_hastened_row_overtakes() -> None:
    early, late = Row(8, 1.0), Row(64, 2.0)
    buckets = filled([early, late])
    buckets.hasten(late, 0.5)
    buckets.hasten(early, 3.0)  # never later
    assert taken(buckets) == [[late], [early]]


def test_rows_of_neighbouring_lengths_share_a_batch() -> None:
    rows = [Row(16, 1.0), Row(8, 2.0), Row(40, 3.0)]
    assert taken(filled(rows)) == [rows[:2], rows[2:]]


def test_rows_that_come_and_go_leave_nothing_behind() -> None:
    buckets: Buckets[Row] = Buckets(BUDGET)
    for number in range(10_000):
        row = Row(8, float(number))
        buckets.add(row)
        buckets.discard(row)
    assert sum(map(len, buckets._heaps.values())) < 200


def test_clearing_gives_back_what_waited() -> None:
    rows = [Row(8, 1.0), Row(9, 1.0)]
    buckets = filled(rows)
    assert buckets.clear() == rows
    assert (buckets.take(), buckets.tokens, len(buckets)) == ([], 0, 0)


@pytest.mark.parametrize(
    ("length", "budget", "rows"), [(8, 256, 32), (24, 256, 8), (32, 256, 8), (96, 256, 2), (512, 256, 1)]
)
def test_batches_fit_the_budget(length: int, budget: int, rows: int) -> None:
    assert most_rows(length, budget) == rows


def test_shapes_begin_with_lone_rows() -> None:
    found = list(shapes(20, 32))
    assert found == [(1, 8), (1, 16), (1, 24), (4, 8), (2, 8), (2, 16)]
