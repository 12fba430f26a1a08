"""Verdicts: kept once, never changed, blind, disputed and settled; what is said of what is no more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import DBAPIError

from serving.review import accounts
from serving.review.accounts import Role
from serving.review.verdicts import Gone, NotAllowed, VerdictInvalid
from serving.store.schema import requests, reviews, verdicts
from tests.serving.live.conftest import START
from tests.serving.live.test_conversations import message, post
from tests.serving.review.conftest import ADA, ANGRY, CALM, GRACE, LEA, ROOT, Bench, run


@pytest.fixture
def talk(bench: Bench) -> Bench:
    bench.say("c1", "where is my parcel", "I am furious")
    return bench


@pytest.fixture
def one(desk: Bench) -> Bench:
    desk.say("c1", "where is my parcel", "I am furious")
    return desk


def test_a_verdict_says_of_each_message_whether_the_model_was_right(talk: Bench) -> None:
    saved = talk.judge(ADA, {"m1": "agree", "m2": {**ANGRY, "frustration": 2}}, hot=True, seconds=41.5)
    assert (saved.round, saved.review, saved.verdicts, saved.replayed) == ("first", "reviewed", 3, False)
    whole, first, second = talk.rows(verdicts)
    assert (whole.message, whole.labels, whole.agrees, whole.seconds) == (None, {"hot": True}, True, 41.5)
    assert (first.message, first.agrees, first.labels["frustration"], first.seconds) == ("m1", True, 0, None)
    assert (second.message, second.agrees, second.labels["frustration"]) == ("m2", False, 2)
    assert (second.said["frustration"], second.model) == (3, "1")
    assert talk.audited("c1")[-1] == ("reviewer ada", "reviewed")


def test_a_form_sent_twice_counts_once(talk: Bench) -> None:
    form = talk.form({"m1": "agree"}, note="fine")
    first, again = run(twice(talk, form, form))
    assert not first.replayed
    assert again == replace(first, replayed=True)
    assert len(talk.rows(verdicts)) == 2


async def twice(talk: Bench, *forms: Any) -> Any:
    return await asyncio.gather(*(talk.verdicts.save("c1", form, ADA) for form in forms))


def test_the_token_of_another_conversations_form_is_refused(one: Bench) -> None:
    one.say("c2", "hello")
    form = one.form({"m1": "agree"})
    run(one.verdicts.save("c1", form, ADA))
    with pytest.raises(VerdictInvalid, match="another conversation"):
        run(one.verdicts.save("c2", form, ADA))


def test_two_reviewers_who_save_at_once_are_both_kept_and_their_difference_shows(talk: Bench) -> None:
    mild, strong = talk.form({"m2": {"frustration": 1}}), talk.form({"m2": {"frustration": 2}})

    async def both() -> Any:
        return await asyncio.gather(talk.verdicts.save("c1", mild, ADA), talk.verdicts.save("c1", strong, GRACE))

    assert sorted(saved.round for saved in run(both())) == ["first", "second"]
    assert {row.reviewer for row in talk.rows(verdicts)} == {"ada", "grace"}
    assert [row.state for row in talk.rows(reviews)] == ["disputed"]


def test_a_newer_verdict_of_the_same_reviewer_undoes_the_older(talk: Bench) -> None:
    talk.judge(GRACE, {"m2": {"frustration": 2}})
    assert talk.judge(ADA, {"m2": {"frustration": 1}}).review == "disputed"
    assert talk.judge(ADA, {"m2": {"frustration": 2}}).review == "agreed"
    assert talk.judge(ADA, {"m2": {}}).review == "agreed"  # taken back: grace's alone holds
    assert len(talk.rows(verdicts)) == 4
    assert talk.view(ADA).turns[1].mine == {}


def test_nobody_sees_another_verdict_before_giving_their_own(talk: Bench) -> None:
    talk.judge(ADA, {"m2": {"frustration": 1}}, note="only impatient", hot=False)
    for blind in (GRACE, LEA, ROOT):
        view = talk.view(blind)
        assert (view.verdicts, view.hidden, view.turns[1].verdicts, view.mine) == ([], 1, [], None)
        assert "reviewed" not in [step.action for step in view.history]
    assert talk.view(GRACE).round == "second"
    talk.judge(GRACE, {"m2": {"frustration": 2}})
    view = talk.view(GRACE)
    assert [(v.reviewer, v.note) for v in view.verdicts] == [("ada", "only impatient")]
    assert [v.reviewer for v in view.turns[1].verdicts] == ["ada", "grace"]
    assert (view.hidden, view.turns[1].disputed) == (0, ("frustration",))
    assert [step.action for step in view.history] == ["reviewed", "reviewed"]


def test_a_lead_settles_what_two_see_differently(talk: Bench) -> None:
    talk.judge(ADA, {"m1": "agree", "m2": {"frustration": 1, "urgency": 2}}, hot=False, routing_right=True)
    talk.judge(GRACE, {"m2": {"frustration": 2, "urgency": 2}}, hot=True, routing_right=False)
    assert talk.view(LEA).adjudicates
    assert talk.judge(LEA, {"m2": {"frustration": 2}}, adjudicates=True).review == "disputed"
    saved = talk.judge(LEA, hot=True, routing_right=True, adjudicates=True)
    assert (saved.round, saved.review) == ("adjudication", "settled")
    assert talk.audited("c1")[-1] == ("reviewer lea", "settled")


@pytest.mark.parametrize(
    ("who", "why"),
    [(GRACE, "only a lead"), (replace(LEA, id="ada"), "who gave one of the verdicts")],
)
def test_who_may_not_settle_is_told_why(one: Bench, who: Any, why: str) -> None:
    one.judge(ADA, hot=False)
    one.judge(GRACE, hot=True)
    with pytest.raises(NotAllowed, match=why):
        one.judge(who, hot=True, adjudicates=True)


def test_an_admin_settles_even_between_themselves_and_another(one: Bench) -> None:
    one.judge(ROOT, hot=False)
    one.judge(GRACE, hot=True)
    assert one.view(ROOT).adjudicates
    assert one.judge(ROOT, hot=True, adjudicates=True).review == "settled"


def test_where_nobody_differs_there_is_nothing_to_settle(one: Bench) -> None:
    one.judge(ADA, hot=True)
    with pytest.raises(NotAllowed, match="nothing to settle"):
        one.judge(LEA, hot=True, adjudicates=True)


def test_a_lead_asks_for_a_second_verdict(talk: Bench) -> None:
    with pytest.raises(NotAllowed, match="nobody has given a first"):
        run(talk.verdicts.ask("c1", LEA))
    talk.judge(ADA, hot=True)
    with pytest.raises(NotAllowed, match="only a lead"):
        run(talk.verdicts.ask("c1", GRACE))
    run(talk.verdicts.ask("c1", LEA))
    assert talk.view(GRACE).review == "asked"
    assert talk.judge(ADA, hot=True).review == "asked"  # not their second
    assert talk.judge(GRACE, hot=True).review == "agreed"
    with pytest.raises(NotAllowed, match="was given already"):
        run(talk.verdicts.ask("c1", LEA))


def test_a_second_verdict_is_asked_of_somebody_in_particular(one: Bench) -> None:
    with one.world.database.writing.begin() as connection:
        for name in ("grace", "gone", "ada"):
            accounts.create(connection, name, "", Role.REVIEWER, "x", START, "test")
        accounts.disable(connection, "gone", START, "test")
    one.judge(ADA, hot=True)
    for nobody, why in (("gone", "no reviewer gone"), ("nobody", "no reviewer nobody"), ("ada", "given a verdict")):
        with pytest.raises(VerdictInvalid, match=why):
            run(one.verdicts.ask("c1", LEA, nobody))
    run(one.verdicts.ask("c1", LEA, "grace"))
    assert one.judge(ROOT, hot=True).review == "asked"
    assert one.judge(GRACE, hot=True).review == "agreed"
    assert one.view(GRACE).asked_of == "grace"


def test_a_share_of_first_verdicts_is_asked_for_a_second(one: Bench) -> None:
    object.__setattr__(one.config, "second_share", 0.3)
    for number in range(60):
        one.say(f"d{number}", "hello")
        one.judge(ADA, hot=False, to=f"d{number}")
    assert 8 <= len(one.rows(requests)) <= 30
    assert {row.asked_by for row in one.rows(requests)} == {"policy"}


def test_a_verdict_on_what_was_erased_is_refused_in_clear_words(talk: Bench) -> None:
    run(talk.world.live.handling.erase("c1", "desk"))
    with pytest.raises(Gone, match="was erased, or never was; nothing of the verdict was kept"):
        talk.judge(ADA, {"m1": "agree"}, note="lost?")
    assert talk.rows(verdicts) == []


def test_erasing_a_conversation_takes_the_notes_and_leaves_what_was_judged(talk: Bench) -> None:
    talk.judge(ADA, {"m2": {"frustration": 2}}, note="she writes from a hospital", hot=True)
    talk.judge(GRACE, {"m2": {"frustration": 1}}, note="impatient")
    run(talk.world.live.handling.erase("c1", "desk"))
    kept = talk.rows(verdicts)
    assert [(row.note, row.message) for row in kept] == [(None, None), (None, "m2"), (None, None), (None, "m2")]
    assert kept[1].labels == {"frustration": 2}
    assert (talk.rows(reviews), talk.rows(requests)) == ([], [])


def test_what_is_kept_long_enough_loses_its_notes_too(bench: Bench) -> None:
    bench.world.live.keeper._keep_days = 10
    bench.say("c1", "furious")
    bench.judge(ADA, note="old")
    bench.clock.move(days=11)
    assert run(bench.world.live.keeper.forget()) == 1
    assert [row.note for row in bench.rows(verdicts)] == [None]


@pytest.mark.parametrize(
    "change",
    [
        update(verdicts).values(agrees=False),
        update(verdicts).values(note="something else"),
        update(verdicts).values(note=None, reviewer="somebody"),
        update(verdicts).values(note=None, labels={"hot": False}),
        delete(verdicts),
    ],
    ids=["agrees", "note", "reviewer", "labels", "delete"],
)
def test_the_database_refuses_to_change_a_verdict(talk: Bench, change: Any) -> None:
    talk.judge(ADA, hot=True, note="as it was")
    before = talk.rows(verdicts)
    with pytest.raises(DBAPIError, match="append-only"), talk.world.database.writing.begin() as connection:
        connection.execute(change)
    assert talk.rows(verdicts) == before


def test_replacing_a_verdict_is_refused_too(one: Bench) -> None:
    one.judge(ADA, hot=True)
    row = dict(one.rows(verdicts)[0]._mapping)
    for number in (row["id"], row["id"] + 1):
        with pytest.raises(DBAPIError, match="append-only"), one.world.database.writing.begin() as connection:
            connection.execute(insert(verdicts).prefix_with("OR REPLACE").values({**row, "id": number}))


def test_notes_are_redacted_before_they_are_kept(one: Bench) -> None:
    one.judge(ADA, note="call her on +44 20 7946 0991\x00, jane@example.org")
    assert one.rows(verdicts)[0].note == "call her on [PHONE], [EMAIL]"


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ({"m9": "agree"}, "no message m9"),
        ({"a1": "agree"}, "only what the customer wrote"),
        ({"m1": {"sentiment": "furious"}}, r"turns\.0\.labels: sentiment: 'furious' is not one of"),
        ({"m1": {"frustration": 7}}, "frustration: 7 is not one of"),
        ({"m1": {"boil_over": True}}, "boil_over: is not labelled here"),
        ({"m1": {"emotion": ("anger",)}}, "emotion: is not labelled here"),
        ({"m1": {"sentiment": {"any_of": ["negative", "neutral"]}}}, "more than one value"),
        ({"m1": {"signals": "abuse"}}, "signals: "),
        ({"m1": None}, "send labels, or that the model is right"),
        ({}, "says nothing"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(one: Bench, turns: Any, why: str) -> None:
    post(one.world, message("a1", "we are looking", "agent"))
    with pytest.raises(VerdictInvalid, match=why):
        one.judge(ADA, turns)
    assert one.rows(verdicts) == []


def test_a_form_that_fails_in_one_part_keeps_nothing_of_the_others(one: Bench) -> None:
    with pytest.raises(VerdictInvalid):
        one.judge(ADA, {"m1": "agree", "m2": {"frustration": 9}}, hot=True)
    assert (one.rows(verdicts), one.rows(reviews)) == ([], [])


def test_one_cannot_agree_with_a_model_that_said_nothing(one: Bench) -> None:
    one.say("c2", "...")
    with pytest.raises(VerdictInvalid, match="said nothing of this message"):
        one.judge(ADA, {"m1": "agree"}, to="c2")
    assert one.judge(ADA, {"m1": CALM}, to="c2").verdicts == 1
    assert (one.rows(verdicts)[0].said, one.rows(verdicts)[0].agrees) == (None, False)


def test_a_message_is_judged_once_in_a_form(one: Bench) -> None:
    form = one.form({"m1": "agree"})
    doubled = form.model_copy(update={"turns": form.turns * 2})
    with pytest.raises(VerdictInvalid, match="twice"):
        run(one.verdicts.save("c1", doubled, ADA))
