"""How varied a set of messages is: near-duplicates, vocabulary, openings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[\w']+")
_PRIME = np.uint64(2**31 - 1)
_BANDS, _BAND_ROWS = 20, 6


def near_duplicates(texts: Sequence[str], threshold: float, min_words: int) -> list[tuple[int, int]]:
    """Index pairs (i < j) of texts of at least `min_words` words whose character-3-gram Jaccard exceeds `threshold`.

    Candidates come from MinHash signatures in bands (Broder 1997), so that a hundred thousand texts take seconds: of
    the pairs at 0.8 one in five hundred is overlooked, at 0.9 fewer than one in a million.
    """
    kept = [index for index, text in enumerate(texts) if len(text.split()) >= min_words]
    grams = [_grams(texts[index]) for index in kept]
    close = (pair for pair in _candidates(grams) if _jaccard(grams[pair[0]], grams[pair[1]]) > threshold)
    return sorted((kept[i], kept[j]) for i, j in close)


def openings(texts: Sequence[str], words: int = 3) -> Counter[str]:
    """How often each beginning of `words` words occurs, case folded, shorter messages left out."""
    split = (_WORD.findall(text.lower()) for text in texts)
    return Counter(" ".join(found[:words]) for found in split if len(found) > words)


def diversity(texts: Sequence[str]) -> dict[str, float]:
    """Words, distinct words, distinct openings per message, and the commonest opening's share."""
    words = [word for text in texts for word in _WORD.findall(text.lower())]
    begun = openings(texts)
    total = max(1, sum(begun.values()))
    return {
        "words": len(words),
        "distinct_words": len(set(words)),
        "distinct_openings_share": round(len(begun) / total, 4),
        "commonest_opening_share": round(max(begun.values(), default=0) / total, 4),
    }


def _grams(text: str) -> NDArray[np.uint64]:
    """The distinct 3-grams of a text, case and spaces folded, as sorted hashes."""
    folded = " ".join(text.lower().split())
    return np.unique(np.array([crc32(folded[i : i + 3].encode()) for i in range(len(folded) - 2)], dtype=np.uint64))


def _candidates(grams: Sequence[NDArray[np.uint64]]) -> set[tuple[int, int]]:
    """Index pairs (i < j) of gram sets that share a whole band of their MinHash signatures."""
    rng = np.random.default_rng(0)
    factor, offset = rng.integers(1, _PRIME, (2, _BANDS * _BAND_ROWS, 1), dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, found in enumerate(grams):
        signature = ((factor * found + offset) % _PRIME).min(axis=1, initial=_PRIME).reshape(_BANDS, _BAND_ROWS)
        for band, row in enumerate(signature):
            buckets.setdefault((band, row.tobytes()), []).append(index)
    return {pair for bucket in buckets.values() for pair in combinations(bucket, 2)}


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)
