"""The cards say what they must, with the figures of the metrics files and no others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.agreement import label_agreement
from pipeline.bundle import FORMAT, Card
from pipeline.encode import EncodingConfig
from pipeline.heads import no_calibration, probabilities
from pipeline.sources import SOURCES
from pipeline.sources.exports import Export
from pipeline.sources.signals import SECOND, read_labels
from pipeline.vocabulary import load_vocabulary
from tests.training.test_evaluate import CONFIG as MEASURING
from tests.training.test_evaluate import rows_and_labels
from training.behaviour import measure
from training.cards import (
    CardsConfig,
    Facts,
    agreements,
    data_card,
    failures,
    matrix,
    model_card,
    parameters,
    sections,
    shown,
    summary,
    weakest,
)
from training.evaluate import evaluate
from training.register import description_of
from training.suite import Case, Direction, Invariance, Minimum, Reading, Texts

CONFIG = CardsConfig(weakest_slices=2, smallest_slice=50, examples=2)
VOCABULARY = load_vocabulary().only(("sentiment", "frustration", "signals"))
PROFILE = ("bundled", "airline_tweets", "support_chats")
EXPORTS = (
    Export(kind="zendesk", file="desk.json"),
    Export(kind="csv", file="lost.csv", columns={"text": "body"}),
)

MODEL_SECTIONS = (
    *("What it is", "Intended use", "Must not be used for", "Labels", "Training corpora", "Encoder and sizes"),
    *("Figures", "Calibration", "Where it is weakest", "When it abstains", "Known failures", "How to retrain"),
    "Contact",
)
DATA_SECTIONS = (
    "Corpora",
    "Exports",
    "Labels",
    "Splits",
    "Agreement",
    "Personal data",
    "What must not be done with it",
)


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": round(value - 0.0413, 4), "high": round(value + 0.0379, 4)}


def of_slice(rows: int, measured: str, value: float) -> dict[str, Any]:
    figure = interval(value)
    return {"rows": rows, "measure": measured, measured: value, "low": figure["low"], "high": figure["high"]}


LONG = "I wrote to you in spring, " * 9 + "and nobody answers."

CASES = (
    Case("late", "minimum 1", Minimum.model_validate({"says": "You are never late.", "sentiment": "positive"})),
    Case("late", "minimum 2", Minimum.model_validate({"says": "Late, as ever.", "sentiment": "negative"})),
    Case("late", "minimum 3", Minimum.model_validate({"says": "On time.", "sentiment": "negative"})),
    Case("late", "minimum 4", Minimum.model_validate({"says": "At noon.", "sentiment": "negative"})),
    Case(
        *("late", "direction 1"),
        Direction.model_validate({"from": "It came.", "to": "It came late.", "frustration": {"rises_by": 0.25}}),
    ),
    Case(
        *("people", "invariance 1"),
        Invariance.model_validate(
            {"base": LONG, "variants": ["Ada here.", "Bo here.", "Cy here."], "within": {"frustration": 0.5}}
        ),
    ),
    Case("calm", "minimum 1", Minimum.model_validate({"says": "Thank you.", "frustration": {"exactly": 0}})),
)


def behaviour() -> dict[str, Any]:
    """What the stage writes of a model that is moved by nothing but long messages."""
    found: dict[Texts, Reading] = {}
    for text in (text for case in CASES for text in case.expectation.texts()):
        level = 2 if text[0].text == LONG else 0
        expected = {"sentiment": -0.5, "frustration": float(level)}
        found[text] = Reading("negative", {"frustration": level, "urgency": 1}, expected, frozenset())
    return {"bundle": "sha256:0a1b", **measure(CASES, found, examples=3)}


METRICS: dict[str, Any] = {
    "ingest": {
        "bundled": {
            "conversations": 1234,
            "customer_turns": 2345,
            "industries": 31,
            "labels": {"frustration": 2344, "sentiment": 2343},
        },
        "airline_tweets": {"conversations": 3456, "customer_turns": 3457, "industries": 1, "labels": {}},
        "desk.json": {"conversations": 86, "customer_turns": 187, "industries": 1, "labels": {}},
        "bundled_diversity": {"words": 65432, "distinct_openings_share": 0.9417},
        "bundled_splits": {"test": {"conversations": 321, "hot_turn_share": 0.1519}},
        "bundled_agreement": {"turns": 409, "sentiment": 0.9623, "frustration": 0.9747},
    },
    "prepare": {
        "train": {
            "rows": 5678,
            "tokens": 98765,
            "sources": {"bundled": 1789, "airline_tweets": 3889, "desk.json": 179},
        },
        "test": {"rows": 777, "tokens": 45678, "sources": {"bundled": 777}},
        "train_values": {"frustration": {"none": 2219.0, "mild": 523.0}},
    },
    "train": {"validation_loss": 2.3197, "epochs_run": 4, "rows": 5678, "rows_per_epoch": 4321, "minutes": 3.83},
    "calibrate": {
        "sentiment": {"loss_before": 0.3907, "loss_after": 0.3797, "ece_before": 0.0397, "ece_after": 0.0173}
    },
    "evaluate": {
        "rows": 777,
        "heads": {
            "sentiment": {
                "rows": 777,
                "quadratic_kappa": interval(0.7387),
                "ece": 0.0207,
                "sources": {
                    "bundled": {"rows": 476, "quadratic_kappa": interval(0.7013), "ece": 0.0219},
                    "airline_tweets": {"rows": 301, "three_way": {"rows": 299, "macro_f1": interval(0.6817)}},
                },
            },
            "frustration": {"rows": 776, "quadratic_kappa": interval(0.8197), "ece": 0.0261, "sources": {}},
            "signals": {
                "rows": 775,
                "average_precision": {"value": 0.6667, "low": math.nan, "high": math.nan},
                "values": {"abuse": {"positives": 12, "recall": 0.9167, "roc_auc": None}},
                "sources": {},
            },
            "complaint": {"rows": 0, "sources": {}},
        },
        "slices": {
            "negated": {"rows": 203, "sentiment": of_slice(201, "quadratic_kappa", 0.7331)},
            "shouted": {
                "rows": 58,
                "sentiment": of_slice(57, "quadratic_kappa", 0.6113),
                "frustration": of_slice(56, "quadratic_kappa", 0.7519),
            },
            "source airline_tweets": {"rows": 85, "sentiment": of_slice(83, "three_way", 0.5641)},
            "with emoji": {"rows": 64, "sentiment": of_slice(27, "quadratic_kappa", 0.1117)},
        },
    },
    "export": {
        "bundle": "sha256:0a1b",
        "kept_in_float": ["narrow"],
        "megabytes": {"int8": 23.3, "float": 91.1},
        "parity": {"sentiment": {"label_disagreement": 0.00497, "ece_float": 0.01753}},
    },
    "abstention": {
        "validated": ["en"],
        "languages": {"fr": {"4 words or more": {"messages": 757, "language": interval(0.9131)}}},
        "corpora": {},
    },
    "behaviour": behaviour(),
    "cards": {
        "bundle": "sha256:0a1b",
        "parameters": 22713344,
        "agreement": {"airline_tweets": {"turns": 508, "sentiment": 0.9367, "signals": 0.8641}},
    },
}


@pytest.fixture(scope="module")
def facts() -> Facts:
    bundle = Card(
        format=FORMAT,
        profile="public",
        encoder="some-encoder",
        languages=("en",),
        labels=VOCABULARY,
        encoding=EncodingConfig(max_tokens=96, message_tokens=72, turn_tokens=24, earlier_turns=4),
        calibration=no_calibration(VOCABULARY),
        metrics={},
        slices={},
        data_hash="sha256:2c3d",
        git_revision="unknown",
        mlflow_run_id="4e5f",
        golden_tolerance=0.05,
        golden=(),
    )
    return Facts(bundle, tuple(SOURCES[name] for name in PROFILE), EXPORTS, METRICS)


@pytest.fixture(scope="module")
def model(facts: Facts) -> str:
    return model_card(facts, CONFIG)


@pytest.fixture(scope="module")
def data(facts: Facts) -> str:
    return data_card(facts, CONFIG)


def numbers(value: Any) -> Iterator[float]:
    """Every number of a nested report that is one."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float) and math.isfinite(value):
        yield value


