"""The bundled corpus keeps what its data card says of it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pipeline.agreement import agreement, read_blind
from pipeline.conversation import Conversation
from pipeline.diversity import diversity, near_duplicates
from pipeline.language import identify
from pipeline.redact import redact
from pipeline.sources.bundled import BLIND, SOURCE
from pipeline.stage import CORPORA
from pipeline.vocabulary import load_vocabulary
from tests.conftest import ROOT

CARD = (ROOT / "corpus" / "README.md").read_text(encoding="utf-8")
VOCABULARY = load_vocabulary()
SPLITS = ("train", "validation", "test", "live")


@pytest.fixture(scope="module")
def corpus() -> list[Conversation]:
    return list(SOURCE.read(CORPORA))


@pytest.fixture(scope="module")
def messages(corpus: list[Conversation]) -> list[str]:
    return [c.turns[i].text for c in corpus for i in c.customer_turns()]


def of_split(corpus: list[Conversation], split: str) -> list[Conversation]:
    return [c for c in corpus if c.meta["split"] == split]


def hot_turns(conversations: list[Conversation]) -> list[bool]:
    return [bool(VOCABULARY.hot.applies(c.turns[i].labels or {})) for c in conversations for i in c.customer_turns()]


def card_number(pattern: str) -> float:
    found = re.search(pattern, CARD)
    assert found, f"the data card says nothing of {pattern}"
    return float(found[1].replace(",", ""))


def test_it_is_as_large_as_promised(corpus: list[Conversation], messages: list[str]) -> None:
    assert len(corpus) >= 500
    assert len(messages) >= 3500
    assert len({c.meta["industry"] for c in corpus}) >= 10
    assert {c.channel for c in corpus} == {"chat", "email", "social", "phone"}


def test_every_customer_turn_is_labelled_within_the_vocabulary(corpus: list[Conversation]) -> None:
    heads = {name for name, head in VOCABULARY.heads.items() if not head.auxiliary and name != "boil_over"}
    for conversation in corpus:
        for index, turn in enumerate(conversation.turns):
            assert (turn.labels is not None) == (turn.role == "customer"), f"{conversation.id} turn {index}"
            if turn.labels is not None:
                assert set(turn.labels) == heads, f"{conversation.id} turn {index}"
                VOCABULARY.check(turn.labels)


def test_every_value_is_taught_and_tested(corpus: list[Conversation]) -> None:
    for split, least in (("train", 40), ("test", 5)):
        given = Counter()
        for conversation in of_split(corpus, split):
            for index in conversation.customer_turns():
                for head, label in (conversation.turns[index].labels or {}).items():
                    given.update((head, str(v)) for v in (label if isinstance(label, tuple) else (label,)))
        for head in ("sentiment", "signals"):
            for value in VOCABULARY.heads[head].values:
                assert given[head, value] >= least, f"{split}: {head} {value}"
        for head in ("frustration", "urgency"):
            for level in range(4):
                assert given[head, str(level)] >= least, f"{split}: {head} {level}"


@pytest.mark.parametrize("split", ["test", "live"])
def test_held_back_splits_are_as_hot_as_life(corpus: list[Conversation], split: str) -> None:
    hot = hot_turns(of_split(corpus, split))
    assert 0.10 <= sum(hot) / len(hot) <= 0.20


def test_every_conversation_names_its_split(corpus: list[Conversation]) -> None:
    assert {c.meta["split"] for c in corpus} == set(SPLITS)
    assert len({c.id for c in corpus}) == len(corpus)


def test_conversations_boil_over_and_are_saved(corpus: list[Conversation]) -> None:
    courses = [hot_turns([c]) for c in corpus if len(c.customer_turns()) > 1]
    assert sum(not course[0] and any(course) for course in courses) >= 50
    assert sum(any(course[:-1]) and not course[-1] for course in courses) >= 30


def test_no_two_messages_are_nearly_the_same(messages: list[str]) -> None:
    pairs = near_duplicates(messages, threshold=0.8, min_words=6)
    assert not pairs, [(messages[i], messages[j]) for i, j in pairs[:3]]


def test_messages_do_not_begin_alike(messages: list[str]) -> None:
    found = diversity(messages)
    assert found["distinct_openings_share"] > 0.9
    assert found["commonest_opening_share"] < 0.01
    assert found["distinct_words"] > 5000


def test_it_is_english(messages: list[str]) -> None:
    foreign = [m for m in messages if (found := identify(m)) and found.code != "en" and found.among(["en"]) < 0.02]
    assert len(foreign) / len(messages) < 0.01, foreign[:5]


def test_personal_data_in_it_is_made_up_and_does_not_reach_the_dataset(messages: list[str]) -> None:
    for message in messages:
        assert not re.search(r"[\w.]+@[\w.]+\.\w+", redact(message)), message


def test_the_data_card_tells_the_size(corpus: list[Conversation], messages: list[str]) -> None:
    assert card_number(r"([\d,]+) conversations") == len(corpus)
    assert card_number(r"([\d,]+) labelled customer turns") == len(messages)


@pytest.mark.parametrize("split", SPLITS)
def test_the_data_card_tells_the_splits(corpus: list[Conversation], split: str) -> None:
    row = re.search(rf"^\| {split} \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) % \|", CARD, re.M)
    assert row, f"the data card has no row for {split}"
    conversations = of_split(corpus, split)
    hot = hot_turns(conversations)
    assert int(row[1].replace(",", "")) == len(conversations)
    assert int(row[2].replace(",", "")) == len(hot)
    assert float(row[3]) == round(100 * sum(hot) / len(hot), 1)


def test_the_data_card_tells_the_agreement(corpus: list[Conversation]) -> None:
    found = agreement(corpus, read_blind(BLIND), VOCABULARY)
    assert found["turns"] >= 300
    assert card_number(r"([\d,]+) turns were labelled a second time") == found["turns"]
    for head in ("sentiment", "frustration", "urgency", "signals"):
        assert card_number(rf"\| {head} \| [^|]+ \| ([\d.]+) \|") == round(found[head], 3)
