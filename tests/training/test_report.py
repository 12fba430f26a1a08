from __future__ import annotations

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pipeline.heads import no_calibration, probabilities
from pipeline.stage import read_json, write_json
from pipeline.vocabulary import load_vocabulary
from tests.training.test_evaluate import CONFIG as EVALUATE
from tests.training.test_evaluate import rows_and_labels
from training.evaluate import curves, evaluate, judged_heads
from training.findings import ReportConfig
from training.plots import write_curves, write_plots
from training.report import as_metrics, context, render, table

CONFIG = ReportConfig(smallest_rows=20, smallest_positives=10, weakest_slices=3, weak=0.5, poor_calibration=0.05)
SENTIMENTS = load_vocabulary().heads["sentiment"].values
UNCLOSED = {"meta", "br"}


class Reader(HTMLParser):
    """Reads a page, refuses elements that are not closed in order, and gathers ids and links within it."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in UNCLOSED:
            self.open.append(tag)
        self.ids |= {value for name, value in attrs if name == "id" and value}
        self.links |= {value for name, value in attrs if name == "href" and value}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed in itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate` and `baselines` leave behind."""
    folder = tmp_path_factory.mktemp("metrics")
    vocabulary = load_vocabulary()
    rows, labelled = rows_and_labels()
    calibration = no_calibration(vocabulary)
    chances = probabilities(labelled.logits, vocabulary, calibration)
    found = evaluate(labelled, chances, rows, calibration, EVALUATE)
    write_json(folder / "evaluate.json", found)
    guess = evaluate(labelled, chances[::-1], rows, calibration, EVALUATE)  # each row told what another is
    write_json(
        folder / "baselines.json",
        {"tfidf": {name: {"train_rows": 1234, **head} for name, head in guess["heads"].items()}},
    )
    write_plots(folder / "plots", judged_heads(labelled, chances, rows, calibration), 10)
    write_curves(folder / "plots", **curves(labelled, chances, rows))
    return folder


def values(metrics: Path) -> dict[str, Any]:
    return context(metrics, metrics / "plots", "bundled", CONFIG)


def test_the_page_is_whole_and_needs_nothing_beside_it(metrics: Path) -> None:
    page = render(values(metrics))
    reader = read(page)
    assert all(link.startswith("#") and link[1:] in reader.ids for link in reader.links)
    assert not re.search(r"<script|\bsrc=|url\(|@import", page)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S).lower().replace("finance", "")


def test_it_shows_the_headline_the_queue_and_the_forecasts(metrics: Path) -> None:
    page = render(values(metrics))
    for section in ("headline", "weak", "queue", "foresight", "reliability", "confusion", "curves", "slices"):
        assert f'id="{section}"' in page
    assert "tfidf" in page
    assert "customer turns ahead" in page
    assert "learnt from 1,234 rows" in page


def test_confusion_stands_in_one_file_by_head_and_without_coarse_corpora(metrics: Path) -> None:
    assert [path.name for path in (metrics / "plots").glob("confusion*.csv")] == ["confusion.csv"]
    found = values(metrics)["confusion"]
    assert {name: sum(counts.values()) for name, counts in found.items()} == {
        "sentiment": 180,
        "frustration": 180,
        "satisfaction": 180,
    }
    assert set(found["sentiment"]) <= {(a, b) for a in SENTIMENTS for b in SENTIMENTS}


def test_plots_are_written_where_no_label_is_exact(tmp_path: Path) -> None:
    rows, labelled = rows_and_labels()
    calibration = no_calibration(labelled.vocabulary)
    chances = probabilities(labelled.logits, labelled.vocabulary, calibration)
    heads = judged_heads(labelled, chances, rows, calibration)
    nothing = np.zeros(len(heads["sentiment"].chance), dtype=bool)
    write_plots(tmp_path, {"sentiment": heads["sentiment"].among(nothing)}, 10)
    assert (tmp_path / "confusion.csv").read_text(encoding="utf-8") == "head,actual,predicted\n"
    assert (tmp_path / "confusion.png").exists()


def test_sections_without_a_file_are_not_there(metrics: Path) -> None:
    page = render(values(metrics))
    for section in ("learning", "transfer", "behaviour"):
        assert f'id="{section}"' not in page
        assert f'href="#{section}"' not in page


@pytest.fixture
def with_all(metrics: Path) -> Any:
    """The folder with what other commands measure beside it."""
    heads = read_json(metrics / "evaluate.json")["heads"]
    trial = {"train_rows": 500, "rows": 180, "heads": {"frustration": heads["frustration"]}}
    write_json(
        metrics / "transfer.json",
        {"corpora": {"bundled": trial}, "learning_curve": {"0.5": trial, "1": {**trial, "train_rows": 1000}}},
    )
    counts = {"cases": 20, "failures": 5, "failure_rate": 0.25}
    families = {"names": {**counts, "failure_rate": 0.05}, "sarcasm": counts}
    write_json(metrics / "behaviour.json", {"bundle": "sha256:0", "families": families, "overall": counts})
    yield metrics
    for name in ("transfer", "behaviour"):
        (metrics / f"{name}.json").unlink()


def test_transfer_learning_curve_and_behaviour_are_shown_where_they_were_measured(with_all: Path) -> None:
    shown = values(with_all)
    assert [points for points, _ in shown["learning_curve"]["frustration"]] == [500, 1000]
    assert (
        shown["transfer"][0]["seen"]
        == read_json(with_all / "evaluate.json")["heads"]["frustration"]["sources"]["bundled"]["quadratic_kappa"]
    )
    page = render(shown)
    read(page)
    assert page.index("sarcasm</td>") < page.index("names</td>")


def test_text_from_the_files_is_escaped(metrics: Path) -> None:
    found = values(metrics)
    page = render({**found, "profile": "<b>bold</b>"})
    assert "<b>bold</b>" not in page


def test_slices_beyond_the_limit_are_counted(metrics: Path) -> None:
    found = values(metrics)
    assert len(found["slices"]) == 3
    assert f"{found['slices_left_out']:,} less weak ones" in render(found)


def test_the_table_and_the_metrics_file_say_the_same(metrics: Path) -> None:
    rows = values(metrics)["headlines"]
    console = Console(width=140, record=True, file=StringIO())
    console.print(table(rows))
    text = console.export_text()
    kept = as_metrics(rows)
    assert kept["frustration"]["bundled"]["best_baseline"] == "tfidf"
    assert f"{kept['frustration']['bundled']['value']:.2f}" in text
    assert kept["frustration"]["bundled"]["value"] > kept["frustration"]["bundled"]["baseline_value"]
