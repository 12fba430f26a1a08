"""What messages look like, in counts: bins, independent observations, and nothing that is a text."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline.encode import Encoder, EncodingConfig, Input
from pipeline.reference import (
    BINS,
    BUCKETS,
    KINDS,
    Reference,
    Seen,
    counted,
    describe,
    effective,
    in_steps,
    look,
    quantile_edges,
    vectors,
)
from pipeline.text import clean
from pipeline.vocabulary import load_vocabulary
from tests.serving.drift.made import VOCABULARY, reference, talks

LIMIT = 50_000  # characters of a card


@pytest.fixture(scope="module")
def taught() -> Reference:
    return reference()


def test_it_is_small_and_survives_being_written(taught: Reference) -> None:
    written = taught.model_dump_json()
    assert len(written) < LIMIT
    again = Reference.model_validate_json(written)
    assert again == taught
    assert set(again.features) == set(KINDS) - {"priority"}  # which depends on the policy in force


def test_it_counts_itself_as_it_was_counted(taught: Reference) -> None:
    """The same messages fall into the same bins on either side, wherever values pile up."""
    held_back = talks(1_000, 600)
    assert counted(held_back, taught, VOCABULARY) == taught.features


@given(st.lists(st.one_of(st.sampled_from([0.0, 1.0, 1.0001]), st.floats(-5, 5)), min_size=1, max_size=60))
def test_what_comes_often_has_a_bin_of_its_own(values: list[float]) -> None:
    edges = np.array(quantile_edges(values))
    rounded = np.round(values, 4)
    assert list(edges) == sorted(set(edges))
    for value in set(rounded):
        if (rounded == value).mean() >= 1 / BINS:
            alone = np.searchsorted(edges, rounded) == np.searchsorted(edges, value)
            assert set(rounded[alone]) == {value}


def test_bins_of_numbers_that_vary_are_of_like_size() -> None:
    values = list(np.random.default_rng(1).normal(size=1_000))
    sizes = np.bincount(np.searchsorted(quantile_edges(values), values))
    assert len(sizes) == BINS
    assert sizes.min() > 80


def test_messages_of_one_conversation_are_worth_less_than_as_many_of_others() -> None:
    rng = np.random.default_rng(2)
    alike = np.repeat(rng.multinomial(1, [0.5, 0.5], 100), 10, axis=0)
    names = [f"c{row // 10}" for row in range(1_000)]
    assert effective(alike, names) == pytest.approx(100, rel=0.1)
    assert effective(alike, [str(row) for row in range(1_000)]) == pytest.approx(1_000, rel=0.01)
    assert effective(alike, ["one"] * 1_000) == 1
    assert effective(np.zeros((0, 2), np.int64), []) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=50))
def test_they_are_never_worth_more_than_they_are(drawn: list[tuple[int, int]]) -> None:
    rows = np.zeros((len(drawn), 5), dtype=np.int64)
    rows[np.arange(len(drawn)), [value for _, value in drawn]] = 1
    assert 0 <= effective(rows, [str(name) for name, _ in drawn]) <= len(drawn) + 1e-9


def test_a_language_and_a_token_that_the_reference_does_not_have_count_as_other(taught: Reference) -> None:
    new = Seen("n", "tlh", 40, (999_999, 1_000_000), None, "no_such_reason")
    found = counted([new], taught, VOCABULARY)
    assert dict(zip(found["language"].names, found["language"].counts, strict=True))["other"] == 1
    assert found["vocabulary"].counts[-1] == 2
    assert found["novelty"].counts[-1] == 1
    assert found["abstention"].counts[-1] == 1
    assert found["frustration"].messages == 0


def test_nothing_at_all_can_be_counted(taught: Reference) -> None:
    found = counted([], taught, VOCABULARY)
    assert all(sum(one.counts) == 0 and one.effective == 0 for one in found.values())
    assert describe([], [], VOCABULARY).sample.vectors().shape == (0, BUCKETS + 2)


def test_the_sample_is_one_message_a_conversation_as_a_classifier_reads_it(taught: Reference) -> None:
    rows = taught.sample.vectors()
    assert rows.shape == (500, BUCKETS + 2)
    candidates = {tuple(row) for row in vectors(talks(1_000, 600)).round(9)}
    assert all(tuple(row) in candidates for row in rows.round(9))


def test_probabilities_are_kept_in_coarse_steps(taught: Reference) -> None:
    chances = taught.sample.chances()
    assert chances.shape == (500, VOCABULARY.size)
    assert np.array_equal(in_steps(chances), chances)
    assert taught.sample.effective <= 500


def test_a_model_with_fewer_heads_has_fewer_features() -> None:
    few = load_vocabulary().only(["frustration", "boil_over"])
    seen = [Seen(str(n), "en", 20, (1, 2), np.full(few.size, 0.2), None) for n in range(30)]
    found = describe(seen, [[1]], few)
    assert "frustration" in found.features
    assert not {"sentiment", "signals", "urgency"} & set(found.features)


@pytest.mark.parametrize("spoilt", ["", "no base64", "AAAA"])
def test_what_was_not_packed_here_is_refused(taught: Reference, spoilt: str) -> None:
    with pytest.raises(ValueError, match="not packed"):
        taught.sample.model_copy(update={"texts": spoilt}).vectors()


def test_messages_are_looked_at_without_what_came_before_and_leave_no_text() -> None:
    words = {
        word: number for number, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "refund", "again", "ruby"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    config = EncodingConfig(max_tokens=32, message_tokens=16, turn_tokens=8, earlier_turns=2)
    text = "refund refund again ruby, I have been waiting for it since the third of March"
    chances = np.full(VOCABULARY.size, 0.123456)
    (seen,) = look(Encoder(tokenizer, config), ["c"], [Input(clean(text, "chat"), ())], [chances], [None])
    assert seen.tokens[:4] == (4, 4, 5, 6)
    assert (seen.language, seen.characters) == ("en", len(text))
    assert seen.outputs is not None
    assert seen.outputs[0] == 0.1235
    written = json.dumps(describe([seen] * 5, [seen.tokens], VOCABULARY).model_dump())
    assert not re.search("refund|ruby|waiting", written)