def printed(card: str) -> set[str]:
    """Every decimal number of a card outside licences, addresses and file names."""
    words = [word for source in SOURCES.values() for word in (source.title, source.home, source.licence)]
    for word in sorted(words, key=len, reverse=True):
        card = card.replace(word, "")
    return set(re.findall(r"(?<![\w.])\d[\d,]*\.\d+(?![\w.])", card))


def test_every_required_section_is_there_and_says_something(model: str, data: str) -> None:
    for card, titles in ((model, MODEL_SECTIONS), (data, DATA_SECTIONS)):
        assert re.findall(r"^## (.+)$", card, re.M) == list(titles)
        for part in re.split(r"^## .+$", card, flags=re.M)[1:]:
            assert len(part.split()) >= 10, part


def test_every_figure_is_one_that_was_measured(model: str, data: str) -> None:
    shown_failures = [example for family in failures(METRICS["behaviour"], 2) for example in family["examples"]]
    measured = {shown(number) for number in numbers(METRICS)} | printed(" ".join(shown_failures))
    for card in (model, data):
        assert len(printed(card)) >= 5
        assert printed(card) <= measured, printed(card) - measured


def test_every_figure_that_was_measured_is_told(model: str, data: str) -> None:
    slices = METRICS["evaluate"]["slices"]
    left_out = set(
        map(shown, numbers([slices["negated"], slices["with emoji"], *(s["rows"] for s in slices.values())]))
    )
    cells = set(re.findall(r"\d{1,3}(?:,\d{3})*(?:\.\d+)?", model + data))
    assert {shown(number) for number in numbers(METRICS)} - left_out <= cells


