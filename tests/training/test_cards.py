"""The cards say what they must, with the figures of the metrics files and no others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.agreement import label_agreement
from pipeline.bundle import FORMAT, Card
from pipeline.encode import EncodingConfig
from pipeline.heads import no_calibration
from pipeline.sources import SOURCES
from pipeline.sources.signals import SECOND, read_labels
from pipeline.vocabulary import load_vocabulary
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
from training.register import description_of

CONFIG = CardsConfig(weakest_slices=2, smallest_slice=50, examples=2)
VOCABULARY = load_vocabulary().only(("sentiment", "frustration", "signals"))
PROFILE = ("bundled", "airline_tweets", "support_chats")

MODEL_SECTIONS = (
    *("What it is", "Intended use", "Must not be used for", "Labels", "Training corpora", "Encoder and sizes"),
    *("Figures", "Calibration", "Where it is weakest", "When it abstains", "Known failures", "How to retrain"),
    "Contact",
)
DATA_SECTIONS = ("Corpora", "Labels", "Splits", "Agreement", "Personal data", "What must not be done with it")


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": round(value - 0.0413, 4), "high": round(value + 0.0379, 4)}


METRICS: dict[str, Any] = {
    "ingest": {
        "bundled": {
            "conversations": 1234,
            "customer_turns": 2345,
            "industries": 31,
            "labels": {"frustration": 2344, "sentiment": 2343},
        },
        "airline_tweets": {"conversations": 3456, "customer_turns": 3457, "industries": 1, "labels": {}},
        "bundled_diversity": {"words": 65432, "distinct_openings_share": 0.9417},
        "bundled_splits": {"test": {"conversations": 321, "hot_turn_share": 0.1519}},
        "bundled_agreement": {"turns": 409, "sentiment": 0.9623, "frustration": 0.9747},
    },
    "prepare": {
        "train": {"rows": 5678, "tokens": 98765, "sources": {"bundled": 1789, "airline_tweets": 3889}},
        "test": {"rows": 777, "tokens": 45678, "sources": {"bundled": 777}},
        "train_values": {"frustration": {"none": 2219.0, "mild": 523.0}},
    },
    "train": {"validation_loss": 2.3197, "epochs_run": 4, "rows": 5678, "minutes": 3.83},
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
                "by_source": {"airline_tweets": {"rows": 301, "quadratic_kappa": interval(0.6817), "ece": None}},
            },
            "frustration": {"rows": 776, "quadratic_kappa": interval(0.8197), "ece": 0.0261},
            "signals": {
                "rows": 775,
                "average_precision": {"value": 0.6667, "low": math.nan, "high": math.nan},
                "values": {"abuse": {"positives": 12, "recall": 0.9167, "roc_auc": None}},
            },
            "complaint": {"rows": 0},
        },
        "slices": {
            "negated": {"rows": 203, "sentiment": {"accuracy": 0.7951, "quadratic_kappa": 0.7331}},
            "shouted": {"rows": 58, "sentiment": {"quadratic_kappa": 0.6113}, "frustration": {"accuracy": 0.7519}},
            "channel email": {"rows": 85, "sentiment": {"quadratic_kappa": 0.5641}},
            "with emoji": {"rows": 27, "sentiment": {"quadratic_kappa": 0.1117}},
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
    "behaviour": {
        "families": {
            "negation": {"failure_rate": 0.125, "examples": ["not bad at all", "never late", "a third one"]},
            "names": {"failure_rate": interval(0.3333), "examples": [{"text": "Wei here", "expected": 1, "got": 2.25}]},
        }
    },
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
    return Facts(bundle, tuple(SOURCES[name] for name in PROFILE), METRICS)


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
    measured = {shown(number) for number in numbers(METRICS)}
    for card in (model, data):
        assert len(printed(card)) >= 5
        assert printed(card) <= measured, printed(card) - measured


def test_every_figure_that_was_measured_is_told(model: str, data: str) -> None:
    left_out = set(map(shown, numbers([METRICS["evaluate"]["slices"][name] for name in ("negated", "with emoji")])))
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


def test_nothing_is_printed_that_is_no_value(model: str, data: str, facts: Facts) -> None:
    for text in (model, data, summary(facts)):
        assert not re.search(r"\bNone\b|\bnan\b|Undefined|\{\{|\{%|<built-in|<bound", text)


def test_what_it_must_not_be_used_for(model: str) -> None:
    part = model.split("## Must not be used for")[1].split("\n## ")[0]
    for word in ("employees", "refusing", "delaying", "character", "health", "without a human"):
        assert word in part


def test_a_run_without_the_other_corpora_says_so(facts: Facts) -> None:
    metrics = {k: v for k, v in METRICS.items() if k not in ("behaviour", "abstention")}
    card = model_card(Facts(facts.bundle, facts.sources[:1], metrics), CONFIG)
    assert "Not measured in this run" in card
    assert "Families of invented messages" not in card


def test_failures_come_worst_first_with_some_examples() -> None:
    names, negation = failures(METRICS["behaviour"], 2)
    assert (names["name"], names["examples"]) == ("names", ["text: Wei here; expected: 1; got: 2.25"])
    assert (negation["rate"], negation["examples"]) == (0.125, ["not bad at all", "never late"])
    assert failures({}, 2) == []


def test_the_weakest_slices_are_those_with_rows_enough() -> None:
    found = weakest(METRICS["evaluate"]["slices"], CONFIG)
    assert list(found) == ["sentiment: channel email", "sentiment: shouted", "frustration: shouted"]
    assert found["frustration: shouted"] == {"rows": 58, "measure": "accuracy", "value": 0.7519}


def test_every_level_of_a_report_has_its_table() -> None:
    tables = dict(sections(METRICS["evaluate"]["heads"]))
    assert list(tables) == ["", "sentiment, by_source", "signals, values"]
    assert "| airline_tweets | 301 | 0.6817 (0.6404 to 0.7196) | – |" in tables["sentiment, by_source"]


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
