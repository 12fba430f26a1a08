"""`simmer policy` as a person uses it: exit status, one-line errors, tables that fit a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from pipeline.bundle import Card
from pipeline.config import CONFIGS
from pipeline.encode import EncodingConfig
from pipeline.heads import no_calibration
from serving.routing.cli import app
from tests.serving.routing.made import POLICY, VOCABULARY, abstained, answered, export, outputs, written

FILE: dict[str, Any] = yaml.safe_load((CONFIGS / "routing.yaml").read_text(encoding="utf-8"))


def run(*arguments: object, width: int = 80, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(
        app, [str(one) for one in arguments], input=stdin, env={"COLUMNS": str(width), "NO_COLOR": "1"}
    )


def policy(folder: Path, **sections: Any) -> Path:
    path = folder / "new.yaml"
    path.write_text(yaml.safe_dump({**FILE, **sections}, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def calmer(tmp_path: Path) -> Path:
    """A policy without the senior queue's reasons."""
    return policy(tmp_path, queues=[{**q, "reasons": []} if q["name"] == "senior" else q for q in FILE["queues"]])


@pytest.fixture
def history(tmp_path: Path) -> Path:
    rows: list[Any] = [
        export(
            f"conversation-with-a-rather-long-name-{n}",
            (f"2026-10-{1 + n % 20:02}T10:00:00Z", answered(f"c-{n}", outputs(frustration__strong=n / 100))),
        )
        for n in range(100)
    ]
    return written(tmp_path / "history.jsonl", *rows, abstained("french"))


def test_a_valid_policy_is_valid() -> None:
    done = run("check", CONFIGS / "routing.yaml")
    assert done.exit_code == 0
    assert done.stdout.startswith("valid: ")
    assert POLICY.digest in done.stdout


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"waiting": {}}, "waiting.reason"),
        ({"aging": {"points": 1}}, "aging.points"),
        (
            {"factors": {**FILE["factors"], "x": {"head": "mood", "value": "bad", "weight": 0, "fires_at": 1}}},
            "new.yaml",
        ),
    ],
)
def test_a_policy_that_is_not_valid_is_one_line_and_status_1(
    tmp_path: Path, sections: dict[str, Any], named: str
) -> None:
    done = run("check", policy(tmp_path, **sections))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


def bundle(folder: Path, *heads: str) -> Path:
    """A bundle of which only the card is there, of a model with these heads."""
    card = Card(
        format=1,
        profile="none",
        encoder="none",
        languages=("en",),
        labels=VOCABULARY.only(heads),
        encoding=EncodingConfig(max_tokens=128, message_tokens=64, turn_tokens=16, earlier_turns=2),
        calibration=no_calibration(VOCABULARY.only(heads)),
        metrics={},
        slices={},
        data_hash="",
        git_revision="",
        mlflow_run_id="",
        golden_tolerance=0.0,
        golden=(),
    )
    (folder / "bundle.json").write_text(card.model_dump_json())
    return folder