def test_every_corpus_of_the_profile_is_named_with_its_licence(model: str, data: str) -> None:
    for name in PROFILE:
        source = SOURCES[name]
        (row,) = [line for line in model.splitlines() if line.startswith(f"| {name} |") and source.home in line]
        assert source.licence in row
        part = data.split(f"### {name}\n")[1].split("\n##")[0]
        for said in (source.licence, source.home, source.labelled_by, *source.heads, *source.warts):
            assert said in part
        assert ("not distributed" in part) == bool(source.files)
    assert "goemotions" not in model + data


def test_a_corpus_that_was_missing_is_said_to_be(data: str) -> None:
    assert "not there in this run" in data.split("### support_chats\n")[1]
    assert "not there in this run" not in data.split("### support_chats\n")[0]


def test_exports_are_told_with_their_sizes(model: str, data: str, facts: Facts) -> None:
    part = data.split("## Exports\n")[1].split("\n## ")[0]
    desk, lost = part.split("### desk.json\n")[1].split("### lost.csv\n")
    assert "kind: zendesk" in desk
    assert "86 conversations, 187 customer turns" in desk
    assert "kind: csv" in lost
    assert "not there in this run" in lost
    assert "| desk.json | lost.csv |\n" in data
    assert "| train | 5,678 | 98,765 | 1,789 | 3,889 | 0 | 179 | 0 |\n" in data
    assert re.search(r"^\| desk.json \|.* zendesk \|.*\| 179 \|$", model, re.M)
    assert "Exports" not in data_card(replace(facts, exports=()), CONFIG)


def test_rows_of_an_epoch_are_told_where_they_were_counted(model: str, facts: Facts) -> None:
    assert "on 5,678 rows (4,321 drawn an epoch, by the sampling rates) in" in model
    train = {name: value for name, value in METRICS["train"].items() if name != "rows_per_epoch"}
    assert "on 5,678 rows in" in model_card(replace(facts, metrics={**METRICS, "train": train}), CONFIG)


def test_nothing_is_printed_that_is_no_value(model: str, data: str, facts: Facts) -> None:
    for text in (model, data, summary(facts)):
        assert not re.search(r"\bNone\b|\bnan\b|Undefined|\{\{|\{%|<built-in|<bound", text)


def test_what_it_must_not_be_used_for(model: str) -> None:
    part = model.split("## Must not be used for")[1].split("\n## ")[0]
    for word in ("employees", "refusing", "delaying", "character", "health", "without a human"):
        assert word in part


def test_a_run_without_the_other_corpora_says_so(facts: Facts) -> None:
    metrics = {k: v for k, v in METRICS.items() if k not in ("behaviour", "abstention")}
    card = model_card(Facts(facts.bundle, facts.sources[:1], (), metrics), CONFIG)
    assert "Not measured in this run" in card
    assert "behaviour suite was not run" in card


def test_failures_come_worst_first_with_some_examples() -> None:
    people, late, calm = failures(METRICS["behaviour"], 2)
    assert (people["name"], people["failure_rate"]) == ("people", 1)
    assert (late["name"], late["failure_rate"], late["failures"], late["cases"]) == ("late", 0.4, 2, 5)
    assert late["examples"] == [
        "“You are never late.”: sentiment is negative, not positive",
        "“It came.” and “It came late.”: frustration goes from 0.00 to 0.00, not rises_by 0.25",
    ]
    assert (calm["failure_rate"], calm["examples"]) == (0, [])
    assert failures({}, 2) == []


def test_no_example_is_longer_than_a_reader_likes() -> None:
    (example,) = failures(METRICS["behaviour"], 2)[0]["examples"]
    assert example.endswith(
        "and nobody answers.” and “Ada here.” and 2 more: frustration goes from 0.00 to 2.00, at most 0.5 apart"
    )
    text = example.split("”")[0]
    assert text.startswith("“… ")
    assert 120 < len(text) < 165


def test_failures_are_counted_where_no_example_was_kept() -> None:
    metrics = {"families": {"late": {"cases": 5, "failures": 2, "failure_rate": 0.4, "examples": []}}}
    assert failures(metrics, 2)[0]["failures"] == 2


def test_known_failures_are_those_of_this_bundle(model: str) -> None:
    part = model.split("## Known failures")[1].split("\n## ")[0]
    assert "3 of 7 fail" in part
    assert re.findall(r"^- (.+)$", part, re.M) == ["people: 1 (1 of 1)", "late: 0.4 (2 of 5)", "calm: 0 (0 of 1)"]
    assert "  - “You are never late.”: sentiment is negative, not positive\n" in part


