"""DVC stage `report`: everything that was measured, on one page that a person would like to read.

    python -m training.report            metrics/report.html, metrics/report.json
    python -m training.report --table    the headline table in the terminal

The page needs nothing beside itself: styles and pictures stand in it, and it runs no script. What `training.transfer`
and the behaviour suite measured is shown where their files are there; run the command again after them.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.table import Table

from pipeline.config import current_profile, load_config
from pipeline.stage import METRICS, read_json, run, write_json
from training.evaluate import PLOTS
from training.findings import (
    ALL,
    MEASURES,
    Headline,
    Metrics,
    ReportConfig,
    headlines,
    in_three,
    rows_behind,
    shown,
    slices_by_weakness,
    verdicts,
    weaknesses,
    worded,
)
from training.measures import figure_of, leading_name

TEMPLATES = Path(__file__).parent / "templates"
PAGE = METRICS / "report.html"
WIDTH = 120  # of the table in a terminal, however wide that is

Points = list[tuple[float, ...]]


def context(metrics: Path, plots: Path, profile: str, config: ReportConfig) -> dict[str, Any]:
    """Everything that the template shows, from a folder of metrics files and one of plots' data."""
    evaluation, baselines = read_json(metrics / "evaluate.json"), read_json(metrics / "baselines.json")
    transfer = read_optional(metrics / "transfer.json")
    rows = headlines(evaluation, baselines, config)
    slices = slices_by_weakness(evaluation, config)
    return {
        "profile": profile,
        "evaluation": evaluation,
        "headlines": rows,
        "verdicts": verdicts(rows),
        "in_three": in_three(evaluation, baselines, config),
        "weaknesses": weaknesses(evaluation, baselines, config),
        "slices": slices[: config.weakest_slices],
        "slices_left_out": max(0, len(slices) - config.weakest_slices),
        "reliability": read_points(plots / "reliability.csv", "label", "promised", "held", "rows"),
        "precision_recall": read_points(plots / "precision_recall.csv", "label", "recall", "precision"),
        "confusion": confusion_tables(plots / "confusion.csv"),
        "queue": read_points(plots / "queue.csv", "source", "taken", "reached", "ceiling"),
        "foresight": read_points(plots / "foresight.csv", "forecast", "false_alarms", "foreseen"),
        "learning_curve": learning_curve(transfer.get("learning_curve", {})),
        "transfer": transfer_rows(transfer, evaluation, config),
        "behaviour": read_optional(metrics / "behaviour.json"),
        "config": config,
    }


def read_optional(path: Path) -> dict[str, Any]:
    """A metrics file that may not be there."""
    return dict(read_json(path)) if path.exists() else {}


def read_points(path: Path, label: str, *columns: str) -> dict[str, Points]:
    """A plot's data: per label its points, of these columns."""
    found: dict[str, Points] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row[label], []).append(tuple(float(row[column]) for column in columns))
    return found


def confusion_tables(path: Path) -> dict[str, Counter[tuple[str, str]]]:
    """Per head how often (actual, predicted) came together."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            actual, predicted = (row[name].removeprefix(f"{row['head']} ") for name in ("actual", "predicted"))
            counts.setdefault(row["head"], Counter())[actual, predicted] += 1
    return counts


def learning_curve(trials: Metrics) -> dict[str, Points]:
    """Per head the leading figure over training rows, fewest first."""
    found: dict[str, Points] = {}
    for trial in sorted(trials.values(), key=lambda one: int(one["train_rows"])):
        for head, report in trial["heads"].items():
            name = leading_name(report)
            figure = figure_of(report, name) if name else None
            if figure:
                found.setdefault(head, []).append((trial["train_rows"], figure["value"]))
    return found


def transfer_rows(transfer: Metrics, evaluation: Metrics, config: ReportConfig) -> list[dict[str, Any]]:
    """What was measured on what training never saw, beside the model that saw it where the figure is the same one."""
    rows = []
    for kind in ("corpora", "industries"):
        for left_out, trial in transfer.get(kind, {}).items():
            for head, report in trial["heads"].items():
                name = leading_name(report)
                figure = figure_of(report, name) if name else None
                count = rows_behind(report, name) if name else 0
                if name and figure and count >= config.smallest_rows:
                    seen = evaluation["heads"].get(head, {}).get("sources", {}).get(left_out, {})
                    row = {"kind": kind, "left_out": left_out, "head": head, "rows": count, "measure": name}
                    rows.append(row | {"figure": figure, "seen": figure_of(seen, name)})
    return rows


def render(values: dict[str, Any]) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(worded=worded, shown=shown)
    environment.globals.update(measures=MEASURES, everything=ALL, curve=curve, shrunk=shrunk)
    return environment.get_template("report.html").render(**values)


def curve(points: Points, column: int) -> Points:
    """(first column, another) of points that go from the left to the right, with their ends at the corners."""
    found = sorted((point[0], point[column]) for point in points)
    return [(0.0, 0.0), *found, (1.0, 1.0)]


def shrunk(points: Points, most: float) -> Points:
    """Points whose first column becomes a share of `most`, and which count as one row each."""
    return [(point[0] / most, point[1], 1.0) for point in points]


def as_metrics(rows: Sequence[Headline]) -> dict[str, Any]:
    """The headline table as the stage's metrics file keeps it."""
    report: dict[str, Any] = {}
    for row in rows:
        report.setdefault(row.head, {})[row.source] = {
            "rows": row.rows,
            "measure": row.measure,
            **row.figure,
            "best_baseline": row.baseline,
            "baseline_value": row.beside["value"] if row.beside else None,
            "baseline_train_rows": row.train_rows,
        }
    return report


def table(rows: Sequence[Headline]) -> Table:
    """The headline table for a terminal."""
    found = Table("head", "corpus", "rows", "figure", "value (95 % interval)", "best baseline", "verdict")
    colours = {"ahead": "green", "level": "yellow", "behind": "red", "alone": "dim"}
    for row in rows:
        beside = f"{row.baseline} {row.beside['value']:.2f}" if row.beside else "none"
        verdict = f"[{colours[row.verdict]}]{row.verdict}[/]" + (f", {row.learnt}" if row.learnt else "")
        names = (worded(row.head), "all" if row.source == ALL else worded(row.source), f"{row.rows:,}")
        found.add_row(*names, MEASURES[row.measure], shown(row.figure), beside, verdict)
    return found


def main() -> None:
    """Run the stage for the current profile, or show its table."""
    parser = argparse.ArgumentParser(description="Everything that was measured, on one page.")
    parser.add_argument("--table", action="store_true", help="print the headline table and write nothing")
    profile = current_profile()
    config = load_config(ReportConfig, "train.yaml", "report", profile)
    if parser.parse_args().table:
        evaluation, baselines = read_json(METRICS / "evaluate.json"), read_json(METRICS / "baselines.json")
        Console(width=WIDTH).print(table(headlines(evaluation, baselines, config)))
        return
    values = context(METRICS, PLOTS, profile, config)
    PAGE.write_text(render(values), encoding="utf-8")
    write_json(METRICS / "report.json", as_metrics(values["headlines"]))
    print(PAGE)


if __name__ == "__main__":
    run(main)
