"""Migrations: they make what the schema says, whoever runs them and however many do at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from serving.store.database import Database, open_database
from serving.store.faults import StoreRefused
from serving.store.migrating import MIGRATIONS, VERSION, migrate, version
from serving.store.schema import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that has no tables yet; the file of SQLite is not even there."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'simmer.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def new(new_url: str) -> Iterator[Database]:
    database = open_database(new_url)
    yield database
    database.close()


def test_the_tables_are_those_of_the_schema(new: Database) -> None:
    with new.reading.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_version_is_that_of_the_newest_migration(new: Database) -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert VERSION == scripts.get_current_head() == version(new.reading)


def test_migrating_again_changes_nothing(new: Database) -> None:
    migrate(new.writing)
    assert version(new.reading) == VERSION


def test_every_migration_can_be_taken_back(new: Database) -> None:
    from alembic import command

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with new.writing.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        command.upgrade(config, "head")
    assert version(new.reading) == VERSION


def test_a_store_of_a_newer_version_is_refused(new: Database, new_url: str) -> None:
    with new.writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreRefused, match="newer version of Simmer"):
        open_database(new_url)


def test_processes_that_open_a_new_store_at_once_all_get_it(new_url: str) -> None:
    code = "import sys; from serving.store.database import open_database; open_database(sys.argv[1]).close()"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, new_url], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
