"""Where two models' answers differ."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.differences import differences


def answer(name: str = "a", turn: int = 0, queue: str = "standard", score: int = 10, **more: Any) -> dict[str, Any]:
    told = {
        "sentiment": {"label": "neutral"},
        "frustration": {"level": 0},
        "urgency": {"level": 1},
        "abstained": None,
    }
    return {"id": name, "turn": turn, "priority": {"queue": queue, "score": score}} | told | more


def abstained(name: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("sentiment", "frustration", "urgency"))
    return answer(name, **nothing, abstained={"reason": "language", "detail": ""})


def test_equal_answers_do_not_differ() -> None:
    found = differences([answer("a"), answer("b")], [answer("b"), answer("a")])
    assert (found.answers, found.moved, found.examples) == (2, 0.0, ())
    assert set(found.levels.values()) == {0.0}


def test_what_changes_is_counted_and_shown_by_id_the_biggest_first() -> None:
    before = [answer("a"), answer("b"), answer("c", score=30), answer("d")]
    after = [
        answer("a", score=12, frustration={"level": 1}),
        answer("b", queue="senior", score=70, frustration={"level": 3}, sentiment={"label": "negative"}),
        answer("c", queue="priority", score=50),
        answer("d", score=99),
    ]
    found = differences(before, after)
    assert found.queues == {"standard": {"priority": 1, "senior": 1, "standard": 2}}
    assert found.moved == 0.5
    assert found.levels == {"sentiment": 0.25, "frustration": 0.5, "urgency": 0.0}
    assert [example.id for example in found.examples] == ["b", "c", "a"]
    assert found.examples[0].changed == {"sentiment": ("neutral", "negative"), "frustration": ("0", "3")}


def test_turns_are_matched_by_conversation_and_number() -> None:
    found = differences([answer("a", 0), answer("a", 2, score=5)], [answer("a", 2, score=9), answer("b", 0)])
    assert (found.answers, found.unmatched, found.mean_score_change) == (1, 2, 4.0)


def test_what_one_would_not_judge_counts_apart() -> None:
    found = differences([answer("a"), abstained("b")], [abstained("a"), abstained("b")])
    assert (found.judged, found.abstained) == (0, 1)


def test_rows_that_could_not_be_read_are_passed_over() -> None:
    bad = {"id": "x", "line": 3, "error": "text: must be a string"}
    assert differences([bad, answer("a")], [bad, answer("a")]).answers == 1


def test_nothing_against_nothing() -> None:
    assert differences([], []).moved == 0.0


answers = st.lists(
    st.builds(
        answer,
        name=st.sampled_from("abc"),
        turn=st.integers(0, 2),
        queue=st.sampled_from(["standard", "senior"]),
        score=st.integers(0, 100),
    )
)


@given(answers, answers)
def test_the_other_way_round_the_same_turns_differ(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    there, back = differences(before, after, 100), differences(after, before, 100)
    assert (there.answers, there.moved, there.levels) == (back.answers, back.moved, back.levels)
    assert there.mean_score_change == -back.mean_score_change
    assert {(e.id, e.turn) for e in there.examples} == {(e.id, e.turn) for e in back.examples}
