"""Which split a conversation belongs to: the one it names, else one drawn; near-duplicates always share one.

Two corpora can hold the same chat, and people forward the same message, so conversations that share a message (nearly)
word for word, once quotes and signatures are cut away, form a group and share a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.config import Config
from pipeline.conversation import Conversation
from pipeline.diversity import LEAST_OVERLAP, near_duplicates
from pipeline.errors import InputError
from pipeline.text import clean

SPLITS = ("train", "validation", "test", "live")
_HELD_BACK = ("test", "live", "validation", "train")


class UnknownSplit(InputError):
    """A conversation names a split that does not exist."""


class SplitConfig(Config):
    """Shares of the conversations that name no split, and when two messages are the same."""

    validation_share: float
    test_share: float
    near_duplicate: float = Field(ge=LEAST_OVERLAP)  # character-3-gram Jaccard
    near_duplicate_words: int  # shorter messages may repeat


def assign_splits(conversations: Sequence[Conversation], config: SplitConfig) -> list[str]:
    """The split of each conversation, in their order. Raises UnknownSplit."""
    members: dict[int, list[Conversation]] = {}
    groups = near_duplicate_groups(conversations, config)
    for group, conversation in zip(groups, conversations, strict=True):
        members.setdefault(group, []).append(conversation)
    chosen = {group: split_of(together, config) for group, together in members.items()}
    return [chosen[group] for group in groups]


def split_of(together: Sequence[Conversation], config: SplitConfig) -> str:
    """The most held-back split that any of the conversations names, else one drawn for all of them.

    Drawn from a hash: of the text where a message stands alone, of the id otherwise, so that another order or another
    conversation beside it changes nothing. Raises UnknownSplit.
    """
    named = [split for conversation in together if (split := named_split(conversation))]
    if named:
        return min(named, key=_HELD_BACK.index)
    drawn = draw(min(map(_key, together)))
    if drawn < config.test_share:
        return "test"
    return "validation" if drawn < config.test_share + config.validation_share else "train"


def draw(key: str) -> float:
    """A number from 0 to 1 that is always the same for a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def named_split(conversation: Conversation) -> str | None:
    """The split that the conversation names. Raises UnknownSplit."""
    named = conversation.meta.get("split")
    if named is not None and named not in SPLITS:
        raise UnknownSplit(f"{conversation.id}: meta.split: {named!r} is none of {', '.join(SPLITS)}")
    return None if named is None else str(named)


def _key(conversation: Conversation) -> str:
    alone = len(conversation.turns) == 1
    return " ".join(conversation.turns[0].text.lower().split()) if alone else conversation.id


def near_duplicate_groups(conversations: Sequence[Conversation], config: SplitConfig) -> list[int]:
    """A number for each conversation, the same for those that share a customer message, nearly or exactly, and for
    those that are forms of one original (`meta.original`)."""
    said = [
        (n, clean(c.turns[i].text, c.channel).text) for n, c in enumerate(conversations) for i in c.customer_turns()
    ]
    pairs = near_duplicates([text for _, text in said], config.near_duplicate, config.near_duplicate_words)
    links = [(said[i][0], said[j][0]) for i, j in pairs] + _same_original(conversations)
    first, second = np.array(links, dtype=np.intp).reshape(-1, 2).T
    linked = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(conversations),) * 2)
    return [int(group) for group in connected_components(linked, directed=False)[1]]


def _same_original(conversations: Sequence[Conversation]) -> list[tuple[int, int]]:
    """Each conversation that names its original beside the first that named the same one."""
    seen: dict[object, int] = {}
    originals = ((n, c.meta["original"]) for n, c in enumerate(conversations) if c.meta.get("original") is not None)
    return [(seen.setdefault(original, number), number) for number, original in originals]
