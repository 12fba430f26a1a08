"""How varied a set of messages is: near-duplicates, vocabulary, openings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import sparse

_WORD = re.compile(r"[\w']+")
_BLOCK = 1000


def near_duplicates(texts: Sequence[str], threshold: float, min_words: int) -> list[tuple[int, int]]:
    """Index pairs (i < j) of texts of at least `min_words` words whose character-3-gram Jaccard exceeds `threshold`."""
    kept = [index for index, text in enumerate(texts) if len(text.split()) >= min_words]
    grams = _gram_matrix([texts[index] for index in kept])
    sizes = np.asarray(grams.sum(axis=1)).ravel()
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(kept), _BLOCK):
        common = (grams[start : start + _BLOCK] @ grams.T).tocoo()
        union = sizes[start + common.row] + sizes[common.col] - common.data
        close = (common.data > threshold * union) & (start + common.row < common.col)
        pairs += [(kept[start + i], kept[j]) for i, j in zip(common.row[close], common.col[close], strict=True)]
    return pairs


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


def _gram_matrix(texts: Sequence[str]) -> sparse.csr_matrix:
    """Binary matrix, one row a text, one column a 3-gram."""
    columns: dict[str, int] = {}
    rows, cols = [], []
    for row, text in enumerate(texts):
        folded = " ".join(text.lower().split())
        for gram in {folded[i : i + 3] for i in range(len(folded) - 2)}:
            rows.append(row)
            cols.append(columns.setdefault(gram, len(columns)))
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.csr_matrix((ones, (rows, cols)), shape=(len(texts), max(1, len(columns))))
