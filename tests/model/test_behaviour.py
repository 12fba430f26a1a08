"""The behaviour suite is what it should be, and the bundle at hand stays within its bounds.

`tests/model/suite` holds the cases; `training/behaviour.py` measures how often each family fails, and
`training/register.py` refuses to promote a bundle over its bounds. A model of one epoch is only put through the suite.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import Bundle
from pipeline.conversation import Conversation, Turn, read_conversations
from pipeline.text import clean, has_words
from pipeline.vocabulary import load_vocabulary
from serving.scorer import Scorer, last_turn
from tests.conftest import BUNDLE_VARIABLE, ROOT
from training.behaviour import as_line, measure, read_texts
from training.register import gate_of
from training.suite import Case, Texts, load_suite

FAMILIES = {
    *("vocabulary", "intensity", "negation_simple", "negation_neutral", "negation_middle", "expectation", "temporal"),
    *("questions", "own_view", "names", "places", "groups", "typos", "links_mentions", "punctuation_caps"),
    *("politeness", "urgency", "numbers_dates", "quoted_agent", "sarcasm", "context"),
    *load_vocabulary().heads["signals"].values,
}
FEWEST_CASES = 20
SHORT_WORDS = 4  # anybody may write "yes please"

ANGRIER = [
    ("Could you tell me when the plumber is coming?", "WHEN is your plumber coming?? I've asked FOUR times now!!"),
    ("My order has not arrived yet.", "My order STILL hasn't arrived. This is beyond a joke."),
    ("I would like to change my seat.", "Your useless staff can't even change a seat. Disgraceful."),
    ("The app closes when I open a photo.", "The app crashes AGAIN. Every single update makes this garbage worse."),
    ("Thank you for the quick answer!", "Thanks for nothing, another day wasted on your hotline."),
    ("I was charged 20 euros twice.", "You thieves charged me twice and nobody cares. I'm done with you."),
    ("How long does delivery take?", "How long does delivery take, a year?? It's been three weeks of excuses!"),
    ("Please send the invoice to this address.", "This is the fifth time I request the invoice. I expect it today."),
]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return load_suite(ROOT / "tests" / "model" / "suite", load_vocabulary())


@pytest.fixture(scope="module")
def texts(cases: list[Case]) -> list[Texts]:
    return [text for case in cases for text in case.expectation.texts()]


@pytest.fixture(scope="module")
def metrics(cases: list[Case], texts: list[Texts], bundle: Bundle) -> dict[str, Any]:
    return measure(cases, read_texts(bundle.predictor, texts), examples=3)


def test_every_family_has_enough_cases(cases: list[Case]) -> None:
    counted = Counter(case.family for case in cases)
    assert set(counted) == FAMILIES
    assert [name for name, count in counted.items() if count < FEWEST_CASES] == []


def test_no_case_stands_twice(cases: list[Case]) -> None:
    counted = Counter((case.name.split()[0], case.expectation.texts()) for case in cases)
    assert [texts for texts, count in counted.items() if count > 1] == []


def test_no_two_texts_of_a_case_are_the_same(cases: list[Case]) -> None:
    alike = [case for case in cases if len(set(case.expectation.texts())) < len(case.expectation.texts())]
    assert [f"{case.family} {case.name}" for case in alike] == []


def test_every_message_has_words_after_cleaning(texts: list[Texts]) -> None:
    lone = [text[0].text for text in texts if len(text) == 1]
    assert [text for text in lone if not has_words(clean(text, "chat").text)] == []


def test_no_message_was_trained_on(texts: list[Texts]) -> None:
    corpus = {
        " ".join(turn.text.casefold().split())
        for path in (ROOT / "corpus" / "conversations").glob("*.jsonl")
        for conversation in read_conversations(path)
        for turn in conversation.turns
    }
    messages = {" ".join(text[-1].text.casefold().split()) for text in texts}
    assert [message for message in messages & corpus if len(message.split()) > SHORT_WORDS] == []


def test_no_slot_is_left_open(texts: list[Texts]) -> None:
    assert [as_line(text) for text in texts if "{" in as_line(text)] == []


def test_every_family_is_measured(metrics: dict[str, Any]) -> None:
    assert set(metrics["families"]) == FAMILIES
    for figures in metrics["families"].values():
        assert figures["failure_rate"] == pytest.approx(figures["failures"] / figures["cases"], abs=1e-4)
        assert len(figures["examples"]) == min(3, figures["failures"])


def test_bounds_are_of_families_that_exist(bundle_path: Path) -> None:
    assert set(gate_of(bundle_path).max_failure_rate) - {"default"} <= FAMILIES


def test_a_model_fails_less_than_half_of_the_suite(metrics: dict[str, Any]) -> None:
    assert metrics["overall"]["failure_rate"] < 0.5


@pytest.mark.skipif(BUNDLE_VARIABLE not in os.environ, reason="a model of one epoch need not stay within the bounds")
def test_the_bundle_stays_within_its_bounds(metrics: dict[str, Any], bundle_path: Path) -> None:
    assert gate_of(bundle_path).broken(metrics["families"]) == []


def test_anger_raises_priority(scorer: Scorer) -> None:
    calm, angry = ([priority(scorer, text) for text in side] for side in zip(*ANGRIER, strict=True))
    raised = [after > before for before, after in zip(calm, angry, strict=True)]
    assert sum(raised) >= len(raised) - 1  # a briefly trained model may miss one


def priority(scorer: Scorer, text: str) -> int:
    (answer,) = scorer.score(last_turn(Conversation(id="case", turns=(Turn(role="customer", text=text),))))
    return answer.priority.score
