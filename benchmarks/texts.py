"""Messages to measure with: all different, of an exact number of tokens, put together from the bundled corpus.

Different, because a server may remember what it scored; exact, so that every server has the same work.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from tokenizers import Tokenizer

from pipeline.sources.bundled import SOURCE
from pipeline.stage import CORPORA

TOKENS = 32  # with the first token and the separator
SEED = 17


def different_messages(count: int, tokenizer: Tokenizer, tokens: int = TOKENS) -> list[str]:
    """`count` messages of `tokens` tokens each, no two alike, the same ones each time."""
    found: dict[str, None] = {}
    for text in islice(_messages(_words(tokenizer), tokens - 2), 3 * count):
        found[text] = None
        if len(found) == count:
            return list(found)
    raise ValueError(f"only {len(found)} different messages of {tokens} tokens")


def _words(tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """The corpus's customer words, in order, with how many tokens each makes."""
    turns = (turn.text for c in SOURCE.read(CORPORA) for turn in c.turns if turn.role == "customer")
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    words = [word for text in turns for word in text.split() if word.isascii() and ">" not in word]
    kinds = sorted(set(words))
    sizes = [len(e.ids) for e in plain.encode_batch_fast(kinds, add_special_tokens=False)]
    size_of = dict(zip(kinds, sizes, strict=True))
    return [(word, size_of[word]) for word in words if size_of[word]]


def _messages(words: list[tuple[str, int]], tokens: int) -> Iterator[str]:
    """Two runs of the corpus's words, from places drawn at random, a word left out where it does not fit."""
    if all(size > 1 for _, size in words):
        raise ValueError("no word of one token, so nothing fills the last place")
    draw = random.Random(SEED)
    while True:
        message, room = [], tokens
        for half in (tokens // 2, 0):
            place = draw.randrange(len(words))
            while room > half:
                word, size = words[place % len(words)]
                place += 1
                if size <= room - half:
                    message.append(word)
                    room -= size
        yield " ".join(message)
