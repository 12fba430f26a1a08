"""Signing in: what opens a session, what ends it, what guessing costs, and what is never shown or kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from serving.review import accounts
from serving.review.accounts import Role, hashed
from serving.review.config import SignInConfig
from serving.review.passwords import Passwords
from serving.review.sessions import (
    Forged,
    Sessions,
    SignedIn,
    SignedOut,
    TooManyAttempts,
    WrongPassword,
    cleared,
)
from serving.security.rates import RateConfig
from serving.store.database import Database, open_database
from serving.store.reader import Reader
from serving.store.schema import sessions as table
from serving.store.writer import Writer
from tests.serving.live.conftest import START, Clock
from tests.serving.review.conftest import run

PASSWORD = "correct horse battery"
FEW = RateConfig(per_second=0.01, burst=3, callers=100)


class Desk:
    """A store with two reviewers, its sessions and a clock."""

    def __init__(self, database: Database, config: SignInConfig | None = None) -> None:
        self.database, self.clock = database, Clock()
        self.reader, self.writer = Reader(database, 2), Writer(database)
        self.writer.start()
        self.sessions = Sessions(self.reader, self.writer, config or SignInConfig(), self.clock)
        with database.writing.begin() as connection:
            for name in ("ada", "grace"):
                accounts.create(connection, name, name.title(), Role.LEAD, hashed(PASSWORD), START, "test")

    def sign_in(self, name: str = "ada", password: str = PASSWORD, before: str | None = None) -> SignedIn:
        return run(self.sessions.sign_in(name, password, "192.0.2.1", before))

    def find(self, cookie: str | None) -> Any:
        return run(self.sessions.find(cookie))

    def change(self, step: Any, *given: Any) -> None:
        with self.database.writing.begin() as connection:
            step(connection, *given, self.clock(), "test")

    def rows(self) -> list[Any]:
        with self.database.reading.begin() as connection:
            return list(connection.execute(table.select()))


@pytest.fixture
def desk(store_url: str) -> Iterator[Desk]:
    database = open_database(store_url)
    yield Desk(database)
    database.close()


@pytest.fixture
def guarded(sqlite_url: str) -> Iterator[Desk]:
    """A desk where three wrong passwords are too many."""
    database = open_database(sqlite_url)
    yield Desk(database, SignInConfig(attempts=FEW, attempts_on=FEW))
    database.close()


def test_a_session_opens_with_the_password_and_by_its_cookie_alone(desk: Desk) -> None:
    signed = desk.sign_in(" Ada ")
    session = desk.find(signed.value)
    assert (session.reviewer.id, session.reviewer.leads, session.csrf) == ("ada", True, signed.session.csrf)
    for other in (None, "", signed.value[:-1], signed.value + "x", "\ud800", "é"):
        with pytest.raises(SignedOut):
            desk.find(other)


def test_what_is_stored_opens_nothing_and_what_is_printed_tells_nothing(desk: Desk) -> None:
    signed = desk.sign_in()
    (row,) = desk.rows()
    assert row.id == hashlib.sha256(signed.value.encode()).hexdigest()
    with pytest.raises(SignedOut):
        desk.find(row.id)
    assert signed.value not in repr(signed)
    with desk.database.reading.begin() as connection:
        account = accounts.find(connection, "ada")
        stored = repr(connection.execute(text("SELECT * FROM reviewers")).all())
    assert PASSWORD not in stored
    assert "$argon2id$" in stored
    assert "argon2" not in repr(account)


def test_the_cookie_is_for_this_site_and_no_script(desk: Desk) -> None:
    signed = desk.sign_in()
    assert signed.cookie(secure=True) == (
        f"simmer_desk={signed.value}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
    )
    assert "Secure" not in signed.cookie(secure=False)
    assert cleared(secure=True).startswith("simmer_desk=; Path=/; Max-Age=0")


def test_a_form_is_taken_with_its_sessions_token_alone(desk: Desk) -> None:
    session = desk.sign_in().session
    session.check(session.csrf)
    other = desk.sign_in("grace").session
    for token in (None, "", other.csrf, session.csrf[:-1], "ü", "\ud800"):
        with pytest.raises(Forged):
            session.check(token)


def test_signing_in_again_ends_the_session_before(desk: Desk) -> None:
    first = desk.sign_in()
    second = desk.sign_in(before=first.value)
    assert second.value != first.value
    assert second.session.csrf != first.session.csrf
    with pytest.raises(SignedOut):
        desk.find(first.value)
    assert desk.find(second.value)


def test_signing_out_ends_a_session_for_good(desk: Desk) -> None:
    signed = desk.sign_in()
    for _ in range(2):
        run(desk.sessions.sign_out(signed.value))
    run(desk.sessions.sign_out(None))
    with pytest.raises(SignedOut):
        desk.find(signed.value)
    assert desk.rows() == []


def test_a_session_that_is_not_used_ends(desk: Desk) -> None:
    signed = desk.sign_in()
    desk.clock.move(minutes=59)
    assert desk.find(signed.value)  # and lives on
    desk.clock.move(minutes=59)
    assert desk.find(signed.value)
    desk.clock.move(minutes=61)
    with pytest.raises(SignedOut):
        desk.find(signed.value)


def test_a_session_ends_in_the_end_however_much_it_is_used(desk: Desk) -> None:
    signed = desk.sign_in()
    for _ in range(23):
        desk.clock.move(minutes=31)
        session = desk.find(signed.value)
    assert session.expires_at == START + timedelta(hours=12)
    desk.clock.move(minutes=31)
    with pytest.raises(SignedOut):
        desk.find(signed.value)


@pytest.mark.parametrize("how", ["disabled", "another password"])
def test_what_happens_to_an_account_happens_to_its_sessions(desk: Desk, how: str) -> None:
    signed, others = desk.sign_in(), desk.sign_in("grace")
    if how == "disabled":
        desk.change(accounts.disable, "ada")
    else:
        desk.change(accounts.change_password, "ada", hashed("another password"))
    with pytest.raises(SignedOut):
        desk.find(signed.value)
    with pytest.raises(WrongPassword):
        desk.sign_in()
    assert desk.find(others.value)


def test_a_wrong_password_and_a_wrong_name_are_told_alike(desk: Desk) -> None:
    for name, password in (("ada", "wrong"), ("ada", ""), ("nobody", PASSWORD), ("", ""), ("ada\x00", PASSWORD)):
        with pytest.raises(WrongPassword) as told:
            desk.sign_in(name, password)
        assert str(told.value) == ""
    with pytest.raises(WrongPassword):
        desk.sign_in("ada", PASSWORD + "x" * 100_000)


def test_wrong_passwords_of_one_address_run_out(guarded: Desk) -> None:
    for name in ("a", "b", "c"):
        with pytest.raises(WrongPassword):
            guarded.sign_in(name, "wrong")
    with pytest.raises(TooManyAttempts) as told:
        guarded.sign_in("ada", PASSWORD)
    assert told.value.wait > 1
    assert run(guarded.sessions.sign_in("ada", PASSWORD, "198.51.100.7"))


def test_wrong_passwords_for_one_name_run_out_from_anywhere(guarded: Desk) -> None:
    for number in range(3):
        with pytest.raises(WrongPassword):
            run(guarded.sessions.sign_in("ada", "wrong", f"198.51.100.{number}"))
    with pytest.raises(TooManyAttempts):
        run(guarded.sessions.sign_in("ada", PASSWORD, "198.51.100.9"))
    assert run(guarded.sessions.sign_in("grace", PASSWORD, "198.51.100.9"))


def test_right_passwords_use_up_nothing(guarded: Desk) -> None:
    for _ in range(8):
        guarded.sign_in()


def test_only_so_many_passwords_are_looked_at_together() -> None:
    async def flood() -> list[Any]:
        passwords = Passwords(SignInConfig(threads=1, waiting=2))
        tries = (passwords.check(None, f"n{n}", "wrong", f"198.51.100.{n}") for n in range(5))
        return await asyncio.gather(*tries, return_exceptions=True)

    kinds = [type(found).__name__ for found in asyncio.run(flood())]
    assert kinds == ["WrongPassword"] * 2 + ["TooManyAttempts"] * 3


def test_a_password_changed_while_it_was_looked_at_opens_nothing(guarded: Desk, monkeypatch: Any) -> None:
    check = guarded.sessions._passwords.check

    async def slow(*given: Any) -> Any:
        found = await check(*given)
        await asyncio.to_thread(guarded.change, accounts.change_password, "ada", "x")
        return found

    monkeypatch.setattr(guarded.sessions._passwords, "check", slow)
    with pytest.raises(WrongPassword):
        guarded.sign_in()
    assert guarded.rows() == []


def test_signing_in_and_out_is_audited(guarded: Desk) -> None:
    from serving.store.audit import history

    run(guarded.sessions.sign_out(guarded.sign_in().value))
    with guarded.database.reading.begin() as connection:
        assert [one.action for one in history(connection, "reviewer ada")] == [
            "reviewer_added",
            "signed_in",
            "signed_out",
        ]
