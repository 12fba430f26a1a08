"""`simmer reviewers`: who may sign in to the desk. `simmer reviews export`: what they said, as a corpus.

A password is asked for twice and not shown, or read from standard input's first line where it is no terminal.

Exit status: 0 done, 2 not done.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import InputError
from pipeline.vocabulary import load_vocabulary
from serving.review import accounts
from serving.review.accounts import Role, hashed
from serving.review.export import export
from serving.store.database import open_database
from serving.store.faults import StoreUnavailable, reason
from serving.store.option import StoreOption
from serving.terminal import stop

reviewers_app = typer.Typer(name="reviewers", help="Who reviews: make, list, disable, password.", no_args_is_help=True)
reviews_app = typer.Typer(name="reviews", help="What reviewers said: export.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What they sign in with: a-z, 0-9, dot, dash, underscore.")]


@reviewers_app.command()
def create(
    store: StoreOption,
    name: Name,
    role: Annotated[Role, typer.Option("--role", help="A lead also settles disputes; an admin any of them.")],
    shown: Annotated[str, typer.Option("--name", help="What the desk calls them; by default NAME.")] = "",
) -> None:
    """Make an account; in a store that is not there yet, the store too."""
    with _stopping():
        hash = hashed(_password())
        with _transaction(store, existing=False) as connection:
            accounts.create(connection, name, shown, role, hash, datetime.now(UTC), _actor())
    typer.echo(f"{name} may sign in as {role}", err=True)


@reviewers_app.command(name="list")
def list_reviewers(store: StoreOption) -> None:
    """Show every account."""
    with _stopping(), _transaction(store) as connection:
        found = accounts.listing(connection)
    table = Table("reviewer", "name", "role", "made", "state")
    for one in found:
        state = "may sign in" if one.disabled_at is None else f"disabled {one.disabled_at:%Y-%m-%d}"
        table.add_row(one.id, escape(one.name), one.role, f"{one.created_at:%Y-%m-%d}", state)
    Console().print(table)


@reviewers_app.command()
def disable(store: StoreOption, name: Name) -> None:
    """End an account and its sessions; what they said stays."""
    with _stopping(), _transaction(store) as connection:
        accounts.disable(connection, name, datetime.now(UTC), _actor())


@reviewers_app.command()
def password(store: StoreOption, name: Name) -> None:
    """Give an account another password; its sessions end."""
    with _stopping():
        hash = hashed(_password())
        with _transaction(store) as connection:
            accounts.change_password(connection, name, hash, datetime.now(UTC), _actor())


@reviews_app.callback()
def _reviews() -> None:
    """What reviewers said."""


@reviews_app.command(name="export")
def export_command(
    store: StoreOption,
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.jsonl", help="Such as data/reviews/all.jsonl.")
    ],
) -> None:
    """Write what reviewers agree on, or somebody settled, as a corpus to train on."""
    with _stopping(), _reading(store) as connection:
        try:
            done = export(connection, target, load_vocabulary())
        except OSError as error:
            stop(f"{target}: {error.strerror}")
    left = f", {done.disputed} with something to settle" if done.disputed else ""
    gone = f", {done.erased} erased since" if done.erased else ""
    typer.echo(f"{done.conversations} conversations, {done.labelled} messages with labels{left}{gone}", err=True)


@contextmanager
def _stopping() -> Iterator[None]:
    """What goes wrong ends the command, saying why."""
    try:
        yield
    except (InputError, StoreUnavailable) as error:
        stop(str(error))
    except SQLAlchemyError as error:
        stop(reason(error))


@contextmanager
def _transaction(url: str, existing: bool = True) -> Iterator[Connection]:
    database = open_database(url, existing)
    try:
        with database.writing.begin() as connection:
            yield connection
    finally:
        database.close()


@contextmanager
def _reading(url: str) -> Iterator[Connection]:
    database = open_database(url, existing=True)
    try:
        with database.reading.begin() as connection:
            yield connection
    finally:
        database.close()


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    typed: str = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    return typed


def _actor() -> str:
    """Who runs the command, as the audit log names them."""
    try:
        return f"command line ({getpass.getuser()})"
    except (KeyError, OSError):  # nobody's account: a container
        return "command line"
