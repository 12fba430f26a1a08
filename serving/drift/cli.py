"""`simmer drift`: whether live messages still are what the model was made for, and whether to retrain.

Exit status: 0 measured, 1 some rows of the files could not be read, 2 nothing could be measured. What was found is in
the verdict: too_few, nothing, look or retrain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError
from tokenizers import Tokenizer

from pipeline.bundle import LAYOUT, BundleRefused, bundle_digest, check_manifest, read_card
from pipeline.conversation import RowError, read_rows
from pipeline.encode import Encoder
from pipeline.errors import InputError
from serving.config import load_serve_config, served_bundle
from serving.drift.config import DriftConfig
from serving.drift.live import Said, Span, drawn, paired, read_span, seen_of, span_until, split
from serving.drift.measure import Made, made_for, measure
from serving.drift.shapes import Drift, Moved
from serving.drift.verdict import SIDES, WORDED
from serving.operation.registry import SourceUnavailable
from serving.policy import PolicyMismatch, load_policy
from serving.routing.history import read_history
from serving.store.database import open_database
from serving.store.faults import StoreUnavailable, reason
from serving.terminal import stop

SINCE = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
UNITS = {"m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0}  # days
MOST_DAYS = 36_500
ERRORS_SHOWN = 5
STYLES = {"steady": "green", "some": "yellow", "much": "bold red", "too_few": "dim"}

Store = Annotated[
    str | None, typer.Option("--store", metavar="URL", envvar="SIMMER_STORE", help="The store to read messages from.")
]
Answers = Annotated[
    Path | None, typer.Option("--answers", metavar="OUT.jsonl", help="What simmer score wrote, instead of a store.")
]
Talks = Annotated[
    Path | None, typer.Option("--conversations", metavar="IN.jsonl", help="The conversations that it was given.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="7d", help="How far back to look; m, h, d or w. Files: all of it.")
]
Page = Annotated[Path | None, typer.Option("--output", "-o", metavar="drift.html", help="Where a page goes.")]
Model = Annotated[
    Path | None, typer.Option("--model", help="Folder of a bundle; by default the one in configs/serve.yaml.")
]


def drift(
    store: Store = None,
    answers: Answers = None,
    conversations: Talks = None,
    since: Since = None,
    output: Page = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
    model: Model = None,
) -> None:
    """Compare live messages and scores with the training data, and say whether to retrain."""
    try:
        config = load_serve_config()
        bundle = model or served_bundle(config)
        made = _made(bundle)
        windows, span, bad = _windows(store or config.store.url, answers, conversations, _days(since), config.drift)
        found = _measured(windows, span, bundle, made, config.drift)
        if output is not None:
            _write(output, found, config.drift)
    except (BundleRefused, InputError, PolicyMismatch, SourceUnavailable, StoreUnavailable) as error:
        stop(str(error))
    except SQLAlchemyError as error:
        stop(reason(error))
    except OSError as error:
        stop(f"{error.filename}: {error.strerror}")
    _show(found, as_json)
    if bad:
        raise typer.Exit(1)


Windows = tuple[list[Said], list[Said]]


def _made(bundle: Path) -> Made:
    check_manifest(bundle)
    card = read_card(bundle / LAYOUT.card)
    return made_for(card, load_policy(card.labels), bundle_digest(bundle))


def _measured(windows: Windows, span: Span | None, bundle: Path, made: Made, config: DriftConfig) -> Drift:
    encoding = read_card(bundle / LAYOUT.card).encoding
    encoder = Encoder(Tokenizer.from_file(str(bundle / LAYOUT.tokenizer)), encoding)
    live, before = (seen_of(said, encoder, made.vocabulary, made.bundle) for said in windows)
    return measure(live, before, made, config, datetime.now(UTC), span)


def _windows(
    store: str, answers: Path | None, talks: Path | None, days: float | None, config: DriftConfig
) -> tuple[Windows, Span | None, bool]:
    """The messages of this window and of the one before, when that was, and whether rows could not be read."""
    if (answers is None) != (talks is None):
        raise InputError("--answers and --conversations go together")
    if answers is None or talks is None:
        span = span_until(datetime.now(UTC), days or config.window_days)
        return _from_store(store, span, config.messages), span, False
    said, bad = _from_files(answers, talks)
    windows, found = split(said, days)
    return (drawn(windows[0], config.messages), drawn(windows[1], config.messages)), found, bad


def _from_store(url: str, span: Span, most: int) -> Windows:
    database = open_database(url, existing=True)
    try:
        with database.reading.begin() as connection:
            return read_span(connection, span, most), read_span(connection, span.before(), most)
    finally:
        database.close()


def _from_files(answers: Path, talks: Path) -> tuple[list[Said], bool]:
    with talks.open("rb") as lines:
        rows = list(read_rows(lines))
    with answers.open("rb") as lines:
        pasts = list(read_history(lines))
    bad = [row for row in (*rows, *pasts) if isinstance(row, RowError)]
    known = {row.id: row for row in rows if not isinstance(row, RowError)}
    said, alone = paired((past.answer for past in pasts if not isinstance(past, RowError)), known)
    _report(bad, alone)
    if not said:
        raise InputError(f"{answers}: no answer belongs to a conversation of {talks}")
    return said, bool(bad or alone)


def _report(bad: Sequence[RowError], alone: int) -> None:
    console = Console(stderr=True, highlight=False)
    for row in bad[:ERRORS_SHOWN]:
        console.print(f"[bold red]bad row:[/] line {row.line}: {escape(row.error)}", soft_wrap=True)
    if len(bad) > ERRORS_SHOWN:
        console.print(f"[bold red]bad row:[/] and {len(bad) - ERRORS_SHOWN:,} more")
    if alone:
        console.print(f"[bold red]left out:[/] {alone:,} answers without a customer's message among the conversations")


def _days(since: str | None) -> float | None:
    if since is None:
        return None
    found = SINCE.fullmatch(since.strip())
    days = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < days <= MOST_DAYS:
        raise InputError(f"--since {since}: write 90m, 24h, 7d or 4w for example")
    return days


def _write(output: Path, found: Drift, config: DriftConfig) -> None:
    from serving.drift.report import page  # what renders pages is not needed for figures

    output.write_text(page(found, config), encoding="utf-8")


def _show(found: Drift, as_json: bool) -> None:
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    console = Console(highlight=False)
    shown = Table("feature", box=None, pad_edge=False)
    for title in ("messages", "from training", "from before"):
        shown.add_column(title, justify="right", no_wrap=True)
    for one in found.features:
        moves = (_moved(one.against_training), _moved(one.against_before))
        shown.add_row(WORDED[one.name].removeprefix("the "), f"{one.messages:,}", *moves)
    console.print(shown)
    for told in found.classifiers:
        said = f"told from {SIDES[told.against]} with AUC {told.auc:.2f} (p {told.p:.3f}, {told.messages:,} messages)"
        console.print(said, style="yellow" if told.apart else None)
    console.print(f"[bold]{found.verdict.headline}[/]")
    for line in found.verdict.reasons:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _moved(moved: Moved) -> str:
    words = "too few" if moved.level == "too_few" else f"{moved.excess:.3f} {moved.level}"
    return f"[{STYLES[moved.level]}]{words}[/]"
