"""`simmer drift` as a person meets it: figures, JSON and a page from a store or from files, and one line where not."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pipeline.bundle import load_bundle
from pipeline.conversation import Conversation, Turn, write_conversations
from serving.cli import app
from serving.policy import load_policy
from serving.scorer import Scorer, last_turn
from tests.serving.drift.referenced import sentence
from tests.serving.drift.test_live import keep, open_database

COUNT = 260
START = datetime(2026, 3, 1, tzinfo=UTC)


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, ["drift", *map(str, arguments)], env={"COLUMNS": "100", **environment})


@pytest.fixture(scope="module")
def scorer_of_toy(referenced: Path) -> Scorer:
    bundle = load_bundle(referenced)
    return Scorer(bundle, load_policy(bundle.card.labels))


def files(folder: Path, scorer: Scorer, hot: float, count: int = COUNT) -> tuple[Path, Path]:
    """What was asked and what was answered, a message every hour."""
    rng = np.random.default_rng(11)
    talks = [
        Conversation(
            id=f"c{n}",
            turns=(Turn(role="customer", text=sentence(rng, hot), at=START + timedelta(hours=n)),),
        )
        for n in range(count)
    ]
    write_conversations(folder / "in.jsonl", talks)
    answers = scorer.score([job for one in talks for job in last_turn(one)])
    (folder / "out.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in answers))
    return folder / "out.jsonl", folder / "in.jsonl"


def test_traffic_that_hears_as_in_training(tmp_path: Path, referenced: Path, scorer_of_toy: Scorer) -> None:
    answers, talks = files(tmp_path, scorer_of_toy, hot=0.1)
    done = run("--answers", answers, "--conversations", talks, "--model", referenced)
    assert done.exit_code == 0, done.output
    assert "nothing to do" in done.stdout
    assert "frustration" in done.stdout


def test_angrier_traffic_as_json_and_as_a_page(tmp_path: Path, referenced: Path, scorer_of_toy: Scorer) -> None:
    answers, talks = files(tmp_path, scorer_of_toy, hot=0.9)
    page = tmp_path / "drift.html"
    done = run("--answers", answers, "--conversations", talks, "--model", referenced, "--json", "-o", page)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["verdict"]["says"] in ("look", "retrain")
    assert any("frustration" in reason for reason in found["verdict"]["reasons"])
    told = page.read_text(encoding="utf-8")
    assert "<script" not in told
    assert not re.search(r"(?:src|href)=\"(?!#)", told)
    assert not re.search(r"\bparcel\b|\bfurious\b|\bc17\b", told + done.stdout)
    assert told.count("<svg") == len(found["features"]) - 1  # single words are not shown


def test_windows_by_time(tmp_path: Path, referenced: Path, scorer_of_toy: Scorer) -> None:
    answers, talks = files(tmp_path, scorer_of_toy, hot=0.1)
    done = run("--answers", answers, "--conversations", talks, "--model", referenced, "--since", "120h", "--json")
    found = json.loads(done.stdout)
    assert (found["window"]["messages"], found["before"]["messages"]) == (120, 120)
    assert found["verdict"]["says"] == "too_few"


def test_a_store(tmp_path: Path, referenced: Path) -> None:
    url = f"sqlite:///{tmp_path}/simmer.db"
    store = open_database(url)
    keep(store, "a", datetime.now(UTC) - timedelta(hours=1), ["late"])
    store.close()
    done = run("--store", url, "--model", referenced, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["window"]["messages"] == 1
    assert run("--model", referenced, SIMMER_STORE=url).exit_code == 0


def test_rows_that_cannot_be_read_are_named_and_the_others_counted(
    tmp_path: Path, referenced: Path, scorer_of_toy: Scorer
) -> None:
    answers, talks = files(tmp_path, scorer_of_toy, hot=0.1, count=5)
    answers.write_text(answers.read_text() + '{"id": "x"}\nno json\n')
    talks.write_text("".join(talks.read_text().splitlines(keepends=True)[1:]))
    done = run("--answers", answers, "--conversations", talks, "--model", referenced, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["window"]["messages"] == 4
    assert "line 6" in done.stderr
    assert "1 answers without a customer's message" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "soon"], "write 90m"),
        (["--since", "0d"], "write 90m"),
        (["--since", "9999999999w"], "write 90m"),
        (["--answers", "out.jsonl"], "go together"),
        (["--store", "sqlite:///nowhere/simmer.db"], "there is no such store"),
        (["--answers", "nowhere.jsonl", "--conversations", "nowhere.jsonl"], "No such file"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_status_2(referenced: Path, arguments: list[str], says: str) -> None:
    done = run("--model", referenced, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bundle_without_a_reference(toy: Path, tmp_path: Path) -> None:
    done = run("--model", toy)
    assert done.exit_code == 2
    assert "export it again" in done.stderr
    assert run("--model", tmp_path).exit_code == 2


def test_answers_that_belong_to_no_conversation(tmp_path: Path, referenced: Path, scorer_of_toy: Scorer) -> None:
    answers, talks = files(tmp_path, scorer_of_toy, hot=0.1, count=3)
    talks.write_text("")
    done = run("--answers", answers, "--conversations", talks, "--model", referenced)
    assert done.exit_code == 2
    assert "no answer belongs to a conversation" in done.stderr
