"""History: answers give back the strengths they were decided by, and what is no answer says why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversation import RowError, RowInvalid
from pipeline.heads import Floats
from serving.answers import Answer
from serving.policy import Policy
from serving.routing.history import Past, hot_chance, outputs_of, read_history, redecide, strengths_of
from tests.serving.routing.made import POLICY, VOCABULARY, abstained, answered, changed, export, line, outputs

GRAIN = 10_000  # probabilities as answers carry them
ON_COMPLAINT = {"complaint": {"head": "complaint", "value": "complaint", "weight": 0.1, "fires_at": 0.5}}


@st.composite
def distributions(draw: st.DrawFn) -> Floats:
    """Outputs to four digits: a distribution for each exclusive head, anything for the others."""
    parts: list[int] = []
    for head in VOCABULARY.heads.values():
        drawn = draw(st.lists(st.integers(0, GRAIN), min_size=len(head.values), max_size=len(head.values)))
        cuts = [0, *sorted(drawn[1:]), GRAIN]
        parts += [high - low for low, high in pairwise(cuts)] if head.exclusive else drawn
    return np.array(parts) / GRAIN


def read(*rows: bytes) -> list[Past | RowError]:
    return list(read_history(rows))


@settings(deadline=None)
@given(distributions())
def test_strengths_come_back_as_they_were(given: Floats) -> None:
    assert strengths_of(answered("c", given), POLICY, VOCABULARY) == POLICY.strengths(given)


@settings(deadline=None)
@given(distributions())
def test_a_policy_decides_its_own_answers_as_it_did(given: Floats) -> None:
    answer = answered("c", given)
    decision = redecide(answer, POLICY, VOCABULARY)
    assert (decision.score, decision.queue) == (answer.priority.score, answer.priority.queue)
    assert list(decision.reasons) == answer.priority.reasons


def test_an_abstention_stays_one() -> None:
    policy = changed(abstained={"score": 40, "queue": "priority"})
    assert redecide(abstained("c"), policy, VOCABULARY) == policy.decide_abstained("language")


def test_hot_by_hand() -> None:
    given = outputs(frustration__strong=0.3, frustration__severe=0.2, signals__abuse=0.5, signals__repeat_contact=1.0)
    assert hot_chance(answered("c", given), VOCABULARY) == pytest.approx(0.75)


def test_heads_that_an_answer_does_not_carry_are_not_numbers_and_a_factor_that_asks_for_one_says_so() -> None:
    where = VOCABULARY.slices()["complaint"]
    plain = answered("c")
    assert np.isnan(outputs_of(plain, VOCABULARY)[where]).all()
    policy = Policy(POLICY.config.model_copy(update={"factors": changed_factors()}), VOCABULARY)
    with pytest.raises(RowInvalid, match="complaint"):
        strengths_of(plain, policy, VOCABULARY)
    whole = plain.model_copy(update={"auxiliary": {"complaint": [0.9]}})
    assert strengths_of(whole, policy, VOCABULARY)["complaint"] == pytest.approx(0.9)


def changed_factors() -> dict[str, object]:
    return {**POLICY.config.factors, **changed(factors=ON_COMPLAINT, queues=QUEUES, holdout={}).config.factors}


QUEUES = [{"name": "critical", "reasons": [], "score": 90}, {"name": "senior", "reasons": [], "score": 75}]
QUEUES += [{"name": "standard", "reasons": [], "score": 0}]


def test_both_shapes_are_read() -> None:
    first, second = answered("c1"), answered("c2", turn=1)
    exported = export("c2", (None, None), ("2026-10-01T23:30:00-02:00", second))
    assert read(line(first), b"\n", line(exported)) == [
        Past(first, 1),
        Past(second, 3, datetime(2026, 10, 2, 1, 30, tzinfo=UTC)),
    ]


def test_a_time_without_a_zone_is_taken_as_utc() -> None:
    found = read(line(export("c", ("2026-10-01T12:00:00", answered("c")))))
    assert isinstance(found[0], Past)
    assert found[0].at == datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff", "UTF-8"),
        (b"[1]", "object"),
        (b"null", "object"),
        (b"[" * 100_000, "deeply"),
        (b'{"id": "c", "text": "hi"}', "simmer score"),
        (b'{"id": "c", "line": 3, "error": "text: must be a string"}', "must be a string"),
        (b'{"id": "c", "priority": {"score": "high"}}', "priority"),
        (b'{"conversation": {"id": "c"}}', "turns"),
        (b'{"conversation": {"id": "c"}, "turns": [{"at": "yesterday"}]}', "at"),
    ],
)
def test_what_is_no_answer_says_why_and_hides_no_other(row: bytes, said: str) -> None:
    good = line(answered("c9"))
    before, bad, after = read(good, row, good)
    assert isinstance(before, Past)
    assert isinstance(after, Past)
    assert isinstance(bad, RowError)
    assert bad.line == 2
    assert said in bad.error


def test_the_answers_of_another_model_are_refused() -> None:
    row = answered("c").model_dump(mode="json")
    wrong = [
        {**row, "signals": {"shrug": 0.5}},
        {**row, "frustration": {**row["frustration"], "probabilities": [0.5, 0.5]}},
        {**row, "auxiliary": {"mood": [0.5]}},
        {**row, "boil_over": 1.5},
        {**row, "signals": {**row["signals"], "abuse": -0.1}},
    ]
    for values in wrong:
        answer = Answer.model_validate_json(json.dumps(values))
        with pytest.raises(RowInvalid):
            redecide(answer, POLICY, VOCABULARY)


def test_an_answer_that_neither_judges_nor_abstains_is_refused() -> None:
    empty = abstained("c").model_copy(update={"abstained": None})
    with pytest.raises(RowInvalid, match="does not say"):
        redecide(empty, POLICY, VOCABULARY)
