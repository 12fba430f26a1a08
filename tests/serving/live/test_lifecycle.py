"""What happens to a conversation, as pure functions: the rules hold for whatever is said, in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversation import Conversation, Turn
from pipeline.vocabulary import load_vocabulary
from serving.live import lifecycle
from serving.live.judging import Judge
from serving.live.lifecycle import NotNow
from serving.policy import Decision, load_policy
from serving.scorer import Job
from serving.store.records import Message, Record, State
from tests.serving.live.conftest import START, WordScoring

JUDGE = Judge(load_policy(load_vocabulary()), load_vocabulary())
TEXTS = ["hello", "furious", "urgent", "manager", "my lawyer", "soon", "furious and urgent", "12345", "urgent, soon"]
CALM = "hello"

minutes = st.integers(0, 60 * 24 * 20)
roles = st.sampled_from(["customer", "customer", "agent", "bot", "system"])


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def message(number: int, role: str, text: str, minute: float, came: float | None = None) -> Message:
    answer = None
    if role == "customer":
        talk = Conversation(id="c1", turns=(Turn(role="customer", text=text),))
        answer = WordScoring(JUDGE)._answer(Job(talk, 0)).model_dump(mode="json")
    came = minute if came is None else came
    return Message(f"m{number}", number, at(minute), at(came), role, text, "", answer)  # type: ignore[arg-type]


@st.composite
def conversations(draw: st.DrawFn, least: int = 1) -> tuple[Message, ...]:
    """Messages in the order in which they came, most of them in the order in which they were written."""
    said = draw(st.lists(st.tuples(roles, st.sampled_from(TEXTS), minutes, st.booleans()), min_size=least, max_size=8))
    came = sorted(minute for _, _, minute, _ in said)
    return tuple(
        message(n, role, text, min(minute, came[n]) if late else came[n], came[n])
        for n, (role, text, minute, late) in enumerate(said)
    )


def taken(messages: Sequence[Message], now: datetime | None = None) -> State:
    """The state of a conversation once all of this was said in it, one after the other."""
    state = lifecycle.begin("c1", "chat", None, {}, START)
    kept: tuple[Message, ...] = ()
    for one in messages:
        kept = lifecycle.insert(kept, one)
        state = lifecycle.said(Record(state, kept), JUDGE, now or max(one.received_at, state.updated_at))
        state = replace(state, version=state.version + 1)
    return state


def heat(state: State) -> tuple[int, int]:
    """How hot, comparably: the queue, then the score."""
    return -JUDGE.coolness(state.queue), state.score


@given(st.lists(minutes, max_size=9))
def test_messages_stand_by_time_and_of_equal_times_by_arrival(given: list[int]) -> None:
    kept: tuple[Message, ...] = ()
    for number, minute in enumerate(given):
        kept = lifecycle.insert(kept, message(number, "agent", "", minute))
    assert [(one.at, one.sequence) for one in kept] == sorted((at(minute), n) for n, minute in enumerate(given))


@given(st.lists(st.none() | st.integers(-5_000, 5_000).map(at), max_size=9))
def test_messages_without_a_time_stand_where_they_were_put(given: list[datetime | None]) -> None:
    found = lifecycle.dated(given, START)
    assert len(found) == len(given)
    for asked, (place, moment) in zip(given, enumerate(found), strict=True):
        if asked is not None and asked - START < lifecycle.AHEAD:
            assert moment == asked
        else:
            assert moment <= START
            assert all(moment <= later for later in found[place:])
    told = [asked for asked in given if asked is not None]
    if told == sorted(told) and all(asked <= START for asked in told):
        assert all(one <= other for one, other in pairwise(found))


@given(conversations())
def test_who_waits_is_whom_no_person_has_answered_since(messages: tuple[Message, ...]) -> None:
    state = taken(messages)
    kept = sorted(messages, key=lambda one: (one.at, one.sequence))
    answers = [place for place, one in enumerate(kept) if one.role == "agent"]
    open_ones = [one for one in kept[answers[-1] + 1 if answers else 0 :] if one.role == "customer"]
    assert state.waiting_since == min((min(one.at, one.received_at) for one in open_ones), default=None)
    assert (state.rank is not None) == bool(open_ones)
    assert state.first_answer_at == min((one.received_at for one in messages if one.role == "agent"), default=None)


@given(conversations(), st.sampled_from(TEXTS))
def test_one_more_message_never_cools_a_customer_down_whom_nobody_has_answered(
    messages: tuple[Message, ...], text: str
) -> None:
    before = taken(messages)
    if before.waiting_since is None:
        return
    last = max(one.received_at for one in messages)
    more = replace(message(99, "customer", text, 0), at=last, received_at=last)
    after = taken([*messages, more])
    assert JUDGE.coolness(after.queue) <= JUDGE.coolness(before.queue)
    assert after.score >= before.score
    assert (after.rank or 0) >= (before.rank or 0)
    assert after.hot >= before.hot


@given(conversations())
def test_the_same_in_any_order_of_arrival_comes_to_the_same(messages: tuple[Message, ...]) -> None:
    """Who waits and how hot it is depend on what was said and when, not on the order in which it was heard."""
    end = max(one.received_at for one in messages) + timedelta(days=9)
    heard = [replace(one, at=at(n), received_at=end) for n, one in enumerate(messages)]
    forth, back = taken(heard, end), taken(heard[::-1], end)
    for name in ("queue", "score", "reasons", "hot", "waiting_since", "rank", "ages_at", "strengths", "latest_message"):
        assert getattr(forth, name) == getattr(back, name), name


@given(conversations(), st.data())
def test_what_is_scored_is_what_is_new_and_what_it_changes(messages: tuple[Message, ...], data: st.DataObject) -> None:
    kept = sorted(messages, key=lambda one: (one.at, one.sequence))
    fresh = set(data.draw(st.sets(st.sampled_from([one.id for one in kept]), min_size=1)))
    wanted = lifecycle.to_score(kept, fresh, 32)
    customers = [place for place, one in enumerate(kept) if one.role == "customer"]
    assert len(set(wanted)) == len(wanted)
    assert set(wanted) <= set(customers)
    assert {place for place in customers if kept[place].id in fresh} <= set(wanted)
    if customers and any(one.id in fresh for one in kept[: customers[-1]]):
        assert customers[-1] in wanted


@given(conversations(), minutes)
def test_a_wait_becomes_a_reason_exactly_when_it_is_due(messages: tuple[Message, ...], minute: int) -> None:
    state = taken(messages)
    waiting = JUDGE.policy.config.waiting.reason
    if state.ages_at is None:
        return
    aged = lifecycle.due(state, JUDGE, state.ages_at)
    assert waiting in aged.reasons
    assert waiting not in state.reasons
    assert (aged.ages_at, aged.score, aged.rank) == (None, state.score, state.rank)
    assert heat(aged) >= heat(state)
    early = state.ages_at - timedelta(minutes=minute) - 2 * lifecycle.ROUNDING
    assert lifecycle.due(state, JUDGE, early) == state
    assert lifecycle.aged(aged, JUDGE, state.ages_at + timedelta(days=1)).reasons == aged.reasons


@given(conversations(), minutes)
def test_what_is_shown_grows_with_the_wait_and_never_falls(messages: tuple[Message, ...], minute: int) -> None:
    state = taken(messages)
    now = max(one.received_at for one in messages)

    def shown(later: float) -> Decision:
        return lifecycle.decided(state, JUDGE, now + timedelta(minutes=later))

    sooner, later = shown(minute / 2), shown(minute)
    assert later.score >= sooner.score
    assert JUDGE.coolness(later.queue) <= JUDGE.coolness(sooner.queue)


@given(conversations())
def test_another_look_under_the_same_policy_changes_nothing(messages: tuple[Message, ...]) -> None:
    state = taken(messages)
    if state.strengths is None or len(lifecycle.unanswered(messages)) > 1:
        return
    again = lifecycle.under(state, JUDGE, state.updated_at)
    assert replace(again, updated_at=state.updated_at) == state


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("assigned"), st.sampled_from(["ann", "ben"])),
        st.tuples(st.sampled_from(["released", "resolved", "customer", "agent", "bot"]), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=200)
@given(STEPS)
def test_who_may_do_what_when(steps: list[tuple[str, str | None]]) -> None:
    state = taken([message(0, "customer", CALM, 0)])
    kept: tuple[Message, ...] = (message(0, "customer", CALM, 0),)
    for number, (step, agent) in enumerate(steps, 1):
        now, before = at(number), state
        if step in ("customer", "agent", "bot"):
            kept = lifecycle.insert(kept, message(number, step, CALM, number))
            state = lifecycle.said(Record(state, kept), JUDGE, now)
            reopens = step == "customer" and before.status == "resolved"
            assert state.status == ("open" if reopens else before.status)
        elif not allowed(before, step, agent):
            with pytest.raises(NotNow):
                step_of(before, step, agent, now)
        else:
            state = step_of(before, step, agent, now)
            assert state.status == {"assigned": "assigned", "released": "open", "resolved": "resolved"}[step]
            assert state.agent == (agent or before.agent)
        assert (state.rank is not None) == (state.status == "open" and state.waiting_since is not None)
        assert not (state.status == "resolved" and state.waiting_since)
        assert state.updated_at >= before.updated_at
        kinds = [event.kind for event in lifecycle.heard(before, state, JUDGE)]
        assert ("reopened" in kinds) == (before.status == "resolved" and state.status == "open")


def allowed(state: State, step: str, agent: str | None) -> bool:
    if step == "assigned":
        return state.status == "open" or (state.status == "assigned" and state.agent == agent)
    return state.status == "assigned" if step == "released" else state.status != "resolved"


def step_of(state: State, step: str, agent: str | None, now: datetime) -> State:
    if step == "assigned":
        return lifecycle.assigned(state, agent or "", now, JUDGE)
    if step == "released":
        return lifecycle.released(state, now, JUDGE)
    return lifecycle.resolved(state, None, now, JUDGE)


@given(conversations(least=2))
def test_others_hear_of_every_change_once(messages: tuple[Message, ...]) -> None:
    state, kept = lifecycle.begin("c1", "chat", None, {}, START), ()
    for one in messages:
        before, kept = state, lifecycle.insert(kept, one)
        state = lifecycle.said(Record(state, kept), JUDGE, max(one.received_at, state.updated_at))
        state = replace(state, version=state.version + 1)
        kinds = [event.kind for event in lifecycle.heard(before, state, JUDGE)]
        assert len(kinds) == len(set(kinds))
        assert ("flagged" in kinds) == (state.hot and not before.hot)
        assert ("escalated" in kinds) == (JUDGE.coolness(state.queue) < JUDGE.coolness(before.queue))
        assert (state.first_hot_at is None) <= (not state.hot)


def test_what_is_told_of_a_conversation_holds_no_word_of_it() -> None:
    state = taken([message(0, "customer", "furious about my kneecap", 0)])
    told = [lifecycle.summary(state), *(event.body for event in lifecycle.heard(taken([]), state, JUDGE))]
    assert len(told) > 2
    assert "kneecap" not in str(told)
