"""Drift is found where there is some, and not where there is none; the verdict says why, and holds no text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.reference import KINDS, Reference
from serving.drift.config import DriftConfig
from serving.drift.live import Sighted, Span
from serving.drift.measure import NoReference, made_for, measure
from serving.drift.shapes import Drift
from serving.drift.verdict import WORDED
from tests.serving.drift.made import BUNDLE, POLICY, made, reference, sighted, talks

CONFIG = DriftConfig(permutations=99)
NOW = datetime(2026, 3, 8, tzinfo=UTC)
NOTHING = Sighted((), {})


@pytest.fixture(scope="module")
def taught() -> Reference:
    return reference()


def checked(taught: Reference, before: Sighted = NOTHING, seed: int = 1, **change: Any) -> Drift:
    return measure(sighted(talks(seed, **change)), before, made(taught), CONFIG, NOW)


def moved(drift: Drift) -> set[str]:
    return {one.name for one in drift.features if one.against_training.moved}


def test_every_feature_is_compared_and_has_words(taught: Reference) -> None:
    assert {one.name for one in checked(taught).features} == set(KINDS) == set(WORDED)


def test_without_drift_there_is_hardly_ever_an_alarm(taught: Reference) -> None:
    """Each seed draws traffic of its own, before and now: 26 comparisons. Classifiers have a test of their own."""
    config, said = DriftConfig(permutations=19), []
    for seed in range(50):
        live, before = (sighted(talks(seed + start, 80)) for start in (100, 500))
        said.append(measure(live, before, made(taught), config, NOW).verdict)
    assert sum(verdict.says != "nothing" for verdict in said) <= 4, [verdict.reasons for verdict in said]
    assert not any(verdict.says == "retrain" for verdict in said)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"languages": {"en": 0.6, "es": 0.35, "unknown": 0.05}}, {"language"}),
        ({"longer": 2.0}, {"tokens", "characters"}),
        ({"shift": 700}, {"vocabulary"}),
        ({"anger": 1.5}, {"frustration", "sentiment", "priority"}),
        ({"refused": 0.3}, {"abstention"}),
    ],
    ids=["languages", "longer", "new words", "angrier", "abstentions"],
)
def test_drift_is_found_and_named(taught: Reference, change: dict[str, Any], named: set[str]) -> None:
    found = checked(taught, **change)
    assert named <= moved(found)
    assert found.verdict.says in ("look", "retrain")
    words = " ".join(found.verdict.reasons)
    assert all(WORDED[name] in words for name in named) or "language" in words


def test_customers_who_are_angrier_are_something_to_look_at_and_no_reason_to_retrain(taught: Reference) -> None:
    found = checked(taught, anger=1.5)
    assert found.verdict.says == "look"
    assert not moved(found) & {"language", "vocabulary", "tokens"}


def test_new_words_and_other_scores_together_are_a_reason_to_retrain(taught: Reference) -> None:
    found = checked(taught, shift=700, anger=1.5)
    assert found.verdict.says == "retrain"
    assert "the words" in found.verdict.reasons[0]
    assert "frustration" in found.verdict.reasons[0]


def test_a_language_that_the_model_does_not_know_is_a_reason_to_retrain(taught: Reference) -> None:
    found = checked(taught, refused=0.3, languages={"en": 0.65, "es": 0.35})
    assert found.verdict.says == "retrain"
    assert any("not validated on" in reason for reason in found.verdict.reasons)
    assert found.not_judged["language"] == pytest.approx(0.3, abs=0.05)


def test_a_change_since_the_window_before_is_told_apart_from_one_since_training(taught: Reference) -> None:
    before = sighted(talks(7, shift=700))
    found = measure(sighted(talks(8, shift=700)), before, made(taught), CONFIG, NOW)
    words = next(one for one in found.features if one.name == "vocabulary")
    assert words.against_training.moved
    assert words.against_before.level == "steady"
    assert {one.against: one.apart for one in found.classifiers}["before"] is False
    sudden = measure(sighted(talks(8, shift=700)), sighted(talks(9)), made(taught), CONFIG, NOW)
    assert next(one for one in sudden.classifiers if one.against == "before").apart


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_a_few_messages_cry_no_wolf(taught: Reference, count: int) -> None:
    found = checked(taught, count=count, shift=700, anger=3.0)
    assert found.verdict.says == "too_few"
    assert "at least 200 of 50 are needed" in found.verdict.reasons[0]
    assert not moved(found)


def test_many_messages_of_one_conversation_are_few(taught: Reference) -> None:
    alone = talks(3, 1, shift=700) * 300
    found = measure(sighted(alone), NOTHING, made(taught), CONFIG, NOW)
    assert found.verdict.says == "too_few"


def test_scores_of_another_model_are_left_out_and_told_of(taught: Reference) -> None:
    others = [one.__class__(**{**vars(one), "outputs": None}) for one in talks(1, anger=2.0)]
    seen = Sighted(others, {"sha256:other": len(others)})
    found = measure(seen, NOTHING, made(taught), CONFIG, NOW)
    frustration = next(one for one in found.features if one.name == "frustration")
    assert (frustration.messages, frustration.against_training.level) == (0, "too_few")
    assert any("other models" in reason for reason in found.verdict.reasons)


def test_the_same_messages_give_the_same_figures(taught: Reference) -> None:
    assert checked(taught) == checked(taught)


def test_windows_are_told(taught: Reference) -> None:
    span = Span(NOW - timedelta(days=7), NOW)
    found = measure(sighted(talks(1)), NOTHING, made(taught), CONFIG, NOW, span)
    assert (found.window.begins, found.window.ends) == (span.begins, NOW)
    assert found.before.ends == span.begins
    assert found.bundle == BUNDLE


def test_nothing_of_the_words_is_told(taught: Reference) -> None:
    words = next(one for one in checked(taught).features if one.name == "vocabulary")
    assert words.bins == words.live == words.training == ()


def test_a_bundle_from_before_there_was_a_reference_says_so(toy_card: Any) -> None:
    with pytest.raises(NoReference, match="export it again"):
        made_for(toy_card, POLICY, BUNDLE)
