"""Which split a conversation belongs to: the one it names, else one drawn; near-duplicates always share one.

Two corpora can hold the same chat, and people forward the same message, so conversations that share a message (nearly)
word for word form a group, and the group goes where its most held-back member belongs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.config import Config
from pipeline.conversation import Conversation
from pipeline.diversity import near_duplicates
from pipeline.errors import InputError

SPLITS = ("train", "validation", "test", "live")
_HELD_BACK = ("test", "live", "validation", "train")


class UnknownSplit(InputError):
    """A conversation names a split that does not exist."""


class SplitConfig(Config):
    """Shares of the conversations that name no split, and when two messages are the same."""

    validation_share: float
    test_share: float
    near_duplicate: float  # character-3-gram Jaccard
    near_duplicate_words: int  # shorter messages may repeat


def assign_splits(conversations: Sequence[Conversation], config: SplitConfig) -> list[str]:
    """The split of each conversation, in their order. Raises UnknownSplit."""
    own = [own_split(conversation, config) for conversation in conversations]
    groups = near_duplicate_groups(conversations, config)
    chosen: dict[int, str] = {}
    for group, split in zip(groups, own, strict=True):
        chosen[group] = min(split, chosen.get(group, split), key=_HELD_BACK.index)
    return [chosen[group] for group in groups]


def own_split(conversation: Conversation, config: SplitConfig) -> str:
    """The split the conversation names, else one drawn from a hash: of the text where a message stands alone,
    so that repeated messages stay together, of the id otherwise. Raises UnknownSplit."""
    named = conversation.meta.get("split")
    if named is not None:
        if named not in SPLITS:
            raise UnknownSplit(f"{conversation.id}: meta.split: {named!r} is none of {', '.join(SPLITS)}")
        return str(named)
    alone = len(conversation.turns) == 1
    key = " ".join(conversation.turns[0].text.lower().split()) if alone else conversation.id
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if draw < config.test_share:
        return "test"
    return "validation" if draw < config.test_share + config.validation_share else "train"


def near_duplicate_groups(conversations: Sequence[Conversation], config: SplitConfig) -> list[int]:
    """A number for each conversation, the same for those that share a customer message, nearly or exactly, and for
    those that are forms of one original (`meta.original`)."""
    said = [(n, c.turns[i].text) for n, c in enumerate(conversations) for i in c.customer_turns()]
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
