"""How varied a set of messages is: near-duplicates, vocabulary, openings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[\w']+")
_PRIME = np.uint64(2**31 - 1)
_BANDS, _BAND_ROWS = 20, 6  # made for LEAST_OVERLAP
_ALL_PAIRS = 30

LEAST_OVERLAP = 0.8


def near_duplicates(texts: Sequence[str], threshold: float, min_words: int) -> list[tuple[int, int]]:
    """Index pairs (i < j) of texts of at least `min_words` words whose character-3-gram Jaccard exceeds `threshold`.

    Of texts that are equal but for case and spaces each is paired with the first, and the first alone with others.
    Candidates come from MinHash signatures in bands (Broder 1997), so that a hundred thousand texts take seconds: of
    the pairs at `LEAST_OVERLAP` one in five hundred is overlooked, at 0.9 fewer than one in a million.
    """
    first: dict[str, int] = {}
    copies = []
    for index, text in enumerate(texts):
        if len(text.split()) >= min_words:
            original = first.setdefault(_folded(text), index)
            copies += [(original, index)] if original != index else []
    grams = {index: _grams(text) for text, index in first.items()}
    close = (pair for pair in _candidates(grams) if _jaccard(grams[pair[0]], grams[pair[1]]) > threshold)
    return sorted([*copies, *close])


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


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def _grams(folded: str) -> NDArray[np.uint64]:
    """The distinct 3-grams of a folded text, as sorted hashes."""
    return np.unique(np.array([crc32(folded[i : i + 3].encode()) for i in range(len(folded) - 2)], dtype=np.uint64))


def _candidates(grams: Mapping[int, NDArray[np.uint64]]) -> set[tuple[int, int]]:
    """Index pairs (i < j) of gram sets that share a whole band of their MinHash signatures."""
    rng = np.random.default_rng(0)
    factor, offset = rng.integers(1, _PRIME, (2, _BANDS * _BAND_ROWS, 1), dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, found in grams.items():
        signature = ((factor * found + offset) % _PRIME).min(axis=1, initial=_PRIME).reshape(_BANDS, _BAND_ROWS)
        for band, row in enumerate(signature):
            buckets.setdefault((band, row.tobytes()), []).append(index)
    return {pair for bucket in buckets.values() for pair in _pairs(bucket)}


def _pairs(bucket: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a bucket; of a large one, forms of one text, each with the first and with its neighbour."""
    if len(bucket) <= _ALL_PAIRS:
        yield from combinations(bucket, 2)
    else:
        yield from ((bucket[0], other) for other in bucket[1:])
        yield from pairwise(bucket)


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)
