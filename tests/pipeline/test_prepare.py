from __future__ import annotations

from typing import Any

import pytest

from pipeline.conversation import Conversation
from pipeline.encode import EncodingConfig
from pipeline.prepare import PrepareConfig, SplitLeaks, check_leaks, labelled_turns, split_of, targets
from pipeline.scores import hot_targets
from pipeline.vocabulary import AnyOf, load_vocabulary

VOCABULARY = load_vocabulary()
CONFIG = PrepareConfig(
    validation_share=0.2,
    test_share=0.2,
    encoding=EncodingConfig(max_tokens=96, message_tokens=72, turn_tokens=24, earlier_turns=4),
)


def chat(*levels: int, split: str | None = None, name: str = "c") -> Conversation:
    turns: list[dict[str, Any]] = []
    for level in levels:
        turns += [{"role": "customer", "text": f"level {level}", "labels": {"frustration": level}}]
        turns += [{"role": "agent", "text": "I see."}]
    return Conversation.model_validate({"id": name, "turns": turns, "meta": {"split": split} if split else {}})


@pytest.mark.parametrize(
    ("hot", "ahead"),
    [
        ([False, False, True], [True, True, False]),
        ([False] * 4 + [True], [False, True, True, True, False]),
        ([False, None, False], [None, False, False]),
        ([False, None, True], [True, True, False]),
    ],
)
def test_boil_over_looks_three_customer_turns_ahead(hot: list[bool | None], ahead: list[bool | None]) -> None:
    assert hot_targets(hot, horizon=3) == ahead


def test_boil_over_is_added_to_each_customer_turn() -> None:
    assert [labels["boil_over"] for _, labels in labelled_turns(chat(0, 1, 2), VOCABULARY)] == [True, True, False]


def test_a_message_that_stands_alone_says_nothing_of_boiling_over() -> None:
    ((_, labels),) = labelled_turns(chat(3), VOCABULARY)
    assert "boil_over" not in labels


def test_a_coarse_label_allows_every_value_it_covers() -> None:
    target, known = targets({"sentiment": AnyOf(any_of=("very_negative", "negative"))}, VOCABULARY)
    assert target[VOCABULARY.slices()["sentiment"]] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert known == [name == "sentiment" for name in VOCABULARY.heads]


def test_a_named_split_is_kept() -> None:
    assert split_of(chat(0, split="live"), CONFIG) == "live"


def test_a_repeated_message_stays_in_one_split() -> None:
    splits = {
        split_of(chat(0, name=f"c{number}").model_copy(update={"turns": chat(0).turns[:1]}), CONFIG)
        for number in range(30)
    }
    assert len(splits) == 1


def test_conversations_are_spread_over_the_splits() -> None:
    found = [split_of(chat(0, 1, name=f"c{number}"), CONFIG) for number in range(500)]
    assert 60 < found.count("test") < 140
    assert 60 < found.count("validation") < 140


def test_a_message_in_training_and_elsewhere_is_a_leak() -> None:
    text = "one two three four five six seven eight nine"
    with pytest.raises(SplitLeaks, match="1 messages stand in training"):
        check_leaks([{"text": text, "split": "train"}, {"text": text.upper(), "split": "test"}])


def test_short_messages_may_repeat() -> None:
    check_leaks([{"text": "thanks", "split": "train"}, {"text": "thanks", "split": "test"}])
