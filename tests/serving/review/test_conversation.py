"""The conversation as a reviewer sees it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.vocabulary import load_vocabulary
from serving.live.bodies import NewConversation, NewTurn
from serving.live.conversations import NotThere
from serving.review.hints import RULES
from serving.review.labelling import Labelling
from serving.routing.agents import Agent
from tests.serving.live.conftest import MODEL
from tests.serving.live.test_conversations import message, post
from tests.serving.review.conftest import ADA, GRACE, LEA, ROOT, Bench, run


def test_what_was_said_and_said_of_it_stands_turn_by_turn(bench: Bench) -> None:
    post(bench.world, message("m1", "where is it, mail jane@example.org"), message("a1", "we look", "agent"))
    post(bench.world, message("m2", "I am furious, a manager please"))
    view = bench.view(ADA)
    assert [(turn.message, turn.role) for turn in view.turns] == [
        ("m1", "customer"),
        ("a1", "agent"),
        ("m2", "customer"),
    ]
    first, agents, angry = view.turns
    assert first.text == "where is it, mail [EMAIL]"
    assert (agents.labels, agents.heat, agents.said, agents.abstained) == (None, None, None, None)
    assert angry.labels == {
        "sentiment": "very_negative",
        "frustration": 3,
        "urgency": 0,
        "signals": ("escalation_request",),
        "satisfaction": 3,
    }
    assert angry.heat is not None
    assert (angry.heat.frustration, angry.heat.hot, angry.heat.low, angry.heat.high) == (3.0, 1.0, None, None)
    assert (view.turned, view.flagged, view.intervals) == ("m2", True, False)
    assert (view.review, view.round, view.may_ask, view.adjudicates) == ("open", "first", False, False)
    now = [rule.reason for rule in view.rules if rule.now]
    assert {"frustration_severe", "escalation_request"} <= set(now)
    assert view.rules[0].weight is not None
    assert view.rules[0].strength is not None


def test_rules_that_fired_earlier_are_told_apart(desk: Bench) -> None:
    desk.say("c1", "I am furious")
    post(desk.world, message("a1", "sorry", "agent"), message("m2", "thank you"))
    assert {rule.reason for rule in desk.view(ADA).rules if not rule.now} >= {"frustration_severe"}
    assert desk.view(ADA).hot is False
    assert desk.view(ADA).flagged is True


def test_what_was_cut_from_a_message_is_shown_beside_it(desk: Bench) -> None:
    mail = "It is broken again.\n\nOn Mon, 2 Mar 2026 at 09:00, Desk <desk@example.org> wrote:\n> Please try again."
    whole = NewConversation(channel="email", turns=(NewTurn(role="customer", text=mail),))
    run(desk.world.live.conversations.put("c1", whole))
    (turn,) = desk.view(ADA).turns
    assert [(one.kind, "Please try again" in one.text) for one in turn.removed] == [("quoted", True)]


def test_why_nothing_was_judged_is_said(desk: Bench) -> None:
    desk.say("c1", "...")
    (turn,) = desk.view(ADA).turns
    assert (turn.abstained, turn.labels, turn.heat) == ("no_words", None, None)


def test_what_people_did_is_told_in_order(desk: Bench) -> None:
    agent = Agent(id="senior", tier="senior", languages=frozenset({"en"}), cap=1)
    run(desk.world.live.handling.put_agent(agent, "desk"))
    desk.say("c1", "furious")
    run(desk.world.live.handling.assign("c1", "desk"))
    run(desk.world.live.handling.resolve("c1", "refunded", "desk"))
    view = desk.view(ADA)
    assert [step.action for step in view.history] == ["assigned", "resolved"]
    assert (view.agent, view.outcome, view.status) == ("senior", "refunded", "resolved")


def test_every_form_has_a_token_of_its_own(desk: Bench) -> None:
    desk.say("c1", "furious")
    tokens = {desk.view(ADA).token for _ in range(5)}
    assert len(tokens) == 5
    form = desk.form({"m1": "agree"}).model_copy(update={"token": tokens.pop()})
    assert run(desk.verdicts.save("c1", form, ADA)).verdicts == 1


def test_what_one_said_before_is_shown_to_them(desk: Bench) -> None:
    desk.say("c1", "furious")
    desk.judge(ADA, {"m1": {"frustration": 2, "signals": ("abuse",)}}, hot=True, routing_right=False, note="late")
    view = desk.view(ADA)
    assert view.turns[0].mine == {"frustration": 2, "signals": ("abuse",)}
    assert view.mine is not None
    assert (view.mine.hot, view.mine.routing_right, view.mine.note) == (True, False, "late")
    assert (view.round, view.hidden) == ("first", 0)


def test_who_may_do_what_is_said_to_each(desk: Bench) -> None:
    desk.say("c1", "furious")
    desk.judge(ADA, hot=True)
    assert [desk.view(who).may_ask for who in (ADA, GRACE, LEA, ROOT)] == [False, False, True, True]
    desk.judge(GRACE, hot=False)
    assert [desk.view(who).adjudicates for who in (ADA, GRACE, LEA, ROOT)] == [False, False, True, True]
    assert desk.view(LEA).may_ask is False
    assert [verdict.reviewer for verdict in desk.view(LEA).verdicts] == ["ada", "grace"]


def test_a_conversation_that_is_no_more_is_not_there(desk: Bench) -> None:
    with pytest.raises(NotThere):
        desk.view(ADA, "never")
    with pytest.raises(NotThere):
        run(desk.reading.words("never", "m1"))


def test_words_are_explained_with_what_came_before(desk: Bench) -> None:
    desk.say("c1", "first", "second", "third")
    assert run(desk.reading.words("c1", "m2")) == "explained"
    (job,) = desk.explained
    assert [turn.text for turn in job.conversation.turns] == ["first", "second"]
    with pytest.raises(NotThere):
        run(desk.reading.words("c1", "m9"))


def test_an_agents_words_are_not_explained(desk: Bench) -> None:
    post(desk.world, message("m1"), message("a1", "we look", "agent"))
    with pytest.raises(NotThere):
        run(desk.reading.words("c1", "a1"))


BINS = [
    {"low": 0.0, "high": 0.1, "rows": 200, "positives": 10},
    {"low": 0.1, "high": 0.8, "rows": 0, "positives": 0},
    {"low": 0.8, "high": 1.0, "rows": 40, "positives": 30},
]


@pytest.mark.parametrize(
    ("text", "bundle", "expected"),
    [
        ("hello", MODEL.bundle, (0.0274, 0.0896)),
        ("soon", MODEL.bundle, (0.5981, 0.8581)),
        ("soon", "sha256:another", (None, None)),
    ],
)
def test_a_forecast_has_an_interval_where_the_card_says_how_often_such_came_true(
    desk: Bench, text: str, bundle: str, expected: Any
) -> None:
    card: Any = SimpleNamespace(metrics={"test": {"boil_over": {"bins": BINS}}}, calibration=thresholds(0.5))
    desk.labelling = Labelling(desk.labelling.judge, card, bundle)
    desk.say("c1", text)
    view = desk.view(ADA)
    assert view.intervals
    heat = view.turns[0].heat
    assert heat is not None
    assert (heat.low, heat.high) == expected


def thresholds(at: float) -> Any:
    return SimpleNamespace(thresholds=(at,) * load_vocabulary().size)


def test_signals_are_read_by_the_models_thresholds(desk: Bench) -> None:
    card: Any = SimpleNamespace(metrics={}, calibration=thresholds(0.0))
    desk.labelling = Labelling(desk.labelling.judge, card, MODEL.bundle)
    desk.say("c1", "hello")
    labels = desk.view(ADA).turns[0].labels
    assert labels is not None
    assert labels["signals"] == load_vocabulary().heads["signals"].values


def test_there_is_a_rule_at_hand_for_every_label(desk: Bench) -> None:
    desk.say("c1", "hello")
    hints = desk.view(ADA).hints
    assert [one.head for one in hints] == ["sentiment", "frustration", "urgency", "signals", "satisfaction"]
    assert all(hint.rule for one in hints for hint in one.values)
    assert {one.head: one.levels for one in hints}["frustration"] == [0, 1, 2, 3]
    assert set(RULES) == {one.head for one in hints}
