"""`simmer audit`: whether the audit log is as it was written.

Exit status: 0 the chain is whole, 1 it is broken, 2 the store cannot be read.
"""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import InputError
from serving.store.audit import Anchor, Verdict, verify
from serving.store.database import open_database
from serving.store.faults import StoreUnavailable, reason
from serving.store.option import StoreOption
from serving.terminal import stop

audit_app = typer.Typer(name="audit", help="The audit log: who did what, and when.", no_args_is_help=True)


@audit_app.callback()
def _audit() -> None:
    """The audit log: who did what, and when."""


@audit_app.command(name="verify")
def verify_command(
    store: StoreOption,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="SEQUENCE:HASH", help="An entry known from before; a cut-off end shows."),
    ] = None,
) -> None:
    """Recompute the chain of hashes from its first entry to its last."""
    try:
        verdict = _verify(store, Anchor.parse(expect) if expect else None)
    except (InputError, StoreUnavailable) as error:
        stop(str(error))
    except SQLAlchemyError as error:
        stop(reason(error))
    broken = verdict.broken
    if broken is None:
        print(f"{verdict.entries} entries, chain whole, last {verdict.last or 'none'}")
        return
    print(f"entry {broken.sequence} {broken.why}: it {broken.told}; {verdict.entries} entries hold before it")
    raise typer.Exit(1)


def _verify(store: str, expect: Anchor | None) -> Verdict:
    database = open_database(store, existing=True)
    try:
        with database.reading.connect() as connection:
            return verify(connection, expect)
    finally:
        database.close()
