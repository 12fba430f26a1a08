from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import DatasetDict

from pipeline.vocabulary import load_vocabulary
from training.baselines import BaselinesConfig, baselines, drawn_evenly, single_values

Report = dict[str, Any]

VOCABULARY = load_vocabulary()
CONFIG = BaselinesConfig(
    bootstrap=20,
    seed=1,
    ece_bins=10,
    train_rows=60,
    test_rows=60,
    min_positives=5,
    word_features=500,
    character_features=500,
    inverse_penalty=10.0,
    iterations=100,
)


@pytest.fixture(scope="module")
def report(tiny_dataset: DatasetDict, tiny_encoder: Path) -> Report:
    return baselines(tiny_dataset, VOCABULARY, tiny_encoder, CONFIG)


def test_every_baseline_speaks_of_the_heads_that_have_rows(report: Report) -> None:
    for name in ("majority", "tfidf", "frozen"):
        assert set(report[name]) == {"sentiment", "frustration", "signals", "airline_sentiment", "complaint"}
    assert set(report["vader"]) == {"sentiment", "airline_sentiment"}


def test_majority_says_the_commonest_value(report: Report) -> None:
    assert report["majority"]["frustration"]["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert report["majority"]["frustration"]["quadratic_kappa"]["value"] == 0.0
    assert report["majority"]["signals"]["average_precision"]["value"] == pytest.approx(1 / 3, abs=1e-4)


def test_words_tell_what_words_decide(report: Report) -> None:
    assert report["tfidf"]["frustration"]["quadratic_kappa"]["value"] == 1.0
    assert report["tfidf"]["signals"]["micro_f1"]["value"] == 1.0
    assert report["tfidf"]["sentiment"]["three_way"]["macro_f1"]["value"] == 1.0


def test_frozen_features_beat_the_majority(report: Report) -> None:
    frozen, majority = report["frozen"]["frustration"], report["majority"]["frustration"]
    assert frozen["accuracy"]["value"] > majority["accuracy"]["value"]


def test_the_lexicon_reads_plain_praise_and_complaint(
    report: Report,
) -> None:
    assert report["vader"]["sentiment"]["three_way"]["accuracy"]["value"] == 1.0


def test_figures_stand_for_each_source(report: Report) -> None:
    assert set(report["tfidf"]["sentiment"]["sources"]) == {"bundled", "posts"}


def test_it_is_said_how_many_rows_each_head_was_learnt_from(report: Report) -> None:
    assert report["tfidf"]["frustration"]["train_rows"] == 60
    assert report["vader"]["sentiment"]["train_rows"] == 0


def test_corpora_with_coarse_labels_are_measured_in_three_groups_alone(report: Report) -> None:
    for part in (report["tfidf"]["sentiment"], *report["tfidf"]["sentiment"]["sources"].values()):
        assert "quadratic_kappa" not in part
        assert "three_way" in part


def test_rows_are_drawn_evenly_and_small_corpora_stay_whole() -> None:
    sources = np.array(["large"] * 90 + ["small"] * 4)
    chosen = drawn_evenly(sources, 20, seed=1)
    assert (sources[chosen] == "small").sum() == 4
    assert len(set(chosen.tolist())) == 20
    assert drawn_evenly(sources, 500, seed=1).tolist() == list(range(94))


def test_a_coarse_label_stands_for_its_values_as_exact_rows_give_them() -> None:
    target = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0]])
    assert single_values(target)[4] == pytest.approx([0.25, 0.75, 0], abs=0.01)
    assert single_values(target)[0] == pytest.approx([1, 0, 0])
