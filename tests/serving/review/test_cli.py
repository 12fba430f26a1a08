"""`simmer reviewers` and `simmer reviews`, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving.cli import app
from serving.review import accounts
from serving.store.audit import history, verify
from serving.store.database import open_database

PASSWORD = "correct horse battery"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/desk.db"


def simmer(*given: str, typed: str = PASSWORD + "\n") -> Any:
    return CliRunner().invoke(app, list(given), input=typed)


def made(store: str, name: str = "ada", role: str = "admin", **more: Any) -> Any:
    return simmer("reviewers", "create", name, "--role", role, "--store", store, **more)


def test_the_first_reviewer_makes_the_store(store: str) -> None:
    done = made(store)
    assert (done.exit_code, done.stderr) == (0, "ada may sign in as admin\n")
    assert PASSWORD not in done.output
    made(store, "grace", "reviewer")
    listed = simmer("reviewers", "list", "--store", store).output
    assert "ada" in listed
    assert "reviewer" in listed


def test_what_is_done_to_accounts_is_audited_without_passwords(store: str) -> None:
    made(store)
    assert simmer("reviewers", "password", "ada", "--store", store, typed="another password!\n").exit_code == 0
    for _ in range(2):
        assert simmer("reviewers", "disable", "ada", "--store", store).exit_code == 0
    database = open_database(store)
    with database.reading.begin() as connection:
        done = history(connection, "reviewer ada")
        assert verify(connection).broken is None
        found = accounts.find(connection, "ada")
    database.close()
    assert [one.action for one in done] == ["reviewer_added", "reviewer_password_changed", "reviewer_disabled"]
    assert done[0].actor.startswith("command line")
    assert PASSWORD not in repr(done)
    assert found is not None
    assert found.reviewer.disabled_at is not None


@pytest.mark.parametrize(
    ("name", "typed", "why"),
    [
        ("ada", PASSWORD, "there is a reviewer ada already"),
        ("bob", "short", "a password has 12 to 1,000 characters"),
        ("bob", "", "a password has 12 to 1,000 characters"),
        ("bob", "x" * 1001, "a password has 12 to 1,000 characters"),
        ("Bob", PASSWORD, "a reviewer's id is"),
        ("../x", PASSWORD, "a reviewer's id is"),
        ("", PASSWORD, "a reviewer's id is"),
    ],
)
def test_an_account_that_cannot_be_is_refused(store: str, name: str, typed: str, why: str) -> None:
    made(store)
    done = made(store, name, typed=typed + "\n")
    assert done.exit_code == 2
    assert why in done.stderr


@pytest.mark.parametrize("command", [["disable", "bob"], ["password", "bob"]])
def test_nobodys_account_is_not_changed(store: str, command: list[str]) -> None:
    made(store)
    done = simmer("reviewers", *command, "--store", store)
    assert (done.exit_code, "no reviewer 'bob'" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", [["reviewers", "list"], ["reviews", "export", "-o", "x.jsonl"]])
def test_only_making_a_reviewer_makes_a_store(store: str, tmp_path: Path, command: list[str]) -> None:
    done = simmer(*command, "--store", store)
    assert (done.exit_code, "there is no such store" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_nothing_is_an_empty_corpus(store: str, tmp_path: Path) -> None:
    made(store)
    target = tmp_path / "out.jsonl"
    done = simmer("reviews", "export", "--store", store, "-o", str(target))
    assert (done.exit_code, done.stderr) == (0, "0 conversations, 0 messages with labels\n")
    assert target.read_bytes() == b""


def test_an_export_that_cannot_be_written_says_where(store: str, tmp_path: Path) -> None:
    made(store)
    done = simmer("reviews", "export", "--store", store, "-o", str(tmp_path / "no" / "out.jsonl"))
    assert done.exit_code == 2
    assert "out.jsonl: No such file or directory" in done.stderr
    assert ".part" not in done.stderr
