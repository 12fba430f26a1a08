from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.encode import EncodingConfig, Input
from pipeline.heads import Calibration, Floats, no_calibration
from pipeline.stage import write_json
from pipeline.vocabulary import Vocabulary, load_vocabulary
from training import register
from training.behaviour import BehaviourConfig, Gate, measure, read_texts
from training.register import PromotionRefused, check_behaviour
from training.suite import Case, SuiteInvalid, load_suite

VOCABULARY = load_vocabulary()
DIGEST = "sha256:of this bundle"


def says_by_words(given: Input) -> dict[str, Any]:
    """A model of few words: each marks one label of the message, and `angry` among what came before is remembered."""
    text = given.message.text
    earlier = any("angry" in turn.text for turn in given.earlier)
    return {
        "sentiment": "negative" if "bad" in text else "positive" if "good" in text else "neutral",
        "frustration": 2 if "angry" in text or earlier else 0,
        "urgency": 3 if "fire" in text else 1,
        "signals": [name for name in VOCABULARY.heads["signals"].values if name in text],
    }


@dataclass
class FakePredictor:
    """Sure of what `says` says of an input; counts what it was asked."""

    says: Callable[[Input], dict[str, Any]] = says_by_words
    vocabulary: Vocabulary = VOCABULARY
    calibration: Calibration = field(default_factory=lambda: no_calibration(VOCABULARY))
    calls: list[int] = field(default_factory=list)
    encoder: Any = field(
        default_factory=lambda: SimpleNamespace(
            config=EncodingConfig(max_tokens=64, message_tokens=32, turn_tokens=16, earlier_turns=4)
        )
    )

    def predict(self, given: Sequence[Input]) -> Floats:
        self.calls.append(len(given))
        chances = np.zeros((len(given), self.vocabulary.size))
        for row, one in enumerate(given):
            for name, label in self.says(one).items():
                chances[row, self.vocabulary.slices()[name]] = self.vocabulary.heads[name].target(
                    tuple(label) if isinstance(label, list) else label
                )
        return chances


def suite(folder: Path, text: str) -> list[Case]:
    (folder / "anything.yaml").write_text(f"family: anything\nabout: a test\n{text}", encoding="utf-8")
    return load_suite(folder, VOCABULARY)


def run(cases: Sequence[Case], predictor: FakePredictor | None = None, examples: int = 3) -> dict[str, Any]:
    texts = (text for case in cases for text in case.expectation.texts())
    return measure(cases, read_texts(predictor or FakePredictor(), texts), examples)  # type: ignore[arg-type]


def failures(folder: Path, text: str) -> list[str]:
    examples: list[dict[str, Any]] = run(suite(folder, text))["families"]["anything"]["examples"]
    return [problem for example in examples for problem in example["problems"]]


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        ("sentiment: negative", None),
        ("sentiment: [very_negative, negative]", None),
        ("sentiment: neutral", "sentiment is negative, not neutral"),
        ("frustration: {exactly: 2}", None),
        ("frustration: {at_least: 3}", "frustration is 2, not at_least 3"),
        ("frustration: {at_most: 1}", "frustration is 2, not at_most 1"),
        ("urgency: {at_least: 1, at_most: 2}", None),
        ("urgency: {exactly: 3}", "urgency is 1, not exactly 3"),
        ("signals: {has: [abuse], lacks: [vulnerable]}", None),
        ("signals: {has: [vulnerable]}", "vulnerable is missing"),
        ("signals: {lacks: [abuse]}", "abuse is given"),
    ],
)
def test_a_minimum_holds_or_says_what_does_not(tmp_path: Path, expected: str, problem: str | None) -> None:
    found = failures(tmp_path, f'minimum:\n  - says: "bad and angry abuse"\n    {expected}\n')
    assert found == ([problem] if problem else [])


def test_what_was_said_before_is_read_too(tmp_path: Path) -> None:
    case = """
minimum:
  - says: [customer: "I am angry", agent: "Did it work?", customer: "No."]
    frustration: {exactly: 2}
  - says: "No."
    frustration: {exactly: 0}
"""
    assert failures(tmp_path, case) == []


@pytest.mark.parametrize(
    ("variant", "problems"),
    [
        ("a parcel from Lima", []),
        ("an angry parcel", ["frustration goes from 0.00 to 2.00, at most 0.5 apart"]),
        ("a parcel of abuse", ["abuse is given to some"]),
    ],
)
def test_variants_may_not_move_a_head_or_a_signal(tmp_path: Path, variant: str, problems: list[str]) -> None:
    case = f'within: {{frustration: 0.5}}\ninvariance:\n  - base: "a parcel"\n    variants: ["a parcel", "{variant}"]\n'
    assert failures(tmp_path, case) == problems