def test_the_weakest_slices_are_those_with_rows_enough() -> None:
    found = weakest(METRICS["evaluate"]["slices"], CONFIG)
    assert list(found) == ["sentiment: source airline_tweets", "sentiment: shouted", "frustration: shouted"]
    assert found["frustration: shouted"] == {"rows": 56, "measure": "quadratic_kappa", "value": interval(0.7519)}
    assert found["sentiment: source airline_tweets"]["measure"] == "three_way"


def test_what_the_evaluation_writes_is_told(facts: Facts) -> None:
    rows, labelled = rows_and_labels()
    calibration = no_calibration(labelled.vocabulary)
    report = evaluate(
        labelled, probabilities(labelled.logits, labelled.vocabulary, calibration), rows, calibration, MEASURING
    )
    report["slices"]["posts"] = {"rows": 99, "sentiment": of_slice(99, "three_way", 0.0107)}
    told = replace(facts, metrics={**METRICS, "evaluate": report})
    card = model_card(told, CONFIG)
    kappa = shown(report["heads"]["sentiment"]["sources"]["bundled"]["quadratic_kappa"])
    assert kappa in card.split("### sentiment, sources\n")[1].split("\n#")[0]
    weak = card.split("## Where it is weakest")[1].split("\n## ")[0]
    later = report["slices"]["later turns"]["frustration"]
    assert f"| frustration: later turns | {later['rows']} | quadratic_kappa | {shown(later['quadratic_kappa'])}" in weak
    assert f"sentiment quadratic_kappa {shown(report['heads']['sentiment']['quadratic_kappa'])}" in summary(told)


def test_every_level_of_a_report_has_its_table() -> None:
    tables = dict(sections(METRICS["evaluate"]["heads"]))
    assert list(tables) == ["", "sentiment, sources", "sentiment, sources, airline_tweets", "signals, values"]
    assert "| bundled | 476 | 0.7013 (0.66 to 0.7392) | 0.0219 |" in tables["sentiment, sources"]
    assert "| three_way | 299 | 0.6817 (0.6404 to 0.7196) |" in tables["sentiment, sources, airline_tweets"]


def test_cells_cannot_break_a_table() -> None:
    assert matrix({"a|b": {"x": 1, "y": "c\nd"}}, "row").splitlines() == [
        "| row | x | y |",
        "| --- | --- | --- |",
        "| a\\|b | 1 | c d |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345, "12,345"),
        (0.00021, "0.00021"),
        (2219.0, "2,219"),
        (0.0, "0"),
        (None, "–"),
        (math.nan, "–"),
        ({"value": 0.5, "low": 0.25, "high": 0.75}, "0.5 (0.25 to 0.75)"),
        ({"value": 0.5, "low": math.nan, "high": math.nan}, "0.5"),
        ((), "–"),
    ],
)
def test_how_figures_are_shown(value: Any, text: str) -> None:
    assert shown(value) == text


def test_the_summary_names_model_figures_and_limits(facts: Facts) -> None:
    text = summary(facts)
    assert "some-encoder, 22,713,344 parameters" in text
    assert "sentiment quadratic_kappa 0.7387 (0.6974 to 0.7766)" in text
    assert "not for watching employees" in text


def test_second_labels_are_held_against_the_first(tmp_path: Path) -> None:
    sources = [SOURCES[name] for name in PROFILE]
    found = agreements(sources, VOCABULARY, tmp_path)
    assert set(found) == {"airline_tweets"}  # the labels of the chats lie with the chats, which are not here
    assert 0.5 < found["airline_tweets"]["frustration"] < 1
    assert found["airline_tweets"]["turns"] <= len(read_labels(SECOND, "airline_tweets"))


def test_only_rows_that_both_labelled_count() -> None:
    first = {("a", None): {"frustration": 1}, ("b", None): {"frustration": 3}}
    second = {("a", None): {"frustration": 1}, ("c", None): {"frustration": 0}}
    assert label_agreement(first, second, VOCABULARY) == {"turns": 1, "frustration": 1.0}


def test_parameters_are_counted(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / "weights")
    assert parameters(tmp_path / "weights") == 17


def test_a_card_of_another_bundle_describes_nothing(tmp_path: Path) -> None:
    assert description_of("sha256:0a1b", tmp_path / "cards.json") is None
    (tmp_path / "cards.json").write_text('{"bundle": "sha256:0a1b", "summary": "good"}', encoding="utf-8")
    assert description_of("sha256:0a1b", tmp_path / "cards.json") == "good"
    assert description_of("sha256:ffff", tmp_path / "cards.json") is None
