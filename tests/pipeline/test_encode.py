import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from pipeline.conversation import Conversation, Turn
from pipeline.encode import Earlier, Encoder, EncodingConfig, Input, keep_ends, read_turn
from pipeline.text import Cleaned
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, load_tokenizer

TOKENIZER = load_tokenizer(TrainedEncoder(name=BUNDLED_ENCODER))
CLS, SEP = TOKENIZER.token_to_id("[CLS]"), TOKENIZER.token_to_id("[SEP]")
CONFIG = EncodingConfig(max_tokens=64, message_tokens=40, turn_tokens=16, earlier_turns=3)

CONFIGS = st.builds(
    EncodingConfig,
    max_tokens=st.integers(16, 96),
    message_tokens=st.integers(8, 128),
    turn_tokens=st.integers(4, 64),
    earlier_turns=st.integers(0, 5),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.integers(0, 400).map("late ".__mul__)
EARLIER = st.lists(st.builds(Earlier, st.sampled_from(["customer", "agent", "bot"]), TEXT), max_size=5)


def given_input(message: str, *earlier: tuple[str, str]) -> Input:
    return Input(Cleaned(message), tuple(Earlier(*turn) for turn in earlier))


def conversation(*turns: tuple[str, str], channel: str = "chat") -> Conversation:
    return Conversation.model_validate(
        {"id": "c", "channel": channel, "turns": [{"role": role, "text": text} for role, text in turns]}
    )


def words(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=False))


@settings(deadline=None)
@given(config=CONFIGS, message=TEXT, earlier=EARLIER)
def test_the_budget_holds_and_the_message_comes_first(
    config: EncodingConfig, message: str, earlier: list[Earlier]
) -> None:
    encoder = Encoder(TOKENIZER, config)
    encoded = encoder.encode(Input(Cleaned(message), tuple(earlier)))
    alone = encoder.encode(Input(Cleaned(message), ()))
    assert len(encoded.ids) == len(encoded.segments) <= config.max_tokens
    assert encoded.ids[: len(alone.ids)] == alone.ids
    assert (alone.ids[0], alone.ids[-1], encoded.ids[-1]) == (CLS, SEP, SEP)
    assert set(alone.segments) == {0}
    assert set(encoded.segments[len(alone.ids) :]) <= {1}


@settings(deadline=None, max_examples=50)
@given(given=st.lists(st.tuples(TEXT, EARLIER), max_size=5))
def test_many_are_encoded_as_each_alone(given: list[tuple[str, list[Earlier]]]) -> None:
    encoder = Encoder(TOKENIZER, CONFIG)
    inputs = [Input(Cleaned(message), tuple(earlier)) for message, earlier in given]
    assert encoder.encode_many(inputs) == [encoder.encode(one) for one in inputs]


def test_what_came_before_stands_newest_first_and_says_who_spoke() -> None:
    encoded = Encoder(TOKENIZER, CONFIG).encode(
        given_input("it broke again", ("agent", "restart it"), ("customer", "my screen is black"))
    )
    assert words(encoded.ids) == "[CLS] it broke again [SEP] agent : restart it customer : my screen is black [SEP]"
    assert encoded.segments == [0] * 5 + [1] * (len(encoded.ids) - 5)


def test_without_room_the_oldest_turns_are_left_out() -> None:
    config = EncodingConfig(max_tokens=16, message_tokens=8, turn_tokens=8, earlier_turns=3)
    encoded = Encoder(TOKENIZER, config).encode(
        given_input("it broke again today", ("agent", "please restart it"), ("bot", "hello"), ("bot", "welcome"))
    )
    assert "restart" in words(encoded.ids)
    assert "welcome" not in words(encoded.ids)


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    encoder = Encoder(TOKENIZER, CONFIG)
    text = words(encoder.encode(given_input("first " + "filler " * 50_000 + "last")).ids)
    assert text.startswith("[CLS] first filler")
    assert text.endswith("filler last [SEP]")


def test_a_message_without_text_leaves_room_for_what_came_before() -> None:
    encoded = Encoder(TOKENIZER, CONFIG).encode(given_input("", ("agent", "hello")))
    assert words(encoded.ids) == "[CLS] [SEP] agent : hello [SEP]"


