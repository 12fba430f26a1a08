"""API keys: what is stored opens nothing, and a key ends when it is said to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from serving.security import keys
from serving.security.keys import IMPLIED, LOOPBACK, KeyInvalid, Principal, Scope, ScopeMissing
from serving.store.schema import metadata

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def opened(connection: sa.Connection, text: str, now: datetime) -> bool:
    """Whether a key's text matches what the store has, the slow and plain way."""
    key_id, secret = keys.parse(text) or ("", "")
    found = keys.find(connection, key_id)
    return found is not None and any(matches(hashed, secret) for hashed in found.hashes(now))


def matches(hashed: str, secret: str) -> bool:
    try:
        return keys.hasher().verify(hashed, secret)
    except Exception:
        return False


def test_a_key_is_shown_once_and_kept_as_a_hash(connection: sa.Connection) -> None:
    text, key = keys.create(connection, "router", [Scope.SCORE], None, NOW)
    key_id, secret = keys.parse(text) or ("", "")
    assert text == f"simmer_{key_id}_{secret}"
    assert (key.id, len(key_id), len(secret)) == (key_id, 12, 43)
    (row,) = connection.execute(sa.text("SELECT * FROM api_keys"))
    assert secret not in repr(row)
    assert "$argon2id$" in repr(row)
    assert "argon2" not in repr(keys.find(connection, key_id))
    assert opened(connection, text, NOW)


def test_a_key_comes_back_as_it_was_made(connection: sa.Connection) -> None:
    elsewhere = datetime(2027, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    _, made = keys.create(connection, "Büro 3", [Scope.READ, Scope.SCORE], elsewhere, NOW)
    (found,) = keys.listing(connection)
    assert found == made
    assert found.expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    assert found.created_at.utcoffset() == timedelta()


def test_a_time_without_a_zone_is_not_stored(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.StatementError):
        keys.create(connection, "x", [Scope.READ], None, NOW.replace(tzinfo=None))


def test_an_expired_key_opens_nothing(connection: sa.Connection) -> None:
    text, _ = keys.create(connection, "x", [Scope.READ], NOW + HOUR, NOW)
    assert opened(connection, text, NOW + HOUR - timedelta(seconds=1))
    assert not opened(connection, text, NOW + HOUR)


def test_rotation_keeps_the_old_secret_for_its_grace(connection: sa.Connection) -> None:
    old, key = keys.create(connection, "x", [Scope.READ], None, NOW)
    new, rotated = keys.rotate(connection, key.id, HOUR, NOW)
    assert rotated.id == key.id
    assert rotated.rotated_at == NOW
    assert opened(connection, new, NOW)
    assert opened(connection, old, NOW + HOUR - timedelta(seconds=1))
    assert not opened(connection, old, NOW + HOUR)
    assert opened(connection, new, NOW + HOUR)


def test_a_second_rotation_ends_the_oldest_secret(connection: sa.Connection) -> None:
    first, key = keys.create(connection, "x", [Scope.READ], None, NOW)
    second, _ = keys.rotate(connection, key.id, HOUR, NOW)
    third, _ = keys.rotate(connection, key.id, HOUR, NOW)
    assert [opened(connection, text, NOW) for text in (first, second, third)] == [False, True, True]


def test_no_grace_ends_the_old_secret_at_once(connection: sa.Connection) -> None:
    old, key = keys.create(connection, "x", [Scope.READ], None, NOW)
    keys.rotate(connection, key.id, timedelta(), NOW)
    assert not opened(connection, old, NOW)


def test_revoking_ends_both_secrets_and_stays_at_the_first_time(connection: sa.Connection) -> None:
    old, key = keys.create(connection, "x", [Scope.READ], None, NOW)
    new, _ = keys.rotate(connection, key.id, HOUR, NOW)
    keys.revoke(connection, key.id, NOW)
    assert keys.revoke(connection, key.id, NOW + HOUR).revoked_at == NOW
    assert not opened(connection, old, NOW)
    assert not opened(connection, new, NOW)
    with pytest.raises(KeyInvalid, match="revoked"):
        keys.rotate(connection, key.id, HOUR, NOW)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\x1b[31mb", "a\u202eb"])
def test_a_name_is_short_and_plain(connection: sa.Connection, name: str) -> None:
    with pytest.raises(KeyInvalid):
        keys.create(connection, name, [Scope.READ], None, NOW)


def test_what_cannot_be_is_refused(connection: sa.Connection) -> None:
    with pytest.raises(KeyInvalid, match="scope"):
        keys.create(connection, "x", [], None, NOW)
    with pytest.raises(KeyInvalid, match="expire"):
        keys.create(connection, "x", [Scope.READ], NOW, NOW)
    with pytest.raises(KeyInvalid, match="no key"):
        keys.revoke(connection, "a" * 12, NOW)
    with pytest.raises(KeyInvalid, match="negative"):
        keys.rotate(connection, "a" * 12, -HOUR, NOW)
    assert keys.find(connection, "'; DROP TABLE api_keys; --") is None
    assert keys.listing(connection) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "simmer_",
        "Bearer x",
        f"simmer_{'a' * 12}_{'b' * 42}",
        f"simmer_{'A' * 12}_{'b' * 43}",
        f"simmer_{'a' * 12}_{'b' * 43}\n",
        f"simmer_{'a' * 12}_{'é' * 43}",
        f" simmer_{'a' * 12}_{'b' * 43}",
    ],
)
def test_what_is_no_key_is_seen_at_once(text: str) -> None:
    assert keys.parse(text) is None


def test_admin_may_do_all_and_the_others_what_they_say() -> None:
    assert IMPLIED.keys() == set(Scope)
    for held in Scope:
        caller = Principal("id", "name", frozenset({held}))
        may = {scope for scope in Scope if caller.may(scope)}
        assert may == (set(Scope) if held is Scope.ADMIN else {held})
    LOOPBACK.needs(Scope.ADMIN)
    with pytest.raises(ScopeMissing, match="review"):
        Principal("id", "name", frozenset({Scope.READ, Scope.SCORE})).needs(Scope.REVIEW)


@pytest.mark.parametrize(
    ("host", "only"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("127.1", False),
        ("localhost.evil.example", False),
        ("simmer", False),
    ],
)
def test_keys_may_be_off_on_loopback_alone(host: str, only: bool) -> None:
    assert keys.loopback_only(host) is only
