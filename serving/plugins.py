"""Commands that other packages add to `simmer`, found by the entry points `simmer.commands` and loaded when asked for.

An entry point names a function that takes typer's arguments, or a typer application. The project's own training adds
`simmer promote` this way, which serving must not import. One that cannot be loaded says so when it is called, and
harms no other command. Knows nothing of what such commands do.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command

GROUP = "simmer.commands"


class WithPlugins(TyperGroup):
    """A group of commands to which entry points add theirs; where both have a name, the group's own is kept."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The group's own commands, then the added ones by name."""
        own = list(super().list_commands(ctx))
        return own + sorted(set(plugins()) - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        own = super().get_command(ctx, cmd_name)
        found = None if own else plugins().get(cmd_name)
        return load(found) if found else own


def plugins() -> dict[str, EntryPoint]:
    """The entry points by the name of their command."""
    return {found.name: found for found in entry_points(group=GROUP)}


def load(found: EntryPoint) -> Any:
    """An entry point as a command; where it cannot be loaded, as one that says why."""
    try:
        loaded = found.load()
    except Exception as error:  # whatever another package does wrong must not end this one
        return _broken(found, " ".join(str(error).split()) or type(error).__name__)
    if isinstance(loaded, typer.Typer):
        return _named(loaded, found.name)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(found.name)(loaded)
    return _named(app, found.name)


def _named(app: typer.Typer, name: str) -> Any:
    command = get_command(app)
    command.name = name
    return command


def _broken(found: EntryPoint, why: str) -> Any:
    def broken() -> NoReturn:
        typer.echo(f"error: simmer {found.name} cannot be loaded from {found.value}: {why}", err=True)
        raise typer.Exit(2)

    broken.__doc__ = escape(f"Cannot be loaded: {why}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(found.name)(broken)
    return _named(app, found.name)