@given(length=st.integers(0, 100), budget=st.integers(4, 60))
def test_kept_ends_fit_and_come_from_the_ends(length: int, budget: int) -> None:
    kept = keep_ends(list(range(length)), budget)
    head = length if length <= budget else budget - budget // 4
    assert len(kept) == min(length, budget)
    assert kept[:head] == list(range(head))
    assert kept[head:] == list(range(length - len(kept) + head, length))


def test_a_turn_is_read_with_what_came_before_it_and_nothing_after() -> None:
    chat = conversation(("customer", "one"), ("agent", "two"), ("customer", "three"), ("agent", "four"))
    given = read_turn(chat, 2, CONFIG)
    assert given.message.text == "three"
    assert given.earlier == (Earlier("agent", "two"), Earlier("customer", "one"))


def test_only_the_last_earlier_turns_are_read() -> None:
    chat = conversation(*[("agent", f"turn {number}") for number in range(9)], ("customer", "hello"))
    assert [turn.text for turn in read_turn(chat, 9, CONFIG).earlier] == ["turn 8", "turn 7", "turn 6"]


def test_what_is_read_is_clean_whoever_wrote_it() -> None:
    mail = conversation(
        ("customer", "Broken.\n\nRegards,\nAnna"),
        ("agent", "&lt;b&gt;Is anna@shop.example right?&lt;/b&gt;"),
        ("customer", "Yes, card 4111 1111 1111 1111\n\n> Is it right?"),
        channel="email",
    )
    given = read_turn(mail, 2, CONFIG)
    assert given.message.text == "Yes, card [CARD]"
    assert [cut.kind for cut in given.message.cuts] == ["quoted"]
    assert given.earlier == (Earlier("agent", "Is [EMAIL] right?"), Earlier("customer", "Broken."))


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_turn_can_be_read_and_encoded(text: str) -> None:
    chat = conversation(("customer", text), ("agent", text), ("customer", text))
    encoded = Encoder(TOKENIZER, CONFIG).encode(read_turn(chat, 2, CONFIG))
    assert 2 <= len(encoded.ids) <= CONFIG.max_tokens


@pytest.mark.timeout(20)
def test_a_hundred_thousand_characters_in_every_turn_take_no_time() -> None:
    chat = conversation(("customer", "why? " * 20_000), ("agent", "sorry " * 16_000), ("customer", "x" * 100_000))
    assert len(Encoder(TOKENIZER, CONFIG).encode(read_turn(chat, 2, CONFIG)).ids) <= CONFIG.max_tokens


def word_tokenizer(*specials: str) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate([*specials, "<unk>", "late"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def test_encoders_with_other_special_tokens_work() -> None:
    encoder = Encoder(word_tokenizer("<pad>", "<s>", "</s>"), CONFIG)
    assert encoder.encode(given_input("late late")).ids == [1, 4, 4, 2]
    assert encoder.pad == 0


def test_a_tokenizer_without_special_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[CLS\]"):
        Encoder(word_tokenizer("<pad>"), CONFIG)


def test_a_tokenizers_own_truncation_and_padding_do_not_count() -> None:
    tokenizer = load_tokenizer(TrainedEncoder(name=BUNDLED_ENCODER))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    assert len(Encoder(tokenizer, CONFIG).encode(given_input("one two three four five six")).ids) == 8


@pytest.mark.parametrize("field", ["max_tokens", "message_tokens", "turn_tokens", "earlier_turns"])
def test_a_budget_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        EncodingConfig.model_validate({**CONFIG.model_dump(), field: -1})


def test_an_earlier_turn_takes_no_more_than_its_share() -> None:
    turn = Turn(role="agent", text="sorry " * 300)
    chat = Conversation(id="c", turns=(turn, Turn(role="customer", text="hello")))
    encoded = Encoder(TOKENIZER, CONFIG).encode(read_turn(chat, 1, CONFIG))
    assert sum(encoded.segments) == CONFIG.turn_tokens + 1