def test_a_policy_is_checked_against_the_labels_of_a_bundle(tmp_path: Path) -> None:
    policy = CONFIGS / "routing.yaml"
    assert run("check", policy, "--model", bundle(tmp_path, *VOCABULARY.heads)).exit_code == 0
    done = run("check", policy, "--model", bundle(tmp_path, "frustration", "signals"))
    assert done.exit_code == 1
    assert "routing.yaml: factor urgency_critical: the model has no head urgency" in done.stderr


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_policy_that_cannot_be_read_is_status_2(tmp_path: Path, name: str) -> None:
    done = run("check", tmp_path / name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("width", [80, 120])
def test_a_replay_is_readable(history: Path, calmer: Path, width: int) -> None:
    done = run("replay", "--policy", calmer, history, width=width)
    assert done.exit_code == 0
    assert "101 answers" in done.stdout
    assert "frustration_strong" not in done.stdout  # it fires as before; only where it leads has changed
    assert all(len(line) <= width for line in done.stdout.splitlines())
    assert "…" not in done.stdout


def test_a_replay_as_json(history: Path, calmer: Path) -> None:
    found = json.loads(run("replay", "--policy", calmer, history, "--json").stdout)
    assert found["answers"] == 101
    assert found["sent_up"][0] > found["sent_up"][1] == 0
    assert found["moved"] == found["sent_up"][0]


def test_a_replay_against_another_file_and_from_standard_input(history: Path, calmer: Path) -> None:
    done = run("replay", "--policy", calmer, "--against", calmer, "-", "--json", stdin=history.read_bytes())
    assert json.loads(done.stdout)["moved"] == 0


def test_bad_rows_are_named_and_the_good_ones_counted(tmp_path: Path, calmer: Path) -> None:
    rows = written(
        tmp_path / "rows.jsonl", answered("a"), b"{\n", {"id": "b", "text": "[bold]hi[/bold]"}, answered("c")
    )
    done = run("replay", "--policy", calmer, rows, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["answers"] == 2
    assert "line 2" in done.stderr
    assert "line 3" in done.stderr


def test_a_history_of_nothing_but_bad_rows_names_the_first_and_counts_the_rest(tmp_path: Path, calmer: Path) -> None:
    done = run("replay", "--policy", calmer, written(tmp_path / "rows.jsonl", *[b"{\n"] * 50))
    assert done.exit_code == 2
    assert "and 30 more" in done.stderr
    assert "no answer" in done.stderr


@pytest.mark.parametrize("command", [("replay", "--policy", CONFIGS / "routing.yaml"), ("capacity", "--per-day", 5)])
def test_an_empty_or_missing_history_is_status_2(tmp_path: Path, command: tuple[object, ...]) -> None:
    for path in (written(tmp_path / "empty.jsonl"), tmp_path / "nowhere.jsonl", tmp_path):
        done = run(*command, path)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "error:" in done.stderr


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("per_day", [0, 2, 1_000])
def test_a_plan_is_readable(history: Path, width: int, per_day: int) -> None:
    done = run("capacity", "--per-day", per_day, "--days", 20, history, width=width)
    assert done.exit_code == 0
    assert "- {name: senior, reasons: [], score: " in done.stdout
    assert "1 the model would not judge" in done.stdout
    assert all(len(line) <= width for line in done.stdout.splitlines())


def test_days_come_from_the_history(history: Path) -> None:
    found = json.loads(run("capacity", "--per-day", 2, history, "--json").stdout)
    assert (found["span"]["days"], found["span"]["first"]) == (20, "2026-10-01")
    assert found["taken"] <= 40


def test_a_history_without_times_asks_for_days(tmp_path: Path) -> None:
    done = run("capacity", "--per-day", 2, written(tmp_path / "rows.jsonl", answered("a")))
    assert done.exit_code == 2
    assert "--days" in done.stderr


@pytest.mark.parametrize(
    "options", [("--per-day", "nan"), ("--per-day", "-1"), ("--per-day", "inf"), ("--per-day", 1, "--days", 0)]
)
def test_numbers_that_make_no_sense_are_refused(history: Path, options: tuple[object, ...]) -> None:
    done = run("capacity", *options, history)
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_queue_that_is_not_there_is_named(history: Path) -> None:
    done = run("capacity", "--per-day", 2, "--queue", "limbo", history)
    assert done.exit_code == 2
    assert "limbo" in done.stderr


def test_labels_and_what_evaluation_measured_stand_beside(history: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    turn = {"role": "customer", "text": "…", "labels": {"frustration": 2}}
    labels.write_text("".join(json.dumps({"id": f"c-{n}", "turns": [turn]}) + "\n" for n in range(100)))
    metrics = tmp_path / "evaluate.json"
    figure = {"value": 0.36, "low": 0.32, "high": 0.42, "ceiling": 0.38}
    metrics.write_text(json.dumps({"queue": {"recall": {"0.10": figure, "0.90": figure}}}))
    done = run("capacity", "--per-day", 1, "--labels", labels, "--metrics", metrics, history, width=200)
    assert done.exit_code == 0
    assert "measured on 100 labelled conversations, 100 of them hot" in done.stdout
    assert "the first 10 % by the model's order held 36.0 %" in done.stdout


@pytest.mark.parametrize("content", ["{}", "[]", '{"queue": {"recall": {"x": 1}}}', "{", '{"queue": 3}'])
def test_metrics_of_another_kind_are_refused(history: Path, tmp_path: Path, content: str) -> None:
    metrics = tmp_path / "evaluate.json"
    metrics.write_text(content)
    done = run("capacity", "--per-day", 1, "--metrics", metrics, history)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run("check", CONFIGS / "routing.yaml", "--model", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


def test_a_plan_that_cannot_be_kept_says_so_and_offers_no_line(tmp_path: Path) -> None:
    urgent = [answered(f"c{n}", outputs(urgency__critical=1.0)) for n in range(9)]
    done = run("capacity", "--per-day", 3, "--days", 1, written(tmp_path / "rows.jsonl", *urgent))
    assert done.exit_code == 0
    assert "No threshold keeps senior to 3 a day" in done.stdout
    assert "score: " not in done.stdout


def test_a_line_to_copy_stays_one_line(history: Path) -> None:
    done = run("capacity", "--per-day", 3, "--keep-reasons", "--days", 100, history, width=60)
    line = next(line for line in done.stdout.splitlines() if "- {name: senior" in line)
    assert yaml.safe_load(line)[0]["reasons"] == next(q["reasons"] for q in FILE["queues"] if q["name"] == "senior")
