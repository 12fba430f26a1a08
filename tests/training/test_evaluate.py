from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from pipeline.heads import no_calibration, probabilities
from pipeline.prepare import targets
from pipeline.vocabulary import AnyOf, Labels, load_vocabulary
from training.evaluate import EvaluateConfig, curves, evaluate
from training.labelled import Labelled

VOCABULARY = load_vocabulary()
CONFIG = EvaluateConfig(bootstrap=20, slice_bootstrap=10, seed=1, ece_bins=10)


def turn_labels(conversation: int, turn: int) -> Labels:
    """Every third conversation boils over on its last turn; posts stand alone and know coarse sentiment only."""
    if conversation % 4 == 3:
        return {"sentiment": AnyOf(any_of=("very_negative", "negative")) if conversation % 8 == 3 else "neutral"}
    hot = conversation % 3 == 0 and turn == 2
    labels: Labels = {
        "sentiment": "very_negative" if hot else "neutral",
        "frustration": 3 if hot else 0,
        "satisfaction": 1 if hot else 4 + turn % 2,
        "signals": ("churn_threat",) if hot else (),
    }
    return labels | {"boil_over": conversation % 3 == 0 and turn < 2}


def rows_and_labels() -> tuple[Dataset, Labelled]:
    """Conversations of three turns and posts of one, and a model that is right about nearly everything."""
    places = [(c, t) for c in range(80) for t in range(1 if c % 4 == 3 else 3)]
    target, known = zip(*(targets(turn_labels(c, t), VOCABULARY) for c, t in places), strict=True)
    rows = Dataset.from_dict(
        {
            "conversation": [f"c{c:02}" for c, _ in places],
            "turn": [t for _, t in places],
            "source": ["tweeteval" if c % 4 == 3 else "bundled" for c, _ in places],
            "channel": ["chat"] * len(places),
            "industry": ["bank"] * len(places),
            "text": [f"where is number {c}" for c, _ in places],
        }
    )
    noise = np.random.default_rng(1).normal(size=(len(places), VOCABULARY.size))
    logits = 6 * np.array(target) - 3 + noise
    flags = {name: np.array(known)[:, i] for i, name in enumerate(VOCABULARY.heads)}
    return rows, Labelled(VOCABULARY, logits, np.array(target), flags)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    rows, labelled = rows_and_labels()
    calibration = no_calibration(VOCABULARY)
    return evaluate(labelled, probabilities(labelled.logits, VOCABULARY, calibration), rows, calibration, CONFIG)


def test_every_head_is_measured_on_every_source_that_knows_it(report: dict[str, Any]) -> None:
    assert set(report["heads"]["sentiment"]["sources"]) == {"bundled", "tweeteval"}
    assert set(report["heads"]["frustration"]["sources"]) == {"bundled"}
    assert report["heads"]["goemotions"] == {"rows": 0, "sources": {}}


def test_coarse_labels_are_measured_in_three_groups(report: dict[str, Any]) -> None:
    posts = report["heads"]["sentiment"]["sources"]["tweeteval"]
    assert set(posts) == {"rows", "three_way"}  # the ten exact labels there are all neutral: a selection by label
    assert (posts["rows"], posts["three_way"]["rows"]) == (20, 20)
    assert posts["three_way"]["macro_f1"]["value"] > 0.8
    everywhere = report["heads"]["sentiment"]
    assert (everywhere["rows"], everywhere["exact_rows"], everywhere["three_way"]["rows"]) == (200, 180, 200)


def test_hot_turns_and_their_queue_are_measured(report: dict[str, Any]) -> None:
    assert report["hot"]["rows"] == 180  # posts say nothing of heat
    assert report["hot"]["average_precision"]["value"] > 0.9
    assert report["queue"]["conversations"] == 60
    assert report["queue"]["hot"] == 20
    assert report["queue"]["recall"]["0.20"]["ceiling"] == 0.6
    assert report["queue"]["recall"]["0.20"]["value"] > 0.5


def test_a_forecast_that_knows_is_told_from_one_that_looks_at_the_last_turn(report: dict[str, Any]) -> None:
    found = report["foresight"]["conversations"]
    assert (found["boiled_over"], found["stayed_calm"]) == (20, 40)
    assert found["forecasts"]["boil_over"]["0.10"]["foreseen"]["value"] > 0.9
    assert found["forecasts"]["boil_over"]["0.10"]["turns_ahead"] == 2
    assert found["forecasts"]["last_turn"]["0.10"]["foreseen"]["value"] < 0.5
    assert report["foresight"]["turns"]["forecasts"]["boil_over"]["roc_auc"]["value"] > 0.9


def test_slices_have_rows_and_an_interval(report: dict[str, Any]) -> None:
    later = report["slices"]["later turns"]
    assert later["rows"] == 120
    assert later["frustration"]["measure"] == "quadratic_kappa"
    assert later["frustration"]["low"] <= later["frustration"]["quadratic_kappa"] <= later["frustration"]["high"]
    assert "shouted" not in report["slices"]


def test_a_slice_counts_the_rows_behind_each_figure(report: dict[str, Any]) -> None:
    first = report["slices"]["first turns"]
    assert first["rows"] == 80
    assert (first["sentiment"]["measure"], first["sentiment"]["rows"]) == ("quadratic_kappa", 60)
    posts = report["slices"]["source tweeteval"]
    assert (posts["sentiment"]["measure"], posts["sentiment"]["rows"]) == ("three_way", 20)


def test_curves_hold_every_forecast_and_source() -> None:
    rows, labelled = rows_and_labels()
    found = curves(labelled, probabilities(labelled.logits, VOCABULARY, no_calibration(VOCABULARY)), rows)
    assert {point[0] for point in found["queue"]} == {"all", "bundled"}
    assert {point[0] for point in found["foresight"]} == {"boil_over", "last_turn", "constant"}


def test_a_model_without_boil_over_is_measured_all_the_same() -> None:
    rows, labelled = rows_and_labels()
    kept = VOCABULARY.only(["sentiment", "frustration"])
    columns = VOCABULARY.outputs(kept.heads)
    known = {name: labelled.known[name] for name in kept.heads}
    less = Labelled(kept, labelled.logits[:, columns], labelled.target[:, columns], known)
    chances = probabilities(less.logits, kept, no_calibration(kept))
    assert evaluate(less, chances, rows, no_calibration(kept), CONFIG)["foresight"] == {}
