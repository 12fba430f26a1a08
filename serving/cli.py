"""The command line: `simmer score` for files, `simmer convert` for what a help desk exports, `simmer serve` for HTTP.

Exit status: 0 all well, 1 some rows could not be read, 2 nothing could be done.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from pipeline.bundle import BundleRefused
from pipeline.config import ConfigError
from pipeline.conversation import Conversation, RowError, as_line, read_rows
from pipeline.errors import InputError
from pipeline.sources.exports import Kind, check_columns, read_export
from pipeline.sources.exports.desk import Read
from pipeline.sources.source import FormatChanged
from pipeline.vocabulary import load_vocabulary
from serving.config import ServeConfig, load_serve_config, served_bundle
from serving.drift.cli import drift
from serving.operation.registry import SourceUnavailable
from serving.plugins import WithPlugins
from serving.policy import PolicyMismatch
from serving.review.cli import reviewers_app, reviews_app
from serving.routing.cli import app as policy_app
from serving.scorer import Job, Scorer, every_turn, last_turn, load_scorer
from serving.security.cli import app as keys_app
from serving.store.cli import audit_app
from serving.terminal import stop

ROWS_AT_ONCE = 512
JOBS_AT_ONCE = 2048
ERRORS_SHOWN = 20

app = typer.Typer(
    name="simmer",
    cls=WithPlugins,
    help="Reads live support conversations and puts the emotionally charged ones first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(policy_app)
app.add_typer(keys_app)
app.add_typer(audit_app)
app.add_typer(reviewers_app)
app.add_typer(reviews_app)
app.command()(drift)

Model = Annotated[
    Path | None, typer.Option("--model", help="Folder of a bundle; by default the one in configs/serve.yaml.")
]


@app.command()
def score(
    source: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help='Rows {"id", "text"} or {"id", "turns"}; - reads standard input.')
    ],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="Where answers go; - writes standard output.")
    ] = Path("-"),
    model: Model = None,
    every: Annotated[bool, typer.Option("--every-turn", help="Score each customer turn, not the last alone.")] = False,
    all_heads: Annotated[
        bool, typer.Option("--all-heads", help="Add the heads of corpora with conventions of their own.")
    ] = False,
) -> None:
    """Score conversations from a file of JSON lines."""
    scorer = _load(model, all_heads)
    with _writing(target):
        counts = _score_file(scorer, source, target, every_turn if every else last_turn)
    bad, good = counts["errors"], counts["answers"]
    Console(stderr=True).print(f"{good} answers" + (f", [bold red]{bad} rows with errors[/]" if bad else ""))
    if bad:
        raise typer.Exit(1)


JobsOf = Callable[[Conversation], list[Job]]


def _score_file(scorer: Scorer, source: Path, target: Path, jobs_of: JobsOf) -> dict[str, int]:
    with ExitStack() as stack:
        lines, out = _open(source, target, "scoring", stack)
        return write_answers(scorer, lines, out, jobs_of)


def write_answers(scorer: Scorer, lines: Iterable[bytes], out: BinaryIO, jobs_of: JobsOf) -> dict[str, int]:
    """Score JSON lines into JSON lines, an error row in the place of each bad line; how many of both."""
    counts = {"answers": 0, "errors": 0}
    for rows in batched(read_rows(lines), ROWS_AT_ONCE):
        jobs = [job for row in rows if isinstance(row, Conversation) for job in jobs_of(row)]
        answers = (answer for some in batched(jobs, JOBS_AT_ONCE) for answer in scorer.score(some))
        for row in rows:
            if isinstance(row, RowError):
                out.write(row.as_line())
                counts["errors"] += 1
                continue
            for _ in jobs_of(row):
                out.write(next(answers).model_dump_json().encode() + b"\n")
                counts["answers"] += 1
        out.flush()
    return counts


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


@app.command()
def convert(
    kind: Annotated[Kind, typer.Argument(help="Whose export it is.")],
    source: Annotated[Path, typer.Argument(metavar="EXPORT", help="JSON, JSON lines or CSV; - reads standard input.")],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="What score reads; - writes standard output.")
    ] = Path("-"),
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Which column of a CSV file holds text, id, role, conversation, at, channel, language or a head's "
            "label; once a field.",
        ),
    ] = None,
) -> None:
    """Convert an export of Zendesk, Intercom or Freshdesk, or a CSV file, to conversations that score reads."""
    try:
        vocabulary, named = load_vocabulary(), _columns(columns or [])
        check_columns(kind, named, vocabulary)
        with _writing(target), ExitStack() as stack:
            lines, out = _open(source, target, "converting", stack)
            name = "standard input" if str(source) == "-" else source.name
            counts, bad = write_rows(read_export(kind, lines, name, named, vocabulary), out)
    except (ConfigError, FormatChanged) as error:
        stop(str(error))
    _report(counts, bad)
    if bad:
        raise typer.Exit(1)


def write_rows(rows: Iterable[Read], out: BinaryIO) -> tuple[dict[str, int], list[FormatChanged]]:
    """Write the good rows as JSON lines; how many there were, how many said nothing in public, and the bad ones."""
    counts, bad = {"conversations": 0, "silent": 0}, []
    for row in rows:
        if isinstance(row, FormatChanged):
            bad.append(row)
        elif row is None:
            counts["silent"] += 1
        else:
            out.write(as_line(row))
            counts["conversations"] += 1
    out.flush()
    return counts, bad


def _columns(given: Iterable[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for one in given:
        name, equals, column = one.partition("=")
        if not (name and equals and column):
            raise ConfigError(f"--map {one}: write FIELD=COLUMN")
        if name in columns:
            raise ConfigError(f"--map {one}: {name} is column {columns[name]} already")
        columns[name] = column
    return columns


def _report(counts: Mapping[str, int], bad: Sequence[FormatChanged]) -> None:
    console = Console(stderr=True)
    for row in bad[:ERRORS_SHOWN]:
        console.print(f"[bold red]bad row:[/] {escape(str(row))}", soft_wrap=True, highlight=False)
    if len(bad) > ERRORS_SHOWN:
        console.print(f"[bold red]bad row:[/] and {len(bad) - ERRORS_SHOWN} more", highlight=False)
    silent = f", {counts['silent']} without a public message" if counts["silent"] else ""
    rows = f", [bold red]{len(bad)} bad rows[/]" if bad else ""
    console.print(f"{counts['conversations']} conversations{silent}{rows}")


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option("--model", help="Folder of a bundle, or models:/NAME@ALIAS of a registry.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; anything but loopback asks for keys.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", envvar="SIMMER_STORE", help="Where conversations are kept.")
    ] = None,
) -> None:
    """Serve the scorer over HTTP until interrupted. OpenAPI pages stand under /docs."""
    from serving.api import create_app
    from serving.operation.logs import log_config
    from serving.operation.server import serve as run
    from serving.service import open_service
    from serving.store.faults import StoreUnavailable

    try:
        service = open_service(_configured(load_serve_config(), model, host, port, store))
    except (BundleRefused, PolicyMismatch, InputError, SourceUnavailable, StoreUnavailable) as error:
        stop(str(error))
    config = service.config
    logs = log_config(sys.stderr.isatty())
    run(create_app(service), config.host, config.port, config.server, service.drain, logs)


def _configured(
    config: ServeConfig, model: str | None, host: str | None, port: int | None, store: str | None
) -> ServeConfig:
    """The configuration with what the command line says in its place."""
    given = {"model": model, "host": host, "port": port}
    config = config.model_copy(update={name: value for name, value in given.items() if value is not None})
    if store is None:
        return config
    return config.model_copy(update={"store": config.store.model_copy(update={"url": store})})


def _load(model: Path | None, all_heads: bool) -> Scorer:
    try:
        config = load_serve_config()
        return load_scorer(model or served_bundle(config), config.batcher.threads, all_heads)
    except (BundleRefused, InputError, PolicyMismatch, SourceUnavailable) as error:
        stop(str(error))


def _open(source: Path, target: Path, doing: str, stack: ExitStack) -> tuple[Iterator[bytes], BinaryIO]:
    """The source's lines, with a progress bar while they are read, and where to write."""
    lines = _open_source(source, stack)
    out = sys.stdout.buffer if str(target) == "-" else _open_target(target, stack)
    size = None if str(source) == "-" else source.stat().st_size
    return stack.enter_context(_Bar(doing, size)).watch(lines), out


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """A target that cannot be written to ends the command, saying why."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the answers has seen enough; typer ends quietly
    except OSError as error:
        stop(f"{target}: {error.strerror}")


def _open_source(path: Path, stack: ExitStack) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(path.open("rb"))
    except OSError as error:
        stop(f"{path}: {error.strerror}")


def _open_target(path: Path, stack: ExitStack) -> BinaryIO:
    try:
        return stack.enter_context(_replacing(path))
    except OSError as error:
        stop(f"{path}: {error.strerror}")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once all is written, so that `path` may be read meanwhile."""
    if path.exists() and not path.is_file():  # a device or a pipe keeps its place
        with path.open("wb") as out:
            yield out
        return
    whole = path.resolve()
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    out = part.open("xb")
    try:
        with out:
            if whole.exists():
                shutil.copymode(whole, part)
            yield out
        part.replace(whole)
    finally:
        part.unlink(missing_ok=True)


class _Bar:
    """A progress bar over bytes read, on standard error, gone when done."""

    def __init__(self, doing: str, size: int | None) -> None:
        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(doing, total=size)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            yield line
            self._progress.advance(self._task, len(line))


def main() -> None:
    """Entry point of the `simmer` command."""
    app()


if __name__ == "__main__":
    main()
