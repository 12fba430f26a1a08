"""Explanations: which units there are, what each one's absence changes, and that only redacted text is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversation import Conversation, Role, Turn
from serving.batcher import Batcher, BatcherConfig
from serving.explain import MOST_UNITS, Explanation, explain
from serving.scorer import Job, LiveScorer, Scorer, last_turn

HEADS = {"sentiment", "frustration", "urgency", "boil_over"}
ANGRY = "This is the THIRD time I write to help@shop.example. You lot are useless, I want a manager NOW!!"


def talk(*turns: tuple[Role, str], **meta: float) -> Job:
    conversation = Conversation(id="c", turns=tuple(Turn(role=role, text=text) for role, text in turns), meta=meta)
    return last_turn(conversation)[0]


def live(scorer: Scorer, work: Callable[[LiveScorer], Awaitable[Explanation]]) -> Explanation:
    async def run() -> Explanation:
        batcher = Batcher(scorer.bundle.predictor, BatcherConfig(streams=1, warm_seconds=0))
        batcher.start()
        try:
            return await work(LiveScorer(scorer, batcher))
        finally:
            await batcher.close()

    return asyncio.run(run())


def explained(scorer: Scorer, job: Job, **how: int) -> Explanation:
    return live(scorer, lambda live_scorer: explain(live_scorer, job, **how))


def test_every_word_and_every_turn_that_was_read_is_a_unit(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", "Hi, where is it?"), ("agent", "On its way."), ("customer", ANGRY)))
    assert [(unit.text, unit.turn) for unit in found.units[:2]] == [("Hi, where is it?", 0), ("On its way.", 1)]
    assert [unit.text for unit in found.units[2:]] == found.text.split()
    assert all(found.text[unit.start : unit.end] == unit.text for unit in found.units if unit.turn is None)


def test_there_is_a_delta_for_each_unit_and_head(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", ANGRY)))
    assert set(found.heads) == HEADS | set(scorer.bundle.card.labels.heads["signals"].values)
    assert {len(deltas) for deltas in found.heads.values()} == {len(found.units)}


def test_a_delta_is_what_the_head_says_less_without_the_unit(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", "You useless idiots")))
    whole, without = (scorer.score([talk(("customer", text))])[0] for text in ("You useless idiots", "You idiots"))
    assert whole.frustration
    assert without.frustration
    delta = whole.frustration.expected - without.frustration.expected
    assert found.heads["frustration"][1] == pytest.approx(delta, abs=0.02)


def test_a_repeat_is_told_from_the_word_that_says_so(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", ANGRY)))
    deltas = found.heads["repeat_contact"]
    assert found.units[deltas.index(max(deltas))].text == "THIRD"


def test_only_redacted_text_is_shown(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", "Write to me@home.example"), ("customer", ANGRY)))
    assert "@" not in found.model_dump_json()
    assert "[EMAIL]." in [unit.text for unit in found.units]


def test_the_rules_are_those_that_decided(scorer: Scorer) -> None:
    job = talk(("customer", ANGRY), waiting_minutes=600)
    found, answer = explained(scorer, job), scorer.score([job])[0]
    assert [rule.reason for rule in found.rules if rule.fired] == answer.priority.reasons
    calm = 1.0
    for rule in found.rules:
        calm *= 1 - rule.weight * rule.strength
    assert round(100 * (1 - calm)) == pytest.approx(answer.priority.score, abs=1)


def test_long_messages_are_explained_in_chunks(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", "Hello"), ("customer", "still no refund " * 400)))
    assert len(found.units) <= MOST_UNITS
    assert " ".join(unit.text for unit in found.units if unit.turn is None) == found.text


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_number_of_units_can_be_bounded(scorer: Scorer, most: int) -> None:
    found = explained(scorer, talk(*[("agent", "Bear with me")] * 4, ("customer", ANGRY)), most=most)
    assert 1 <= len(found.units) <= most
    assert any(unit.turn is None for unit in found.units)


def test_what_is_not_judged_is_not_explained(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", "12345")))
    assert found.abstained
    assert (found.abstained.reason, found.units, found.heads) == ("no_words", [], {})


def test_a_lone_word_is_compared_with_nothing(scorer: Scorer) -> None:
    found = explained(scorer, talk(("customer", "useless")))
    assert [unit.text for unit in found.units] == ["useless"]


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=80), earlier=st.lists(st.text(max_size=40), max_size=3))
def test_nothing_that_is_written_upsets_it(scorer: Scorer, text: str, earlier: list[str]) -> None:
    found = explained(scorer, talk(*[("agent", said) for said in earlier], ("customer", text)), most=4)
    for unit in found.units:
        assert unit.turn is not None or found.text[unit.start : unit.end] == unit.text
