"""`simmer keys`: the key alone on standard output, once; all else can be read and nothing is half done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.security import keys
from serving.security.cli import app
from serving.security.keys import Key
from serving.store.database import open_database

Keys = Callable[..., Result]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store without keys. Not to be changed."""
    file = tmp_path_factory.mktemp("empty") / "store.db"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def url(empty: Path, tmp_path: Path) -> str:
    """A store without keys."""
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


@pytest.fixture
def simmer(url: str) -> Keys:
    """Runs `simmer keys` on the store."""

    def run(command: str, *arguments: str, store: str = url) -> Result:
        return CliRunner().invoke(app, [command, *arguments, "--store", store], env={"COLUMNS": "160"})

    return run


def stored(url: str) -> list[Key]:
    database = open_database(url)
    with database.reading.connect() as connection:
        found = keys.listing(connection)
    database.close()
    return found


def test_create_prints_the_key_alone_and_once(simmer: Keys, url: str) -> None:
    made = simmer("create", "--name", "router", "--scope", "score", "--scope", "read", "--expires", "90d")
    assert made.exit_code == 0
    (text,) = made.stdout.splitlines()
    key_id, secret = keys.parse(text) or ("", "")
    assert secret
    assert secret not in made.stderr
    assert key_id in made.stderr
    (key,) = stored(url)
    assert (key.id, key.name, sorted(key.scopes)) == (key_id, "router", ["read", "score"])
    assert key.expires_at is not None
    assert timedelta(days=89) < key.expires_at - datetime.now(UTC) < timedelta(days=91)
    assert secret not in simmer("list").output


def test_list_shows_every_key_and_its_state(simmer: Keys) -> None:
    ids = []
    for name in ("one", "[bold]two[/]"):
        ids.append((keys.parse(simmer("create", "--name", name, "--scope", "admin").stdout.strip()) or ("", ""))[0])
    assert simmer("revoke", ids[1]).exit_code == 0
    shown = simmer("list")
    first, second = [line for line in shown.stdout.splitlines() if any(key_id in line for key_id in ids)]
    assert "live" in first
    assert "revoked" in second
    assert "[bold]two[/]" in second
    assert shown.stderr == ""


def test_rotate_gives_a_new_secret_to_the_same_key(simmer: Keys, url: str) -> None:
    old = simmer("create", "--name", "x", "--scope", "read").stdout.strip()
    key_id = (keys.parse(old) or ("", ""))[0]
    rotated = simmer("rotate", key_id, "--grace", "30m")
    assert rotated.exit_code == 0
    assert keys.parse(rotated.stdout.strip()) != keys.parse(old)
    (key,) = stored(url)
    assert key.rotated_at is not None
    assert key.previous_until == key.rotated_at + timedelta(minutes=30)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rotate", "a" * 12], "no key"),
        (["rotate", "a" * 12, "--grace", "soon"], "no duration"),
        (["rotate", "a" * 12, "--grace", "-1h"], "no duration"),
        (["revoke", "[red]x[/]"], "[red]x[/]"),
        (["create", "--name", " ", "--scope", "read"], "name"),
        (["create", "--name", "x", "--scope", "read", "--expires", "never"], "neither"),
        (["create", "--name", "x", "--scope", "read", "--expires", "2020-01-31"], "expire"),
        (["create", "--name", "x", "--scope", "read", "--expires", "99999w"], "neither"),
    ],
)
def test_what_cannot_be_done_is_said_and_not_done(simmer: Keys, url: str, arguments: list[str], says: str) -> None:
    done = simmer(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert stored(url) == []


def test_a_scope_that_is_none_is_refused(simmer: Keys) -> None:
    assert simmer("create", "--name", "x", "--scope", "root").exit_code == 2
    assert simmer("create", "--name", "x").exit_code == 2


def test_a_store_that_cannot_be_used_is_said_without_its_password(simmer: Keys, tmp_path: Path) -> None:
    for store in ("nonsense", f"sqlite:///{tmp_path}/none/store.db", "postgresql+psycopg://u:hunter2@127.0.0.1:1/x"):
        done = simmer("list", store=store)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert "hunter2" not in done.output


def test_the_first_key_may_make_the_store_and_no_other_command_does(simmer: Keys, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'new.db'}"
    assert simmer("list", store=store).exit_code == 2
    assert not (tmp_path / "new.db").exists()
    assert simmer("create", "--name", "x", "--scope", "admin", store=store).exit_code == 0
    assert len(stored(store)) == 1


def test_a_date_is_in_utc_where_it_names_no_zone(simmer: Keys, url: str) -> None:
    simmer("create", "--name", "a", "--scope", "read", "--expires", "2999-01-31")
    simmer("create", "--name", "b", "--scope", "read", "--expires", "2999-01-31T02:00+02:00")
    assert {key.expires_at for key in stored(url)} == {datetime(2999, 1, 31, tzinfo=UTC)}
