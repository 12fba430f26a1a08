import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.diversity import diversity, near_duplicates, openings

WORDS = st.lists(st.sampled_from(["my", "bag", "is", "late", "again", "why"]), min_size=1, max_size=8).map(" ".join)


def jaccard(first: str, second: str) -> float:
    a, b = ({text[i : i + 3] for i in range(len(text) - 2)} for text in (first, second))
    return len(a & b) / len(a | b) if a | b else 0.0


@settings(deadline=None)
@given(texts=st.lists(WORDS, max_size=8), threshold=st.sampled_from([0.3, 0.5, 0.8]))
def test_near_duplicates_have_a_high_trigram_overlap_and_the_closest_are_all_found(
    texts: list[str], threshold: float
) -> None:
    found = near_duplicates(texts, threshold, min_words=1)
    overlaps = {(i, j): jaccard(texts[i], texts[j]) for i, j in combinations(range(len(texts)), 2)}
    assert all(overlaps[i, j] > threshold or texts[i] == texts[j] for i, j in found)
    linked = coo_matrix((np.ones(len(found)), np.reshape(found, (-1, 2)).T), shape=(len(texts),) * 2)
    groups = connected_components(linked, directed=False)[1]
    assert all(groups[i] == groups[j] for (i, j), overlap in overlaps.items() if overlap > 0.95)


def test_a_message_sent_thousands_of_times_takes_no_time_squared() -> None:
    texts = [f"your parcel is on its way and will arrive on day {n % 40} of this month" for n in range(4000)]
    found = near_duplicates(texts, 0.8, 6)
    assert 3990 <= len(found) < 8000


def test_nearly_all_pairs_just_above_the_threshold_are_found() -> None:
    numbers = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(400)]
    texts = [" ".join(number[i : i + 8] for i in range(0, 64, 8)) for number in numbers]
    changed = [f"{text[:-8]}{number[:4]}" for text, number in zip(texts, numbers, strict=True)]
    close = [jaccard(text, other) > 0.8 for text, other in zip(texts, changed, strict=True)]
    assert sum(close) > 300
    assert len(near_duplicates(texts + changed, 0.8, 6)) >= 0.97 * sum(close)


def test_case_and_spaces_make_no_difference() -> None:
    assert near_duplicates(["My bag  is\nlate again today", "my bag is late again TODAY"], 0.99, 6) == [(0, 1)]


def test_short_messages_may_repeat() -> None:
    assert near_duplicates(["ok thanks", "ok thanks", "this one is a bit longer", "ok thanks"], 0.8, 3) == []


def test_pairs_are_found_across_a_thousand_messages() -> None:
    texts = [
        " ".join(hashlib.sha256(str(n).encode()).hexdigest()[i : i + 8] for i in range(0, 48, 8)) for n in range(1200)
    ]
    texts[1150] = texts[7].upper()
    assert near_duplicates(texts, 0.8, 6) == [(7, 1150)]


@pytest.mark.parametrize("texts", [[], ["a b c"]])
def test_there_is_no_pair_without_two(texts: list[str]) -> None:
    assert near_duplicates(texts, 0.1, 1) == []


def test_openings_are_counted_case_folded_for_longer_messages() -> None:
    found = openings(["My bag is late", "my bag is lost!", "Where is my bag", "my bag is"])
    assert found == {"my bag is": 2, "where is my": 1}


def test_diversity_counts_words_and_openings() -> None:
    assert diversity(["My bag is late", "my bag is lost", "Where is my bag now"]) == {
        "words": 13,
        "distinct_words": 7,
        "distinct_openings_share": 0.6667,
        "commonest_opening_share": 0.6667,
    }


def test_no_messages_have_no_diversity() -> None:
    assert set(diversity([]).values()) == {0}