def test_a_template_is_read_with_every_entry_of_its_slot(tmp_path: Path) -> None:
    case = """
slots: {name: [Ada, Mo, angry]}
invariance:
  - template: "{name} here"
    within: {frustration: 2}
  - template: "here is {name}"
    within: {frustration: 1.9}
"""
    cases = suite(tmp_path, case)
    assert [len(one.expectation.texts()) for one in cases] == [3, 3]
    assert run(cases)["overall"] == {"cases": 2, "failures": 1, "failure_rate": 0.5}


@pytest.mark.parametrize(
    ("wanted", "fails"),
    [
        ("{rises_by: 2}", False),
        ("{rises_by: 2.1}", True),
        ("{falls_by: 0.1}", True),
        ("{rises_at_most: 1}", True),
        ("{falls_at_most: 0}", False),
    ],
)
def test_a_head_must_move_as_wanted(tmp_path: Path, wanted: str, fails: bool) -> None:
    case = f'direction:\n  - from: "a parcel"\n    to: "a parcel on fire"\n    urgency: {wanted}\n'
    assert bool(failures(tmp_path, case)) is fails


def test_a_failing_case_shows_what_came_out(tmp_path: Path) -> None:
    cases = suite(tmp_path, "minimum:\n" + '  - {says: "bad", sentiment: positive}\n' * 5)
    family = run(cases, examples=2)["families"]["anything"]
    assert family["failures"] == 5
    assert [example["case"] for example in family["examples"]] == ["minimum 1", "minimum 2"]
    assert family["examples"][0]["came_out"] == {
        "bad": "negative; sentiment -0.50, frustration 0.00, urgency 1.00, boil_over 0.00; no signal"
    }


def test_each_text_is_scored_once_and_all_together(tmp_path: Path) -> None:
    predictor = FakePredictor()
    run(suite(tmp_path, "minimum:\n" + '  - {says: "bad", sentiment: negative}\n' * 3), predictor)
    assert predictor.calls == [1]


def test_signals_are_given_from_their_threshold_on(tmp_path: Path) -> None:
    predictor = FakePredictor()
    shy = predictor.calibration.model_copy(update={"thresholds": (1.1,) * VOCABULARY.size})
    cases = suite(tmp_path, 'minimum:\n  - {says: "abuse", signals: {has: [abuse]}}\n')
    assert run(cases, predictor)["overall"]["failures"] == 0
    assert run(cases, FakePredictor(calibration=shy))["overall"]["failures"] == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('minimum:\n  - {says: "a"}\n', r"anything.yaml: minimum 1: .*nothing is expected"),
        ('minimum:\n  - {says: "a", urgency: {exactly: 1}}\n  - {says: "b", mood: bad}\n', r"minimum 2: mood"),
        ('minimum:\n  - {says: "a", sentiment: angry}\n', r"minimum 1: sentiment: 'angry' is not one of"),
        ('minimum:\n  - {says: "a", signals: {has: [rage]}}\n', r"minimum 1: signals: 'rage' is not one of"),
        ('minimum:\n  - {says: "a", urgency: {exactly: 4}}\n', r"minimum 1: urgency.exactly"),
        ('minimum:\n  - {says: "a", urgency: {}}\n', r"minimum 1: urgency: .*say exactly"),
        ("minimum:\n  - {says: [customer: No], urgency: {exactly: 1}}\n", r"minimum 1: says.0.text"),
        ('minimum:\n  - {says: ["No."], urgency: {exactly: 1}}\n', r"minimum 1: says: .*a turn is"),
        ('minimum:\n  - {says: [agent: "Hi"], urgency: {exactly: 1}}\n', r"minimum 1: says: .*customer's"),
        ('invariance:\n  - {base: "a", variants: ["b"]}\n', r"invariance 1: neither the case nor the file says within"),
        ('invariance:\n  - {base: "a", within: {urgency: 1}}\n', r"invariance 1: .*base and variants"),
        ('invariance:\n  - {template: "{who}", within: {urgency: 1}}\n', r"invariance 1: a template has one slot"),
        ('direction:\n  - {from: "a", to: "b"}\n', r"direction 1: .*no head"),
        ('direction:\n  - {from: "a", to: "b", urgency: {rises: 1}}\n', r"direction 1: urgency.rises"),
        ("minimum: [", r"anything.yaml: not YAML"),
        ("tests: 4\n", r"anything.yaml: tests"),
    ],
)
def test_a_malformed_case_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SuiteInvalid, match=named):
        suite(tmp_path, text)


