"""What the gate calls worse, on figures and on models made up for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.bundle import Card
from pipeline.config import load_config
from pipeline.conversation import Conversation
from pipeline.encode import EncodingConfig
from pipeline.heads import no_calibration
from pipeline.vocabulary import Vocabulary, load_vocabulary
from training.bootstrap import Resampling
from training.gate import (
    Found,
    PromoteConfig,
    Side,
    VocabularyDiffers,
    common_vocabulary,
    compare_cases,
    compare_rows,
    judge,
    newest_reviews,
    notes,
)
from training.measures import Judged
from training.paired import Difference

CONFIG = load_config(PromoteConfig, "train.yaml", "promote", "bundled")
VOCABULARY = load_vocabulary()
TOLERATED = CONFIG.tolerated("frustration", "quadratic_kappa")


def found(change: float, error: float, rows: int = 1000, of_set: bool = True, **more: Any) -> Found:
    """A figure that changes by so much, with a normal interval."""
    difference = Difference(0.7, 0.7 + change, change - 1.96 * error, change + 1.96 * error, error)
    told = {"where": "test split", "head": "frustration", "measure": "quadratic_kappa", "positives": None} | more
    return Found(rows=rows, difference=difference, of_set=of_set, **told)


def worse(*figures: Found) -> list[bool]:
    return [figure.worse for figure in judge(figures, CONFIG)]


def test_a_set_must_be_shown_not_to_be_worse() -> None:
    assert worse(found(-0.5 * TOLERATED, 0.6 * TOLERATED)) == [True]
    assert worse(found(-0.5 * TOLERATED, 0.2 * TOLERATED)) == [False]


def test_a_set_that_did_not_fall_is_not_worse_however_unsure() -> None:
    assert worse(found(0.0, 10 * TOLERATED), found(0.01, 10 * TOLERATED)) == [False, False]


def test_a_slice_must_be_shown_to_be_worse() -> None:
    sure, unsure, tolerated = (-2 * TOLERATED, 0.1 * TOLERATED), (-2 * TOLERATED, TOLERATED), (-0.9 * TOLERATED, 1e-6)
    assert worse(*(found(*one, of_set=False) for one in (sure, unsure, tolerated))) == [True, False, False]


def test_one_of_many_slices_must_be_further_off() -> None:
    borderline = found(-2.3 * TOLERATED, TOLERATED, of_set=False)
    assert worse(borderline) == [True]
    assert worse(*[borderline] * 50) == [False] * 50


@pytest.mark.parametrize(
    ("rows", "judged"),
    [(CONFIG.smallest_set, "strictly"), (CONFIG.smallest_set - 1, "as a slice"), (CONFIG.smallest_slice - 1, "no")],
)
def test_few_rows_are_judged_less(rows: int, judged: str) -> None:
    (figure,) = judge([found(-1.0, 0.01, rows=rows)], CONFIG)
    assert (figure.judged, figure.worse) == (judged, judged != "no")


def test_flags_that_are_hardly_ever_given_are_not_judged() -> None:
    few, enough = (found(-1.0, 0.01, positives=CONFIG.smallest_positives + n) for n in (-1, 0))
    assert worse(few, enough) == [False, True]


@pytest.mark.parametrize("measure", ["brier", "failure_rate"])
def test_of_errors_more_is_worse(measure: str) -> None:
    up, down = (found(change, 0.001, measure=measure, head="cases") for change in (0.2, -0.2))
    assert worse(up, down) == [True, False]
    assert "difference +0.200" in str(judge([up], CONFIG)[0])


def test_a_heads_own_tolerance_goes_before_the_measures() -> None:
    config = CONFIG.model_copy(update={"tolerance": {"quadratic_kappa": 0.01, "urgency quadratic_kappa": 0.5}})
    assert [config.tolerated(head, "quadratic_kappa") for head in ("urgency", "frustration")] == [0.5, 0.01]


def test_cases_are_compared_in_pairs() -> None:
    before, after = np.zeros(100, dtype=bool), np.arange(100) < 30
    assert worse(compare_cases("behaviour suite", before, after, CONFIG)) == [True]
    assert worse(compare_cases("behaviour suite", after, before, CONFIG)) == [False]
    assert worse(compare_cases("behaviour sarcasm", before[:20], after[:20] & (np.arange(20) < 2), CONFIG)) == [False]


def side(right: np.ndarray) -> Side:
    """A model that is right about frustration in these rows and one level off in the others."""
    rows = len(right)
    levels = np.arange(rows) % 4
    said = np.where(right, levels, (levels + 1) % 4)
    target, chance = np.eye(4)[levels], 0.9 * np.eye(4)[said] + 0.025
    every, groups = np.ones(rows, dtype=bool), np.arange(rows)
    judged = Judged(VOCABULARY.heads["frustration"], chance, target, np.ones(4), groups, every)
    hot = chance[:, 2:].sum(axis=1)
    return Side({"frustration": judged}, {"frustration": every}, hot, levels >= 2, every, groups)


def test_the_slice_in_which_the_challenger_fails_is_named() -> None:
    rows = np.arange(400)
    part = rows % 5 == 0
    before, after = side(rows % 10 != 9), side((rows % 10 != 9) & ~part)
    rounds = Resampling(bootstrap=200, seed=1)
    slices = {"shouted": part, "long": ~part}
    figures = judge(
        [f for name, chosen in slices.items() for f in compare_rows(before, after, chosen, name, False, rounds)], CONFIG
    )
    assert {figure.where for figure in figures if figure.worse} == {"shouted"}
    assert {figure.measure for figure in figures if figure.worse} == {"quadratic_kappa", "brier", "average_precision"}


def test_a_model_against_itself_is_never_worse() -> None:
    one = side(np.arange(300) % 3 != 0)
    every = np.ones(300, dtype=bool)
    figures = judge(compare_rows(one, one, every, "test split", True, CONFIG), CONFIG)
    assert figures
    assert not any(figure.worse or figure.difference for figure in figures)


def card(labels: Vocabulary, **more: Any) -> Card:
    told = {
        "format": 1,
        "profile": "bundled",
        "encoder": "minilm",
        "languages": ("en",),
        "labels": labels,
        "encoding": EncodingConfig(max_tokens=96, message_tokens=72, turn_tokens=24, earlier_turns=4),
        "calibration": no_calibration(labels),
        "metrics": {},
        "slices": {},
        "data_hash": "sha256:1",
        "git_revision": "1",
        "mlflow_run_id": "1",
        "golden_tolerance": 0.05,
        "golden": (),
    }
    return Card(**{**told, **more})


MAIN = VOCABULARY.only([name for name, head in VOCABULARY.heads.items() if not head.auxiliary])


def test_one_vocabulary_is_compared_whole() -> None:
    assert common_vocabulary(card(MAIN), card(MAIN), VOCABULARY, allow=False) == MAIN


@pytest.mark.parametrize("which", ["champion", "challenger"])
def test_a_head_that_one_lacks_is_named_and_may_be_allowed(which: str) -> None:
    cards = [card(VOCABULARY), card(MAIN)]
    before, after = cards if which == "champion" else reversed(cards)
    with pytest.raises(
        VocabularyDiffers, match=r"complaint: the challenger (does not have it|alone has it).*--allow-voc"
    ):
        common_vocabulary(before, after, VOCABULARY, allow=False)
    assert common_vocabulary(before, after, VOCABULARY, allow=True) == MAIN


def test_a_head_with_other_values_is_not_compared() -> None:
    three = VOCABULARY.heads["urgency"].model_copy(update={"values": ("low", "high", "critical"), "numbers": (0, 1, 2)})
    other = MAIN.model_copy(update={"heads": {**MAIN.heads, "urgency": three}})
    with pytest.raises(VocabularyDiffers, match="urgency: other values or another kind"):
        common_vocabulary(card(MAIN), card(other), VOCABULARY, allow=False)
    assert "urgency" not in common_vocabulary(card(MAIN), card(other), VOCABULARY, allow=True).heads


def test_a_challenger_that_cannot_serve_is_never_allowed() -> None:
    less = MAIN.only([name for name in MAIN.heads if name != "signals"])
    with pytest.raises(VocabularyDiffers, match="the challenger has no head signals: it cannot serve"):
        common_vocabulary(card(MAIN), card(less), VOCABULARY, allow=True)


def test_other_encodings_data_and_languages_are_noted() -> None:
    shorter = EncodingConfig(max_tokens=64, message_tokens=48, turn_tokens=16, earlier_turns=2)
    told = notes(card(MAIN), card(MAIN, encoding=shorter, languages=("en", "fr"), encoder="e5"), "sha256:2")
    assert len(told) == 4
    assert notes(card(MAIN), card(MAIN), "sha256:1") == []


def test_the_newest_of_the_held_back_reviews_are_taken() -> None:
    turns = ({"role": "customer", "text": "hi"},)
    talks = {
        f"review-{day}": Conversation.model_validate(
            {"id": f"review-{day}", "turns": turns, "meta": {"source": "reviews", "reviewed_at": f"2026-11-{day:02}"}}
        )
        for day in range(1, 9)
    }
    talks["b"] = Conversation.model_validate({"id": "b", "turns": turns, "meta": {"source": "bundled"}})
    held = ["b", "review-1", "review-7", "review-3", "review-3"]
    assert newest_reviews(talks, held, 2) == {"review-7", "review-3"}
