"""`simmer keys`: make, list, rotate and revoke API keys in the store.

A key's text goes to standard output, once and alone; what there is to read beside it goes to standard error.

Exit status: 0 done, 2 not done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipeline.errors import InputError
from serving.security import keys
from serving.security.keys import Key, KeyInvalid, Scope
from serving.store.database import open_database
from serving.store.faults import StoreUnavailable, reason
from serving.store.option import StoreOption
from serving.terminal import stop

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,4})([smhdw])", re.A)  # no longer than dates go

app = typer.Typer(name="keys", help="API keys: make, list, rotate, revoke.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The twelve characters after simmer_.")]


@app.command()
def create(
    store: StoreOption,
    name: Annotated[str, typer.Option("--name", help="Who or what the key is for.")],
    scopes: Annotated[list[Scope], typer.Option("--scope", help="What it may do; once a scope. admin may do all.")],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="90d, 12h, or a date; by default never.")
    ] = None,
) -> None:
    """Make a key and print it, the only time it can be read."""
    now = datetime.now(UTC)
    with _transaction(store, existing=False) as connection:
        text, key = keys.create(connection, name, scopes, _moment(expires, now) if expires else None, now)
    _print_once(text, key)


@app.command(name="list")
def list_keys(store: StoreOption) -> None:
    """Show every key, without its secret."""
    with _transaction(store) as connection:
        found = keys.listing(connection)
    Console().print(_table(found, datetime.now(UTC)))


@app.command()
def rotate(
    store: StoreOption,
    key_id: KeyId,
    grace: Annotated[str, typer.Option("--grace", help="How long the secret before stays good: 30m, 1h, 0s.")] = "1h",
) -> None:
    """Give a key a new secret and print it, the only time it can be read."""
    with _transaction(store) as connection:
        text, key = keys.rotate(connection, key_id, _duration(grace), datetime.now(UTC))
    _print_once(text, key)


@app.command()
def revoke(store: StoreOption, key_id: KeyId) -> None:
    """End a key for good. A running server may still take it for the half minute in which it trusts what it knows."""
    with _transaction(store) as connection:
        key = keys.revoke(connection, key_id, datetime.now(UTC))
    Console(stderr=True).print(_table([key], datetime.now(UTC)))


@contextmanager
def _transaction(url: str, existing: bool = True) -> Iterator[sa.Connection]:
    """A transaction in the store, which must be there unless `existing` is false. What goes wrong ends the command."""
    try:
        database = open_database(url, existing)
        try:
            with database.writing.begin() as connection:
                yield connection
        finally:
            database.close()
    except (InputError, StoreUnavailable) as error:
        stop(str(error))
    except sa.exc.SQLAlchemyError as error:
        stop(reason(error))


def _print_once(text: str, key: Key) -> None:
    Console(stderr=True).print(_table([key], datetime.now(UTC)))
    typer.echo(text)


def _table(found: list[Key], now: datetime) -> Table:
    table = Table(Column("id", no_wrap=True), "name", "scopes", "created", "expires", "rotated", "state")
    for key in found:
        scopes = " ".join(scope for scope in Scope if scope in key.scopes)
        times = (_shown(key.created_at), _shown(key.expires_at), _shown(key.rotated_at))
        table.add_row(key.id, escape(key.name), scopes, *times, _state(key, now))
    return table


def _state(key: Key, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {_shown(key.revoked_at)}"
    return "live" if key.live(now) else "expired"


def _shown(time: datetime | None) -> str:
    return "-" if time is None else time.strftime("%Y-%m-%d %H:%M")


def _moment(text: str, now: datetime) -> datetime:
    """A time that many days or hours from now, or as ISO 8601 writes it, UTC where it names no zone."""
    if _DURATION.fullmatch(text):
        return now + _duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise KeyInvalid(f"{text!r} is neither a duration, such as 90d, nor a date, such as 2030-01-31") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if not match:
        raise KeyInvalid(f"{text!r} is no duration; write 30m, 1h or 90d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
