"""An open store on each database in turn, and secrets in the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.events.places import SECRETS, Store, open_store


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with a writer and a reader, empty."""
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    """The same on SQLite alone, where the database makes no difference."""
    opened = open_store(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What signs, where the configuration of the tests says."""
    for name, text in SECRETS.items():
        monkeypatch.setenv(name, text)
