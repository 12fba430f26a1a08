"""Capacity to threshold: what is promised is what the policy then does, and what is missed is told honestly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import CONFIGS
from pipeline.conversation import Conversation, RowError, Turn
from serving.answers import Answer
from serving.routing.capacity import Capacity, NoPlan, Plan, gather, plan, queue_to_plan
from serving.routing.history import Past, hot_chance, redecide
from tests.serving.routing.made import POLICY, VOCABULARY, abstained, answered, changed, outputs

FILE: dict[str, Any] = yaml.safe_load((CONFIGS / "routing.yaml").read_text(encoding="utf-8"))
QUEUE = queue_to_plan(POLICY)
START = datetime(2026, 10, 1, 9, tzinfo=UTC)


def heat(level: float, **more: float) -> Answer:
    """An answer whose frustration is severe with this probability."""
    return answered("x", outputs(frustration__severe=level, **more))


def named(answers: Sequence[Answer]) -> list[Answer]:
    return [answer.model_copy(update={"id": f"c{n}"}) for n, answer in enumerate(answers)]


def planned(
    answers: Sequence[Answer],
    per_day: float,
    *,
    days: float | None = 1.0,
    keep: bool = False,
    at: Sequence[datetime] | None = None,
    labelled: Sequence[Conversation] | None = None,
) -> Plan:
    history = [Past(answer, n, at[n] if at else None) for n, answer in enumerate(answers)]
    seen, bad = gather(history, POLICY, QUEUE, VOCABULARY)
    assert not bad
    return plan(seen, QUEUE, VOCABULARY, Capacity(per_day=per_day, days=days, keep_reasons=keep), labelled)


def really_taken(answers: Sequence[Answer], found: Plan) -> int:
    """How many conversations a policy with the printed line sends to the queue or a hotter one."""
    line = yaml.safe_load(found.line)[0]
    policy = changed(queues=[line if q["name"] == found.queue else q for q in FILE["queues"]])
    order = [q.name for q in policy.config.queues]
    last = order.index(found.queue)
    return len({a.id for a in answers if order.index(redecide(a, policy, VOCABULARY).queue) <= last})


RISING = named([heat(n / 100) for n in range(100)])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.6), st.integers(0, 7)), min_size=1, max_size=30),
    st.floats(0, 40),
    st.booleans(),
)
def test_the_printed_line_takes_what_the_plan_says_and_no_more_than_the_capacity(
    drawn: list[tuple[float, float, int]], per_day: float, keep: bool
) -> None:
    answers = [
        answered(f"c{name}", outputs(frustration__severe=severe, urgency__critical=urgent), turn=turn)
        for turn, (severe, urgent, name) in enumerate(drawn)
    ]
    found = planned(answers, per_day, keep=keep)
    assert found.taken == really_taken(answers, found)
    assert found.overfull == (found.taken > per_day)
    if found.threshold > 0 and not found.overfull:
        at_one_less = next(step for step in found.around if step.threshold == found.threshold - 1)
        assert at_one_less.per_day > per_day


def test_a_larger_capacity_never_misses_more() -> None:
    plans = [planned(RISING, per_day) for per_day in range(0, 110, 10)]
    assert [p.threshold for p in plans] == sorted((p.threshold for p in plans), reverse=True)
    missed = [p.expected.missed.value for p in plans]
    assert missed == sorted(missed, reverse=True)
    assert missed[-1] == 0


def test_expectations_are_sums_of_chances() -> None:
    found = planned(RISING, 20)
    chances = sorted(hot_chance(answer, VOCABULARY) for answer in RISING)
    assert found.taken <= 20
    assert found.expected.hot == pytest.approx(sum(chances), abs=1e-3)
    assert found.expected.missed.value == pytest.approx(sum(chances[: 100 - found.taken]), abs=1e-3)
    assert found.expected.reached is not None
    assert found.expected.reached.value == pytest.approx(1 - found.expected.missed.value / sum(chances), abs=1e-3)


def test_intervals_are_those_of_the_poisson_binomial() -> None:
    missed = planned(RISING, 20).expected.missed
    chances = np.array(sorted(hot_chance(answer, VOCABULARY) for answer in RISING)[:80])
    spread = 1.96 * float(np.sqrt((chances * (1 - chances)).sum()))
    assert missed.high - missed.low == pytest.approx(2 * spread, rel=0.2)


def test_hotter_queues_count_against_the_capacity() -> None:
    urgent = named([heat(0.0, urgency__critical=1.0) for _ in range(5)])
    calm = [answer.model_copy(update={"id": f"r{answer.id}"}) for answer in RISING]
    found = planned([*urgent, *calm], 10)
    assert (found.forced, found.taken) == (5, found.taken)
    assert 5 <= found.taken <= 10
    assert planned([*urgent, *calm], 4).overfull


def test_reasons_are_given_up_unless_kept() -> None:
    hot = named([heat(0.9)] * 10)
    without, kept = planned(hot, 3), planned(hot, 3, keep=True)
    assert (without.taken, without.overfull, without.by_reason) == (0, False, 10)
    assert (kept.taken, kept.overfull) == (10, True)
    assert yaml.safe_load(without.line) == [{"name": "senior", "reasons": [], "score": without.threshold}]
    assert yaml.safe_load(kept.line)[0]["reasons"] == list(QUEUE.reasons)


def test_ties_come_or_stay_away_together() -> None:
    found = planned(named([heat(0.9)] * 10), 10)
    assert (found.ties, found.taken) == (0, 10)
    two = planned([*named([heat(0.9)] * 10), heat(0.5)], 10)
    assert two.taken == 10


def test_a_conversation_counts_once_by_its_hottest_turn() -> None:
    turns = [answered("c", outputs(frustration__severe=p), turn=n) for n, p in enumerate((0.1, 0.9, 0.2))]
    found = planned([*turns, abstained("c", turn=3)], 1)
    assert (found.conversations, found.abstained) == (1, 0)
    assert found.expected.hot == pytest.approx(0.9)


def test_none_and_more_than_there_are() -> None:
    nothing = planned(RISING, 0)
    assert (nothing.taken, nothing.overfull) == (0, False)
    everything = planned(RISING, 1e9)
    assert (everything.threshold, everything.taken) == (0, 100)
    assert everything.expected.reached is not None
    assert everything.expected.reached.low == 1


def test_all_abstained() -> None:
    found = planned([abstained(f"c{n}") for n in range(5)], 10)
    assert (found.abstained, found.taken, found.expected.hot) == (5, 0, 0)
    assert found.expected.reached is None


def test_no_history_and_no_days_are_said() -> None:
    with pytest.raises(NoPlan, match="no answer"):
        planned([], 10)
    with pytest.raises(NoPlan, match="--days"):
        planned(RISING, 10, days=None)


def test_days_come_from_times_and_loads_by_day_are_shown() -> None:
    """Ten a day for ten days, but for one day with none; all of the first day's are hot."""
    at = [START + timedelta(days=n // 10 + (n >= 50)) for n in range(100)]
    found = planned(named([heat(0.9 if n < 10 else 0.0) for n in range(100)]), 1, days=None, at=at)
    assert (found.span.days, found.span.empty) == (11, 1)
    assert (str(found.span.first), str(found.span.last)) == ("2026-10-01", "2026-10-11")
    assert found.swing is not None
    assert (found.swing.p50, found.swing.most, found.swing.days_over) == (0, 10, 1)


def test_days_that_are_said_win() -> None:
    assert planned(RISING, 10, days=2.5, at=[START] * 100).span.days == 2.5


def test_labels_are_counted() -> None:
    """Four labelled: the two hottest by score are taken, one of them hot; of the others one is hot."""
    answers = named([heat(0.9), heat(0.8), heat(0.2), heat(0.1), heat(0.0)])
    hot = [True, False, True, False]
    rows = [
        Conversation(id=f"c{n}", turns=(Turn(role="customer", text="…", labels={"frustration": 3 if is_hot else 0}),))
        for n, is_hot in enumerate(hot)
    ]
    unknown = Conversation(id="c4", turns=(Turn(role="customer", text="…"),))
    stranger = Conversation(id="other", turns=(Turn(role="customer", text="…", labels={"frustration": 3}),))
    found = planned(answers, 2, labelled=[*rows, unknown, stranger]).measured
    assert found is not None
    assert (found.labelled, found.hot, found.taken, found.taken_hot) == (4, 2, 2, 1)
    assert found.recall is not None
    assert found.precision is not None
    assert (found.recall.value, found.precision.value) == (0.5, 0.5)
    assert found.recall.low < 0.15


def test_labels_that_say_nothing_give_no_share() -> None:
    found = planned(RISING, 10, labelled=[]).measured
    assert found is not None
    assert (found.labelled, found.recall, found.precision) == (0, None, None)


def test_a_bad_row_hides_no_other() -> None:
    broken = answered("b").model_copy(update={"boil_over": 7.0})
    history = [RowError(1, None, "not JSON"), Past(broken, 2), Past(answered("a"), 3)]
    seen, bad = gather(history, POLICY, QUEUE, VOCABULARY)
    assert list(seen) == ["a"]
    assert [row.line for row in bad] == [1, 2]


def test_which_queue_is_planned_for() -> None:
    assert queue_to_plan(POLICY).name == "senior"
    assert queue_to_plan(POLICY, "priority").name == "priority"
    for name in ("limbo", POLICY.config.queues[-1].name):
        with pytest.raises(NoPlan, match=name):
            queue_to_plan(POLICY, name)
    alone = changed(queues=[{"name": "standard", "reasons": [], "score": 0}], holdout={}, assignment={})
    with pytest.raises(NoPlan):
        queue_to_plan(alone)
