"""How a command ends that cannot do what it was asked: one line on standard error, and its exit status."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape


def stop(message: str, status: int = 2) -> NoReturn:
    """End the command, saying why. Raises typer.Exit."""
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    raise typer.Exit(status)