def test_a_family_is_named_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("family: other\nabout: a test\n", encoding="utf-8")
    with pytest.raises(SuiteInvalid, match=r"one.yaml: family: other"):
        load_suite(tmp_path, VOCABULARY)


def test_an_empty_folder_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(SuiteInvalid, match=r"no \*\.yaml"):
        load_suite(tmp_path, VOCABULARY)


def test_bounds_stay_out_of_the_runs_parameters() -> None:
    gate = Gate(max_failure_rate={"default": 0.1}, margin=0.0)
    assert set(BehaviourConfig(suite="tests", examples=3, gate=gate).model_dump()) == {"suite", "examples"}


def measured(folder: Path, bundle: str = DIGEST, **rates: float) -> Path:
    families = {name: {"cases": 20, "failures": round(20 * rate), "failure_rate": rate} for name, rate in rates.items()}
    write_json(folder / "behaviour.json", {"bundle": bundle, "families": families})
    return folder / "behaviour.json"


GATE = Gate(max_failure_rate={"default": 0.2, "sarcasm": 0.5}, margin=0.05)


def test_a_bundle_within_its_bounds_passes(tmp_path: Path) -> None:
    check_behaviour(DIGEST, GATE, measured(tmp_path, names=0.2, typos=0.25, sarcasm=0.55))


def test_families_that_fail_too_often_are_named(tmp_path: Path) -> None:
    metrics = measured(tmp_path, names=0.1, typos=0.3, sarcasm=0.6)
    with pytest.raises(PromotionRefused) as refused:
        check_behaviour(DIGEST, GATE, metrics)
    assert "typos (30% of 20 cases fail, at most 20%)" in str(refused.value)
    assert "sarcasm (60%" in str(refused.value)
    assert "names" not in str(refused.value)


@pytest.mark.parametrize("bundle", ["sha256:of another", None])
def test_figures_of_another_bundle_do_not_count(tmp_path: Path, bundle: str | None) -> None:
    metrics = measured(tmp_path, bundle) if bundle else tmp_path / "behaviour.json"
    with pytest.raises(PromotionRefused, match="not of this bundle"):
        check_behaviour(DIGEST, GATE, metrics)


def test_an_alias_is_refused_before_anything_is_registered(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(digest: str, gate: Gate) -> None:
        raise PromotionRefused("behaviour out of bounds: typos")

    monkeypatch.setattr(register, "check_behaviour", refuse)
    monkeypatch.setattr(register, "open_registry", lambda: pytest.fail("MLflow was asked"))
    monkeypatch.setattr(sys, "argv", ["register", "--alias", "champion", "--model", str(bundle_path)])
    with pytest.raises(SystemExit) as ended:
        register.main()
    assert str(ended.value) == "error: @champion stays where it is: behaviour out of bounds: typos"


def test_every_profile_has_a_gate(bundle_path: Path) -> None:
    assert 0 <= register.gate_of(bundle_path).bound("a family without a bound of its own") <= 1


def test_a_bound_without_a_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "behaviour.json"
    write_json(path, {"bundle": "sha256:1", "families": {"names": {"cases": 20, "failures": 0, "failure_rate": 0.0}}})
    check_behaviour("sha256:1", Gate(max_failure_rate={"default": 0.3, "names": 0.1}, margin=0.0), path)
    with pytest.raises(PromotionRefused, match="not measured: nmaes"):
        check_behaviour("sha256:1", Gate(max_failure_rate={"default": 0.3, "nmaes": 0.1}, margin=0.0), path)


def test_a_refused_bundle_goes_under_the_other_alias(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved: list[tuple[str | None, bool]] = []

    def refusing(bundle: Path, alias: str | None, gated: bool = True, current: bool = False) -> str:
        if gated:
            raise PromotionRefused("behaviour out of bounds: names")
        moved.append((alias, gated))
        return "4"

    monkeypatch.setattr(register, "register", refusing)
    monkeypatch.setattr(sys, "argv", ["register", "--alias", "champion", "--otherwise", "challenger"])
    register.main()
    assert moved == [("challenger", False)]
    assert capsys.readouterr().out == (
        "@champion stays where it is: behaviour out of bounds: names\nmodels:/simmer/4 is @challenger\n"
    )
