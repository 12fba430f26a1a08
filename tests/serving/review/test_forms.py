"""A page's form, well and ill filled in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.vocabulary import load_vocabulary
from serving.review.forms import VerdictForm, VerdictInvalid, parse_form

HEADS = {n: h for n, h in load_vocabulary().heads.items() if not h.auxiliary and h.kind != "probability"}
TOKEN = ("token", "abcdefghijklmnop")


def parse(*fields: tuple[str, str]) -> VerdictForm:
    return parse_form([TOKEN, *fields], HEADS)


def test_a_form_is_read_message_by_message() -> None:
    form = parse(
        ("seconds", "41.5"),
        ("hot", "yes"),
        ("routing", "wrong"),
        ("note", "  late  "),
        ("message-3", "m-7"),
        ("verdict-3", "correct"),
        ("sentiment-3", "negative"),
        ("frustration-3", "2"),
        ("urgency-3", ""),
        ("signals-3", "abuse"),
        ("signals-3", "churn_threat"),
        ("message-0", "m-1"),
        ("verdict-0", "agree"),
        ("sentiment-0", "neutral"),  # what the form had before the reviewer agreed
        ("message-1", "m-2"),
        ("verdict-1", ""),
        ("message-2", "m-3"),
        ("verdict-2", "withdraw"),
        ("csrf", "x"),
    )
    assert (form.seconds, form.hot, form.routing_right, form.note, form.adjudicates) == (
        41.5,
        True,
        False,
        "late",
        False,
    )
    agreed, withdrawn, corrected = form.turns
    assert (agreed.message, agreed.agrees, agreed.labels) == ("m-1", True, None)
    assert (withdrawn.message, withdrawn.labels) == ("m-3", {})
    assert corrected.labels == {"sentiment": "negative", "frustration": 2, "signals": ("abuse", "churn_threat")}


def test_no_signals_are_labels_too() -> None:
    (turn,) = parse(("message-0", "m"), ("verdict-0", "correct"), ("signals-0", "")).turns
    assert turn.labels == {"signals": ()}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ([("hot", "perhaps")], "hot"),
        ([("routing", "yes?")], "routing"),
        ([("note", "x" * 2001)], "note"),
        ([("verdict-0", "maybe")], "verdict-0"),
        ([("verdict-0", "agree")], "turns.0.message"),
        ([("message-4", "m"), ("verdict-4", "correct"), ("frustration-4", "very")], "frustration-4"),
        ([("message-4", "m"), ("verdict-4", "correct"), ("frustration-4", "²")], "frustration-4"),
        ([("token", "short")], "token"),
        ([("token", "")], "token"),
    ],
)
def test_what_cannot_be_read_is_named(fields: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(VerdictInvalid) as told:
        parse(*fields)
    assert told.value.field == field


@pytest.mark.parametrize("seconds", ["", "NaN", "-3", "inf", "1e9", "soon"])
def test_a_page_that_does_not_know_the_time_is_not_refused_for_it(seconds: str) -> None:
    assert parse(("seconds", seconds)).seconds is None


NAMES = st.sampled_from(["token", "hot", "verdict-0", "message-0", "frustration-0", "signals-0", "note", "seconds"])
VALUES = st.text(max_size=12) | st.sampled_from(["agree", "correct", "2"])


@given(st.lists(st.tuples(NAMES | st.text(max_size=8), VALUES)))
@settings(max_examples=150, deadline=None)
def test_whatever_a_client_sends_is_read_or_refused_by_name(fields: list[tuple[str, str]]) -> None:
    try:
        form, named = parse_form(fields, HEADS), ""
    except VerdictInvalid as told:
        form, named = None, told.field
    assert form or named
