"""Precision, recall and what else is estimated: true where the truth is known, honest where little is."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from serving.review.config import SamplingConfig
from serving.review.estimates import Estimate, Quality, Unit, flag_quality, monday_of, share
from serving.review.sampling import draw
from serving.store.schema import draws, samples
from tests.serving.review.conftest import ADA, ANGRY, CALM, GRACE, LEA, Bench, run

DAY = date(2026, 3, 2)


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def a_month(dice: random.Random, config: Any, reviewed: float = 1.0) -> tuple[list[Unit], int, int, float, float]:
    """3,000 conversations with a truth, drawn from; what was drawn, the counts, and the true precision and recall."""
    units, flags, both, truly = [], 0, 0, 0
    for number in range(3000):
        heat = dice.random() ** 4
        hot, flagged = dice.random() < heat, heat >= 0.5
        flags, truly, both = flags + flagged, truly + hot, both + (hot and flagged)
        drawn = draw(f"{dice.random()}{number}", flagged, heat, config)
        if drawn:
            seen = dice.random() < reviewed
            units.append(Unit(drawn.kind, drawn.chance, DAY, flagged, hot if seen else None))
    return units, flags, 3000 - flags, both / flags, both / truly


@pytest.mark.parametrize("reviewed", [1.0, 0.5])
def test_intervals_hold_the_truth_about_as_often_as_they_say(reviewed: float) -> None:
    dice, config = random.Random(5), SamplingConfig(flagged=0.3, random=0.03, uncertain=0.3)
    held = [0, 0]
    off = [0.0, 0.0]
    for _ in range(120):
        units, flags, others, precision, recall = a_month(dice, config, reviewed)
        found = flag_quality(units, flags, others)
        held = [n + holds(one, truth) for n, one, truth in zip(held, found, (precision, recall), strict=True)]
        off = [e + (one.value or 0) - truth for e, one, truth in zip(off, found, (precision, recall), strict=True)]
    assert all(n >= 106 for n in held), held  # 114 of 120 are meant
    assert all(abs(error / 120) < 0.02 for error in off), off


def test_what_was_flagged_alone_says_nothing_of_what_was_missed() -> None:
    units = [Unit("flagged", 0.5, DAY, True, hot) for hot in (True, True, False, True)]
    precision, recall = flag_quality(units, 8, 100)
    assert (precision.value, precision.count) == (0.75, 4)
    assert (recall.value, recall.low, recall.high) == (None, 0.0, 1.0)


def test_a_few_without_a_fault_do_not_pass_for_certainty() -> None:
    units = [Unit("flagged", 1, DAY, True, True)] * 6 + [Unit("random", 0.01, DAY, False, False)] * 20
    precision, recall = flag_quality(units, 6, 2000)
    assert (precision.value, recall.value) == (1.0, 1.0)
    assert precision.low < 0.9
    assert recall.low < 0.5  # one miss more among 20 of 2,000 would be a hundred


def test_a_rare_draw_counts_for_those_like_it() -> None:
    calm = [Unit("random", 0.01, DAY, False, n == 0) for n in range(20)]
    near = [Unit("uncertain", 0.5, DAY, False, n < 5) for n in range(20)]
    hot = [Unit("flagged", 1.0, DAY, True, True)] * 60
    _, recall = flag_quality([*calm, *near, *hot], 60, 2040)
    assert recall.value == pytest.approx(60 / (60 + 100 + 10), abs=0.01)


def test_nothing_is_estimated_from_nothing() -> None:
    for estimate in (
        *flag_quality([], 0, 0),
        *flag_quality([Unit("flagged", 1, DAY, True, None)], 1, 9),
        share([], []),
    ):
        assert (estimate.value, estimate.low, estimate.high) == (None, 0.0, 1.0)


def test_a_share_has_its_interval_by_conversation() -> None:
    even, clumped = share([1] * 40 + [0] * 10, [1] * 50), share([10] * 4 + [0], [10] * 5)
    assert even.value == clumped.value == 0.8
    assert (even.count, clumped.count) == (50, 5)
    assert even.high - even.low < clumped.high - clumped.low


def test_a_week_begins_on_monday() -> None:
    assert [monday_of(DAY + timedelta(days=n)).isoformat() for n in (0, 6, 7)] == [
        "2026-03-02",
        "2026-03-02",
        "2026-03-09",
    ]


def quality(bench: Bench, weeks: int = 4) -> Quality:
    return run(bench.estimates().quality(weeks))


def drawn(bench: Bench, *names: str, kind: str = "flagged", chance: float = 0.5) -> None:
    with bench.world.database.writing.begin() as connection:
        for place, name in enumerate(names):
            values = {"conversation": name, "kind": kind, "chance": chance, "day": "2026-03-01", "place": place / 10}
            connection.execute(insert(samples).values(values))


@pytest.fixture
def reviewed(bench: Bench) -> Bench:
    """Four flagged, three of them drawn; two calm, one of them drawn."""
    for name in ("h1", "h2", "h3", "h4"):
        bench.say(name, "hello", "furious")
    for name in ("k1", "k2"):
        bench.say(name, "hello")
    drawn(bench, "h1", "h2", "h3")
    drawn(bench, "k1", kind="random", chance=0.5)
    with bench.world.database.writing.begin() as connection:
        connection.execute(insert(draws).values(day="2026-03-01", at=bench.clock(), flagged=4, calm=2))
    bench.clock.move(hours=5)
    bench.judge(ADA, {"m1": "agree", "m2": "agree"}, to="h1", hot=True, seconds=30)
    bench.judge(ADA, {"m2": {**ANGRY, "frustration": 1}}, to="h2", hot=False, seconds=50)
    bench.judge(ADA, {"m2": "agree"}, to="h4", hot=False)  # not drawn
    bench.judge(ADA, {"m1": CALM}, to="k1", hot=False, seconds=10)
    return bench


def test_quality_rests_on_what_was_drawn_and_reviewed(reviewed: Bench) -> None:
    found = quality(reviewed)
    assert (found.drawn, found.reviewed) == (4, 3)
    assert (found.precision.value, found.precision.count) == (0.5, 2)
    assert found.recall.value == 1.0
    assert found.seconds == 30
    assert [week.monday.isoformat() for week in found.weeks] == ["2026-02-02", "2026-02-09", "2026-02-16", "2026-02-23"]
    last = found.weeks[-1]
    assert (last.precision.value, last.conversations, last.seconds) == (0.5, 4, 30)
    assert found.weeks[0].precision.value is None


def test_labels_that_stand_are_told_head_by_head(reviewed: Bench) -> None:
    kept = {one.head: one.kept for one in quality(reviewed).heads}
    assert (kept["sentiment"].value, kept["sentiment"].count) == (1.0, 4)
    assert kept["frustration"].value == 0.8  # four of five messages


def test_labels_on_messages_show_that_it_was_hot_and_never_that_it_was_not(reviewed: Bench) -> None:
    reviewed.judge(ADA, {"m2": ANGRY}, to="h3")
    assert quality(reviewed).reviewed == 4
    assert quality(reviewed).precision.value == pytest.approx(2 / 3, abs=0.001)
    drawn(reviewed, "k2", kind="random")
    reviewed.judge(ADA, {"m1": CALM}, to="k2")
    assert quality(reviewed).reviewed == 4


def test_what_two_see_differently_counts_once_it_is_settled(reviewed: Bench) -> None:
    reviewed.judge(GRACE, to="h1", hot=False)
    assert quality(reviewed).reviewed == 2
    reviewed.judge(LEA, to="h1", hot=True, adjudicates=True)
    assert quality(reviewed).reviewed == 3


def test_agreement_is_of_what_was_said_unseen(reviewed: Bench) -> None:
    assert quality(reviewed).hot_alpha is None
    reviewed.judge(GRACE, {"m2": ANGRY}, to="h2", hot=True)
    before = quality(reviewed)
    frustration = next(one for one in before.heads if one.head == "frustration")
    assert (frustration.twice, frustration.alpha) == (1, 0.0)
    reviewed.judge(ADA, {"m2": ANGRY}, to="h2", hot=True)  # swayed by what grace had said
    after = quality(reviewed)
    assert after.hot_alpha == before.hot_alpha == 0.0
    assert next(one for one in after.heads if one.head == "frustration").alpha == 0.0


def test_what_was_erased_still_counts(reviewed: Bench) -> None:
    before = quality(reviewed)
    run(reviewed.world.live.handling.erase("h1", "desk"))
    assert replace(quality(reviewed), weeks=()) == replace(before, weeks=())


def test_figures_are_kept_for_a_moment(reviewed: Bench) -> None:
    estimates = reviewed.estimates()
    first = run(estimates.quality(4))
    reviewed.judge(ADA, to="h3", hot=True)
    assert run(estimates.quality(4)) is first
    assert run(estimates.quality(5)).reviewed == 4


def test_an_empty_store_has_no_figures_and_no_fault(bench: Bench) -> None:
    found = quality(bench)
    assert (found.precision.value, found.recall.value, found.seconds, found.drawn) == (None, None, None, 0)
    assert all(head.kept.value is None and head.alpha is None for head in found.heads)
    assert len(found.weeks) == 4
