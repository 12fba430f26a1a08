"""Store URLs: what is wrong is said in one line, and never with a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.store.faults import StoreRefused
from serving.store.urls import parse, shown


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///x.db", "sqlite+pysqlite"),
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
    ],
)
def test_what_is_a_store(given: str, driver: str) -> None:
    assert parse(given).drivername == driver


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("", "try sqlite:///"),
        ("simmer.db", "try sqlite:///"),
        ("mysql://u:sesame@h/d", "mysql is not supported"),
        ("postgresql+asyncpg://u:sesame@h/d", "not supported"),
        ("postgresql://u:sesame@h:port/d", "not a database URL"),
        ("postgresql://u:ses@me-sesame@h/d", "%40"),
        ("postgresql://u:sesame@h", "names no database"),
        ("postgresql://u:sesame@h/", "names no database"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "no options"),
        ("sqlite:///x.db?foo=sesame", "no options"),
        ("sqlite://x.db", "sqlite:///x.db"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(given: str, hint: str) -> None:
    with pytest.raises(StoreRefused) as caught:
        parse(given)
    assert hint in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_home_folder_is_found() -> None:
    assert parse("sqlite:///~/x.db").database == str(Path.home() / "x.db")


def test_what_is_shown_hides_passwords_wherever_they_stand() -> None:
    told = shown(parse("postgresql://u:sesame@h/d?password=sesame&application_name=x"))
    assert told == "postgresql+psycopg://u:***@h/d"


@given(st.text())
def test_no_text_at_all_raises_anything_else(text: str) -> None:
    try:
        parse(text)
    except StoreRefused as error:
        assert "\n" not in str(error)  # noqa: PT017
