"""`simmer policy`: check a policy, replay one over history, and turn a team's capacity into a threshold.

Exit status as of every command: 0 all well, 1 some rows could not be read (of `check`: the policy is not valid),
2 nothing could be done.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.text import Text

from pipeline.bundle import LAYOUT, BundleRefused, read_card
from pipeline.config import CONFIGS, Config, ConfigError
from pipeline.conversation import Conversation, RowError, read_rows
from pipeline.vocabulary import Vocabulary, load_vocabulary
from serving.policy import Policy, PolicyMismatch, parse_policy, read_policy
from serving.routing.capacity import Capacity, NoPlan, gather, plan, queue_to_plan
from serving.routing.changes import compare
from serving.routing.history import read_history
from serving.routing.tables import changes_page, plan_page
from serving.terminal import stop

IN_FORCE = CONFIGS / "routing.yaml"
ERRORS_SHOWN = 20

app = typer.Typer(
    name="policy",
    help="Checks a routing policy, replays one over history, and turns capacity into a threshold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

History = Annotated[
    Path,
    typer.Argument(
        metavar="HISTORY.jsonl",
        help="Answers of simmer score, or conversations exported from the store; - reads standard input.",
    ),
]
Model = Annotated[
    Path | None, typer.Option("--model", help="Folder of the bundle whose labels count; else configs/labels.yaml.")
]
PerDay = Annotated[float, typer.Option("--per-day", min=0, help="How many conversations a day the team takes.")]
PlannedQueue = Annotated[
    str | None, typer.Option("--queue", help="Whose threshold; else the coolest that needs qualified agents.")
]
Days = Annotated[float | None, typer.Option("--days", help="How many days history spans, where it has no times.")]
Scoring = Annotated[
    Path, typer.Option("--policy", help="The policy that scores; else configs/routing.yaml.", show_default=False)
]
KeepReasons = Annotated[bool, typer.Option("--keep-reasons", help="Keep the queue's reasons beside the score.")]
Labelled = Annotated[
    Path | None, typer.Option("--labels", metavar="LABELLED.jsonl", help="The same conversations with labels.")
]
Metrics = Annotated[
    Path | None, typer.Option("--metrics", metavar="EVALUATE.json", help="What training measured, to stand beside.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")]


@app.command()
def check(
    policy: Annotated[Path, typer.Argument(metavar="POLICY.yaml", help="The policy to check.")], model: Model = None
) -> None:
    """Say whether a policy is valid, or in one line what is wrong with it."""
    vocabulary = _vocabulary(model)
    try:
        content = policy.read_bytes()
    except OSError as error:
        stop(f"{policy}: {error.strerror}")
    try:
        found = parse_policy(content, policy.name, vocabulary)
    except (ConfigError, PolicyMismatch) as error:
        stop(str(error), 1)
    config = found.config
    queues = ", ".join(queue.name for queue in config.queues)
    held = f"{100 * config.holdout.share:g} % held out"
    print(f"valid: {len(config.factors)} factors, queues {queues}, {held}, {found.digest}")


@app.command()
def replay(
    history: History,
    policy: Annotated[Path, typer.Option("--policy", metavar="NEW.yaml", help="The policy to try.")],
    against: Annotated[
        Path, typer.Option("--against", metavar="OLD.yaml", help="What it is compared with.", show_default=False)
    ] = IN_FORCE,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Run a policy over history and say what would change. Compared with configs/routing.yaml unless told otherwise."""
    vocabulary = _vocabulary(model)
    old, new = (_policy(path, vocabulary) for path in (against, policy))
    with _opened(history) as lines:
        changes, bad = compare(read_history(lines), old, new, vocabulary)
    _report(bad)
    if not changes.answers:
        stop(f"{history}: holds no answer")
    _show(changes, changes_page(changes), as_json)
    if bad:
        raise typer.Exit(1)


