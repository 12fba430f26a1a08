"""The one encoding: a message and what came before it, as token ids.

    [CLS] message [SEP] agent: … customer: … [SEP]
          segment 0     segment 1, newest turn first

Training and serving both call it. Uses the `tokenizers` library alone; the special tokens are read from
the tokenizer, so that any Hugging Face encoder with a fast tokenizer works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from pipeline.conversation import Conversation
from pipeline.redact import redact
from pipeline.text import Cleaned, clean, decode, normalise

_PAIRS = (("[CLS]", "[SEP]", "[PAD]"), ("<s>", "</s>", "<pad>"))
_CHARACTERS_PER_TOKEN = 12  # nothing past this many characters per token of budget is tokenised


class EncodingConfig(BaseModel):
    """Token budgets. `max_tokens` covers everything; a longer message keeps its beginning and its end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(ge=16, le=512)
    message_tokens: int = Field(ge=8, le=510)
    turn_tokens: int = Field(ge=4)
    earlier_turns: int = Field(ge=0)


@dataclass(frozen=True)
class Encoded:
    """Token ids with their segments (0 message, 1 what came before), of equal length."""

    ids: list[int]
    segments: list[int]


@dataclass(frozen=True)
class Earlier:
    """A turn that came before the message."""

    role: str
    text: str


@dataclass(frozen=True)
class Input:
    """What is scored of one customer turn: the cleaned message and the turns before it, newest first."""

    message: Cleaned
    earlier: tuple[Earlier, ...]


def read_turn(conversation: Conversation, turn: int, config: EncodingConfig) -> Input:
    """Turn number `turn` cleaned, with as many earlier turns as the encoding looks at."""
    channel = conversation.channel
    before = conversation.turns[max(0, turn - config.earlier_turns) : turn]
    limit = config.turn_tokens * _CHARACTERS_PER_TOKEN
    earlier = []
    for past in reversed(before):
        text = clean(past.text, channel).text if past.role == "customer" else redact(decode(past.text[: 2 * limit]))
        earlier.append(Earlier(past.role, text[:limit]))
    return Input(clean(conversation.turns[turn].text, channel), tuple(earlier))


class Encoder:
    """Encodes inputs with one tokenizer and one config."""

    def __init__(self, tokenizer: Tokenizer, config: EncodingConfig) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.config = config
        self._first, self._separator, self.pad = _special_tokens(tokenizer)

    def encode(self, given: Input) -> Encoded:
        """The token ids of one input, at most `max_tokens`."""
        return self.encode_many([given])[0]

    def encode_many(self, given: Sequence[Input]) -> list[Encoded]:
        """The token ids of many inputs, in order."""
        texts: list[str] = []
        for one in given:
            texts.append(_shorten(normalise(one.message.text), self.config.message_tokens))
            texts.extend(f"{turn.role}: {normalise(turn.text)}" for turn in one.earlier)
        tokens = iter([e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)])
        return [self._assemble(next(tokens), [next(tokens) for _ in one.earlier]) for one in given]

    def _assemble(self, message: list[int], earlier: list[list[int]]) -> Encoded:
        config = self.config
        budget = min(config.message_tokens, config.max_tokens - 2)
        ids = [self._first, *keep_ends(message, budget), self._separator]
        context: list[int] = []
        room = config.max_tokens - len(ids) - 1
        for turn in earlier:
            if room < 4:
                break
            piece = keep_ends(turn, min(config.turn_tokens, room))
            context += piece
            room -= len(piece)
        if context:
            context.append(self._separator)
        return Encoded(ids + context, [0] * len(ids) + [1] * len(context))


def keep_ends(tokens: list[int], budget: int) -> list[int]:
    """At most `budget` tokens: three quarters from the beginning, the rest from the end."""
    if len(tokens) <= budget:
        return tokens
    tail = budget // 4
    return tokens[: budget - tail] + tokens[len(tokens) - tail :]


def _shorten(text: str, budget: int) -> str:
    limit = budget * _CHARACTERS_PER_TOKEN
    if len(text) <= limit:
        return text
    return text[: limit * 3 // 4] + " " + text[-limit // 4 :]


def _special_tokens(tokenizer: Tokenizer) -> tuple[int, int, int]:
    for names in _PAIRS:
        first, separator, pad = (tokenizer.token_to_id(name) for name in names)
        if first is not None and separator is not None and pad is not None:
            return first, separator, pad
    raise ValueError("the tokenizer has neither [CLS] [SEP] [PAD] nor <s> </s> <pad>")
