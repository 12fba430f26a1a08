"""What another policy would change, counted."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipeline.config import CONFIGS
from pipeline.conversation import RowError
from serving.answers import Answer
from serving.policy import Policy
from serving.routing.changes import EXAMPLES, Changes, compare, upper_queues
from serving.routing.history import Past
from tests.serving.routing.made import POLICY, VOCABULARY, abstained, answered, changed, outputs

FILE: dict[str, Any] = yaml.safe_load((CONFIGS / "routing.yaml").read_text(encoding="utf-8"))
ANGRY = outputs(frustration__strong=0.9)
LEAVING = outputs(signals__churn_threat=0.9)

NO_CHURN = changed(
    queues=[{**q, "reasons": [r for r in q["reasons"] if r != "churn_threat"]} for q in FILE["queues"]],
    factors={**FILE["factors"], "churn_threat": {**FILE["factors"]["churn_threat"], "weight": 0.1, "fires_at": 2.0}},
)


def changes(*answers: Answer | RowError, old: Policy = POLICY, new: Policy = NO_CHURN) -> Changes:
    history = [one if isinstance(one, RowError) else Past(one, n) for n, one in enumerate(answers, 1)]
    return compare(history, old, new, VOCABULARY)[0]


def test_the_same_policy_changes_nothing() -> None:
    found = changes(answered("a", ANGRY), answered("b"), abstained("c"), new=POLICY)
    assert (found.moved, found.gained, found.lost, found.biggest, found.otherwise_then) == (0, {}, {}, (), 0)
    assert found.scores is not None
    assert (found.scores.up, found.scores.down, found.scores.same) == (0, 0, 3)


def test_moves_reasons_and_scores_are_counted() -> None:
    found = changes(answered("a", ANGRY), answered("b", LEAVING), answered("b", LEAVING, turn=2), answered("c"))
    assert (found.answers, found.conversations, found.moved) == (4, 3, 2)
    assert found.moves["senior"] == {"senior": 1, "standard": 2}
    assert found.moves["standard"] == {"standard": 1}
    assert (found.gained, found.lost) == ({}, {"churn_threat": 2})
    assert found.sent_up == (3, 1)
    assert found.scores is not None
    assert (found.scores.up, found.scores.down, found.scores.same) == (0, 2, 2)
    assert [(move.id, move.turn, move.queue) for move in found.biggest] == [
        ("b", 0, ("senior", "standard")),
        ("b", 2, ("senior", "standard")),
    ]
    assert found.policies == (POLICY.digest, NO_CHURN.digest)


def test_back_again_is_the_mirror_image() -> None:
    rows = [answered("a", ANGRY), answered("b", LEAVING), answered("c")]
    there, back = changes(*rows), changes(*rows, old=NO_CHURN, new=POLICY)
    assert there.sent_up == back.sent_up[::-1]
    assert (there.gained, there.lost) == (back.lost, back.gained)


def test_an_abstention_moves_only_where_the_policy_moves_abstentions() -> None:
    assert changes(abstained("a")).moved == 0
    elsewhere = changed(abstained={"score": 60, "queue": "priority"})
    found = changes(abstained("a"), new=elsewhere)
    assert (found.abstained, found.moved) == (1, 1)


def test_queues_that_only_one_of_them_has_are_shown() -> None:
    queues = [{"name": "fire", "reasons": [], "score": 40}, {"name": "standard", "reasons": [], "score": 0}]
    new = changed(queues=queues, holdout={}, assignment={})
    found = changes(answered("a", ANGRY), new=new)
    assert found.queues == ("fire", "standard", "critical", "senior", "priority")
    assert found.moves == {"senior": {"fire": 1}}


def test_what_was_decided_by_another_policy_then_is_said() -> None:
    then = answered("a", LEAVING, policy=NO_CHURN)
    assert changes(then).otherwise_then == 1


def test_a_bad_row_hides_no_other() -> None:
    broken = answered("b").model_copy(update={"boil_over": 7.0})
    history = [Past(answered("a"), 1), RowError(2, "x", "not JSON"), Past(broken, 3), Past(answered("c"), 4)]
    found, bad = compare(history, POLICY, NO_CHURN, VOCABULARY)
    assert (found.answers, found.unreadable) == (2, 2)
    assert [(row.line, row.id) for row in bad] == [(2, "x"), (3, "b")]


def test_no_history() -> None:
    found = changes()
    assert (found.answers, found.scores, found.moves) == (0, None, {})


def test_only_the_biggest_moves_are_shown_biggest_first() -> None:
    rows = [answered(f"c{n}", outputs(signals__churn_threat=0.5 + n / 100)) for n in range(3 * EXAMPLES)]
    found = changes(*rows)
    assert len(found.biggest) == EXAMPLES
    shifts = [abs(after - before) for before, after in (move.score for move in found.biggest)]
    assert shifts == sorted(shifts, reverse=True)
    assert found.biggest[0].id == f"c{3 * EXAMPLES - 1}"


@pytest.mark.parametrize(
    ("assignment", "upper"),
    [({"qualified": {"senior": ["senior"]}}, ("senior",)), ({}, ("critical", "senior", "priority"))],
)
def test_up_is_where_not_everybody_may_take(assignment: dict[str, Any], upper: tuple[str, ...]) -> None:
    assert upper_queues(changed(assignment=assignment)) == upper
