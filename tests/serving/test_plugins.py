"""Commands that other packages add to `simmer`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.cli import app

CODE = """
import typer
from typing import Annotated

many = typer.Typer(help="Several commands.")

def greet(name: str, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
    "Say hello."
    print(name.upper() if loud else name)
    raise typer.Exit(3)

@many.command()
def one() -> None:
    print("one of many")

@many.command()
def two() -> None:
    print("two of many")
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds commands, one of which cannot be loaded and one of which has a name that is taken."""
    (tmp_path / "added_commands.py").write_text(CODE, encoding="utf-8")
    about = tmp_path / "added-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n", encoding="utf-8")
    points = {
        "greet": "added_commands:greet",
        "many": "added_commands:many",
        "score": "added_commands:greet",
        "broken": "added_commands:nothing",
    }
    told = "".join(f"{name} = {value}\n" for name, value in points.items())
    (about / "entry_points.txt").write_text(f"[simmer.commands]\n{told}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_an_added_function_is_a_command_with_its_arguments() -> None:
    assert run("greet", "hello", "--loud") == (3, "HELLO\n")
    assert "Say hello." in run("greet", "--help")[1]


def test_an_added_application_brings_its_commands() -> None:
    assert run("many", "two") == (0, "two of many\n")


def test_the_help_names_them_beside_the_own() -> None:
    status, told = run("--help")
    assert status == 0
    assert [name for name in ("score", "serve", "greet", "many", "broken") if name not in told] == []
    assert "Say hello." in told


def test_one_that_cannot_be_loaded_says_so_and_harms_no_other() -> None:
    status, told = run("broken")
    assert status == 2
    assert "error: simmer broken cannot be loaded from added_commands:nothing" in told
    assert "Traceback" not in told


def test_a_name_that_is_taken_stays_the_own() -> None:
    assert "Score conversations" in run("score", "--help")[1]


def test_an_unknown_command_is_still_unknown() -> None:
    status, told = run("nonsense")
    assert status == 2
    assert "nonsense" in told
