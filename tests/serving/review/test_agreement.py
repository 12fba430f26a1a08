"""Krippendorff's alpha, against what he published and against what must hold of any."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.review.agreement import alpha, nominal, ordinal, overlap

# Computing Krippendorff's Alpha-Reliability (2011): four observers, twelve units, some labels missing
PUBLISHED: list[list[int]] = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]


def test_the_published_example_comes_out_as_published() -> None:
    assert alpha(PUBLISHED, nominal) == pytest.approx(0.743, abs=0.0005)
    assert alpha(PUBLISHED, ordinal) == pytest.approx(0.815, abs=0.0005)


def test_where_nobody_labelled_a_thing_twice_there_is_no_alpha() -> None:
    assert alpha([], nominal) is None
    assert alpha([[1], [2], []], nominal) is None


def test_one_value_throughout_is_agreement() -> None:
    assert alpha([[1, 1], [1, 1]], ordinal) == 1.0


def test_sets_that_overlap_differ_less_than_sets_that_do_not() -> None:
    base: list[list[Any]] = [[("a",), ("a",)], [("b",), ("b",)], [(), ()]]
    near, far = alpha([*base, [("a", "b"), ("a",)]], overlap), alpha([*base, [("b",), ("a",)]], overlap)
    assert near is not None
    assert far is not None
    assert 1 > near > far


UNITS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=4), min_size=2, max_size=12)


@given(UNITS, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_order_does_not_matter_and_agreement_is_the_most(units: list[list[int]], dice: random.Random) -> None:
    shuffled = [dice.sample(unit, len(unit)) for unit in dice.sample(units, len(units))]
    for metric in (nominal, ordinal):
        found = alpha(units, metric)
        assert found is not None
        assert found <= 1.0 + 1e-9
        assert alpha(shuffled, metric) == pytest.approx(found)


def test_labels_by_chance_agree_as_chance_does() -> None:
    dice = random.Random(3)
    units = [[dice.randrange(4), dice.randrange(4)] for _ in range(4000)]
    assert alpha(units, ordinal) == pytest.approx(0, abs=0.05)
