"""What training adds to the `simmer` command: `simmer promote` and `simmer rollback`.

`serving` knows nothing of training, so the command finds these by the entry points `simmer.commands` of pyproject.toml.
What they need is imported when they run, so that `simmer --help` stays quick and needs no torch.

Exit status: 0 promoted, or good enough to be; 1 the gate refused; 2 nothing could be done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

By = Annotated[str | None, typer.Option("--by", help="Who asks for it; by default, whoever is logged in.")]
Why = Annotated[str, typer.Option("--why", help="A line for the log.")]


def promote(
    challenger: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A bundle to compare instead of @challenger; nothing is moved.")
    ] = None,
    champion: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A bundle to compare with instead of @champion; nothing is moved."),
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="There is no champion: compare with nothing.")] = False,
    allow_vocabulary: Annotated[
        bool, typer.Option("--allow-vocabulary", help="Compare the heads that both have where vocabularies differ.")
    ] = False,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="HISTORY|URL",
            help="Where the two differ: conversations that both score, a service with the challenger in its shadow, "
            "or what it said at /v1/shadow.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and move nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
    by: By = None,
    why: Why = "",
) -> None:
    """Compare @challenger with @champion, and let it serve where nothing got worse."""

    def run() -> int:
        from training.promote import Asked, promote

        asked = Asked(challenger, champion, first, allow_vocabulary, shadow, dry_run, as_json, by, why)
        return promote(asked)

    _ended(run)


def rollback(by: By = None, why: Why = "") -> None:
    """Let the version serve again that @champion took the place of."""

    def run() -> int:
        from training.promote import rollback

        return rollback(by, why)

    _ended(run)


def _ended(run: Callable[[], int]) -> NoReturn:
    try:
        status = run()
    except ModuleNotFoundError as error:
        _stop(f"{error.name} is not installed: this command needs what training needs, pip install 'simmer\\[train]'")
    except (ValueError, OSError) as error:  # a person can mend these: InputError, BundleRefused, SuiteInvalid
        _stop(escape(str(error)))
    raise typer.Exit(status)


def _stop(message: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {message}", soft_wrap=True, highlight=False)
    raise typer.Exit(2)
