from __future__ import annotations

from typing import Any

import pytest

from pipeline.conversation import Conversation, Turn
from pipeline.encode import Encoder, EncodingConfig, read_turn
from pipeline.prepare import (
    FEATURES,
    EmptySplit,
    PrepareConfig,
    SplitLeaks,
    check_leaks,
    labelled_turns,
    prepare,
    summary,
    targets,
    turn_rows,
)
from pipeline.scores import hot_targets
from pipeline.splits import SPLITS, SplitConfig
from pipeline.vocabulary import AnyOf, LabelError, load_vocabulary
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, load_tokenizer

VOCABULARY = load_vocabulary()
CONFIG = PrepareConfig(
    splits=SplitConfig(validation_share=0.2, test_share=0.2, near_duplicate=0.8, near_duplicate_words=9),
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


def test_a_message_in_training_and_elsewhere_is_a_leak() -> None:
    text = "one two three four five six seven eight nine"
    with pytest.raises(SplitLeaks, match="1 messages stand in two splits"):
        check_leaks([{"text": text, "split": "train"}, {"text": text.upper(), "split": "test"}])


def test_short_messages_may_repeat() -> None:
    check_leaks([{"text": "thanks", "split": "train"}, {"text": "thanks", "split": "test"}])


TOKENIZER = load_tokenizer(TrainedEncoder(name=BUNDLED_ENCODER))
ENCODER = Encoder(TOKENIZER, CONFIG.encoding)
LONG = "nine words are what it takes to be checked"


def said(text: str, role: Any = "customer", **labels: Any) -> Turn:
    return Turn(role=role, text=text, labels=labels or None)


def of(*turns: Turn, name: str = "a", channel: Any = "chat", **meta: str) -> Conversation:
    return Conversation(id=name, channel=channel, turns=turns, meta=dict(meta))


CALM, HOT, AGENT = said("ok", frustration=0), said("again!", frustration=2), said("sorry", "agent")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([HOT, CALM, CALM], [False, False, False]),
        ([CALM, AGENT, AGENT, said("hm", "bot"), AGENT, HOT], [True, False]),
        ([CALM, said("I want a manager", signals=("escalation_request",))], [True, False]),
        ([CALM, said("third time", signals=("repeat_contact",))], [False, False]),
        ([CALM, said("hm"), CALM], [None, False]),
        ([said("I rate this 2", satisfaction=2), AGENT, said("bye", satisfaction=3)], [None, None]),
        ([said("hello", "bot"), HOT, AGENT], [None]),
    ],
)
def test_boil_over_is_of_customer_turns_that_are_known_to_be_hot(
    turns: list[Turn], expected: list[bool | None]
) -> None:
    assert [labels.get("boil_over") for _, labels in labelled_turns(of(*turns), VOCABULARY)] == expected


def test_turns_that_say_nothing_make_no_rows() -> None:
    assert labelled_turns(of(AGENT, said("hm")), VOCABULARY) == []
    automatic = of(said("Out of office: back on Monday", frustration=0))
    assert list(turn_rows(automatic, VOCABULARY, ENCODER)) == []


def test_a_target_speaks_of_the_heads_that_are_labelled() -> None:
    target, known = targets({"frustration": 2, "signals": ("abuse",), "boil_over": True}, VOCABULARY)
    where = VOCABULARY.slices()
    assert [target[where[name]] for name in ("frustration", "signals", "boil_over")] == [
        [0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [1],
    ]
    assert (sum(target), len(target), sum(known)) == (3, VOCABULARY.size, 3)


def test_a_label_outside_the_vocabulary_is_no_target() -> None:
    with pytest.raises(LabelError):
        targets({"sentiment": "grumpy"}, VOCABULARY)


def test_a_row_carries_what_training_needs() -> None:
    turns = (CALM, AGENT, said("Still nothing!\n\nRegards,\nAnna", frustration=2))
    mail = of(*turns, channel="email", source="mine", industry="rail", split="live")
    _, row = turn_rows(mail, VOCABULARY, ENCODER)
    assert {*row, "split"} == set(FEATURES)
    assert (row["conversation"], row["turn"], row["text"]) == ("a", 2, "Still nothing!")
    assert (row["source"], row["channel"], row["industry"]) == ("mine", "email", "rail")
    encoded = ENCODER.encode(read_turn(mail, 2, CONFIG.encoding))
    assert (row["input_ids"], row["token_type_ids"]) == (encoded.ids, encoded.segments)


@pytest.mark.parametrize("other", ["validation", "test", "live"])
def test_a_leak_is_found_whatever_its_spaces_and_its_other_home(other: str) -> None:
    with pytest.raises(SplitLeaks, match=r"the first in .*'nine words"):
        check_leaks([{"text": LONG, "split": "train"}, {"text": LONG.replace(" ", "\n"), "split": other}])


@pytest.mark.parametrize(("text", "split"), [(LONG, "train"), (LONG + " now", "test")])
def test_repeats_within_training_and_longer_messages_are_no_leak(text: str, split: str) -> None:
    check_leaks([{"text": LONG, "split": "train"}, {"text": text, "split": split}])


def test_the_dataset_has_a_split_each_and_a_summary() -> None:
    corpus = [
        of(CALM, AGENT, HOT, name="one", source="s1", split="train"),
        of(said("Thank you, that worked", sentiment="positive"), name="two", source="s2", split="train"),
        *[of(said(split, frustration=1), name=split, source="s1", split=split) for split in SPLITS[1:]],
    ]
    dataset = prepare(corpus, CONFIG, VOCABULARY, TOKENIZER)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 3, "validation": 1, "test": 1, "live": 1}
    assert dataset["live"].features == FEATURES
    report = summary(dataset, VOCABULARY)
    assert report["train"]["sources"] == {"s1": 2, "s2": 1}
    assert report["validation"] == {"rows": 1, "tokens": 3, "sources": {"s1": 1}}
    assert report["train_values"]["frustration"] == {"none": 1, "mild": 0, "strong": 1, "severe": 0}
    assert report["train_values"]["boil_over"] == {"boil_over": 1}


def test_a_split_without_a_row_is_named() -> None:
    with pytest.raises(EmptySplit, match="no labelled customer turn in validation, test"):
        prepare([of(CALM, AGENT, HOT, split="train")], CONFIG, VOCABULARY, TOKENIZER)


def test_the_same_message_in_two_corpora_stays_together() -> None:
    twins = [of(said(LONG, frustration=0), AGENT, said(name, frustration=0), name=name) for name in ("one", "other")]
    rest = [of(said(split, frustration=1), name=split, split=split) for split in SPLITS]
    dataset = prepare([*twins, *rest], CONFIG, VOCABULARY, TOKENIZER)
    assert sum(LONG in rows["text"] for rows in dataset.values()) == 1