@app.command()
def capacity(
    history: History,
    per_day: PerDay,
    queue: PlannedQueue = None,
    days: Days = None,
    policy: Scoring = IN_FORCE,
    keep_reasons: KeepReasons = False,
    labels: Labelled = None,
    metrics: Metrics = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Turn what a team takes a day into the score from which a queue takes, and say what that is expected to miss."""
    _must_be_sensible(per_day, days)
    vocabulary = _vocabulary(model)
    ours = _policy(policy, vocabulary)
    order = _measured_order(metrics) if metrics else {}
    truth, bad = _labelled(labels) if labels else (None, [])
    try:
        planned = queue_to_plan(ours, queue)
        with _opened(history) as lines:
            seen, bad_rows = gather(read_history(lines), ours, planned, vocabulary)
        _report([*bad_rows, *bad])
        found = plan(seen, planned, vocabulary, Capacity(per_day=per_day, days=days, keep_reasons=keep_reasons), truth)
    except NoPlan as error:
        stop(str(error))
    _show(found, [*plan_page(found), *_beside(order, found.taken / found.conversations)], as_json)
    if bad or bad_rows:
        raise typer.Exit(1)


def _must_be_sensible(per_day: float, days: float | None) -> None:
    if not math.isfinite(per_day):
        stop(f"--per-day: must be a number, not {per_day:g}")
    if days is not None and not (math.isfinite(days) and days > 0):
        stop(f"--days: must be more than 0, not {days:g}")


def _vocabulary(model: Path | None) -> Vocabulary:
    if model is None:
        return load_vocabulary()
    try:
        return read_card(model / LAYOUT.card).labels
    except OSError as error:
        stop(f"{model}: {error.strerror}")
    except BundleRefused as error:
        stop(str(error))


def _policy(path: Path, vocabulary: Vocabulary) -> Policy:
    try:
        return read_policy(path, vocabulary)
    except (ConfigError, PolicyMismatch) as error:
        stop(str(error))


def _labelled(path: Path) -> tuple[list[Conversation], list[RowError]]:
    with _opened(path) as lines:
        rows = list(read_rows(lines))
    return [row for row in rows if not isinstance(row, RowError)], [row for row in rows if isinstance(row, RowError)]


class _Reached(Config):
    """Share of hot conversations that the model's order reached; no order could have reached more than the ceiling."""

    value: float
    low: float
    high: float
    ceiling: float


def _measured_order(path: Path) -> dict[float, _Reached]:
    """What evaluation measured for each share of conversations taken."""
    try:
        found = json.loads(path.read_bytes())["queue"]["recall"]
        return {float(share): _Reached.model_validate(figure) for share, figure in found.items()}
    except OSError as error:
        stop(f"{path}: {error.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError):
        stop(f"{path}: holds no queue as metrics/evaluate.json does")


def _beside(reached: dict[float, _Reached], share: float) -> Iterator[str]:
    """What was measured for the share nearest to the one that the threshold takes."""
    if not reached:
        return
    nearest = min(reached, key=lambda measured: abs(measured - share))
    figure = reached[nearest]
    yield (
        f"in evaluation, the first {100 * nearest:g} % by the model's order held {100 * figure.value:.1f} % "
        f"({100 * figure.low:.1f} to {100 * figure.high:.1f}) of the hot conversations, at most "
        f"{100 * figure.ceiling:.1f} % being possible; the threshold takes {100 * share:.1f} %"
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as lines:
            yield lines
    except OSError as error:
        stop(f"{path}: {error.strerror}")


def _show(found: Config, page: Iterable[RenderableType], as_json: bool) -> None:
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    console = Console(highlight=False)
    for part in page:
        console.print(part, soft_wrap=isinstance(part, Text))  # a line to copy stays one line


def _report(bad: Sequence[RowError]) -> None:
    console = Console(stderr=True, highlight=False)
    for row in bad[:ERRORS_SHOWN]:
        console.print(f"[bold red]bad row:[/] line {row.line}: {escape(row.error)}", soft_wrap=True)
    if len(bad) > ERRORS_SHOWN:
        console.print(f"[bold red]bad row:[/] and {len(bad) - ERRORS_SHOWN:,} more")
