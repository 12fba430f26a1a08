from __future__ import annotations

from collections import Counter

import pytest

from pipeline.conversation import Conversation
from pipeline.splits import SPLITS, SplitConfig, UnknownSplit, assign_splits, near_duplicate_groups, split_of

CONFIG = SplitConfig(validation_share=0.2, test_share=0.2, near_duplicate=0.8, near_duplicate_words=9)
LONG = "the parcel came on Tuesday with a broken lid and nobody signed"


def talk(*texts: str, name: str = "c", split: str | None = None) -> Conversation:
    turns = [{"role": "customer", "text": text} for text in texts]
    return Conversation.model_validate({"id": name, "turns": turns, "meta": {"split": split} if split else {}})


def numbered(number: int) -> Conversation:
    return talk("level 0", "level 1", name=f"c-{number}")


def test_a_named_split_is_kept() -> None:
    assert [split_of([talk("hi", split=split)], CONFIG) for split in SPLITS] == list(SPLITS)


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(UnknownSplit, match=r"c: meta\.split: 'dev' is none of train"):
        assign_splits([talk("hi", split="dev")], CONFIG)


def test_a_repeated_message_stays_in_one_split() -> None:
    assert len({split_of([talk("where is it", name=f"c{number}")], CONFIG) for number in range(30)}) == 1


def test_conversations_are_spread_over_the_splits() -> None:
    found = Counter(split_of([numbered(number)], CONFIG) for number in range(500))
    assert 60 < found["test"] < 140
    assert 60 < found["validation"] < 140


def test_a_larger_validation_share_takes_from_training_alone() -> None:
    wider = CONFIG.model_copy(update={"validation_share": 0.4})
    talks = [numbered(number) for number in range(500)]
    moved = Counter((split_of([one], CONFIG), split_of([one], wider)) for one in talks)
    assert {pair for pair in moved if pair[0] != pair[1]} == {("train", "validation")}


def test_splits_stay_what_they_were() -> None:
    assert "".join(split_of([numbered(number)], CONFIG)[0] for number in range(1, 9)) == "tvttvttv"
    assert split_of([talk("  Where is\nMY parcel?")], CONFIG) == split_of([talk("where is my parcel?")], CONFIG)


@pytest.mark.parametrize(("splits", "expected"), [(("train", "test"), "test"), (("train", "validation"), "validation")])
def test_near_duplicates_go_where_the_most_held_back_belongs(splits: tuple[str, str], expected: str) -> None:
    first = talk(LONG.upper(), name="c1", split=splits[0])
    second = talk(LONG + "!", "and a second message", name="c2", split=splits[1])
    assert assign_splits([first, second], CONFIG) == [expected, expected]


def test_a_group_without_a_name_draws_once() -> None:
    together = [talk(LONG, str(number), name=f"c{number}") for number in range(60)]
    alone = [numbered(number) for number in range(300)]
    splits = Counter(assign_splits([*together, *alone], CONFIG)[60:])
    assert len(set(assign_splits(together, CONFIG))) == 1
    assert 30 < splits["test"] < 90


def test_mails_are_told_apart_by_what_was_written_and_not_by_what_is_quoted() -> None:
    quotes = "\n> I asked about the bill of March and nobody has called me back since then"
    mails = [talk(text + quotes, name=text).model_copy(update={"channel": "email"}) for text in (LONG, LONG[::-1])]
    again = talk(LONG + "\n> another history altogether", name="c").model_copy(update={"channel": "email"})
    first, other, same = near_duplicate_groups([*mails, again], CONFIG)
    assert first == same != other


def test_groups_reach_through_what_links_them() -> None:
    other = "I rang the shop twice and the line went dead both times"
    talks = [talk(LONG, name="a"), talk(LONG, other, name="b"), talk(other + "!", name="c"), talk("thanks", name="d")]
    first, second, third, alone = near_duplicate_groups([*talks], CONFIG)
    assert first == second == third != alone


def test_forms_of_one_original_stay_together() -> None:
    forms = [talk(text, name=text).model_copy(update={"meta": {"original": "chat 7"}}) for text in ("hi", "hello")]
    first, second, other = near_duplicate_groups([*forms, talk("good day", name="d")], CONFIG)
    assert first == second != other


def test_short_messages_link_nothing() -> None:
    assert len(set(near_duplicate_groups([talk("thanks a lot", name=str(n)) for n in range(3)], CONFIG))) == 3


def test_no_conversation_is_no_split() -> None:
    assert assign_splits([], CONFIG) == []
