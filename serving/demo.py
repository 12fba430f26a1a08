"""The demonstration: start the scorer on loopback, replay held-back conversations, show the queue, stop the scorer.

python -m serving.demo [--model models/current] [--rows 18]
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from pipeline.config import ROOT, load_config
from pipeline.conversation import Conversation, read_conversations
from pipeline.sources.bundled import FOLDER
from pipeline.vocabulary import load_vocabulary
from serving.policy import RoutingConfig
from serving.replay import Entry, Outcome, Replay, outcome, replay

PATIENCE = 60.0  # seconds until the scorer must answer
SEED = 17
UPPER_QUEUES = ("critical", "senior")
HEAT = ((75, "bold red"), (50, "red"), (30, "yellow"), (0, "dim"))


class ScorerNotUp(RuntimeError):
    """The scorer did not start; the message carries what it said."""


@contextmanager
def running_scorer(model: Path) -> Iterator[str]:
    """A scorer of its own on a free loopback port, stopped afterwards; its address. Raises ScorerNotUp.

    Its store is thrown away. Once it serves it is interrupted, not terminated: nobody else need notice before it stops.
    """
    port = _free_port()
    with TemporaryDirectory(prefix="simmer-demo-") as folder:
        given = ["--model", str(model.resolve()), "--port", str(port), "--store", f"sqlite:///{folder}/simmer.db"]
        command = [sys.executable, "-m", "serving.cli", "serve", *given]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        stop = signal.SIGTERM  # while it loads an interrupt may be ignored: by what is run in the background
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_ready(address, server)
            stop = signal.SIGINT
            yield address
        finally:
            server.send_signal(stop)
            server.communicate(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(address: str, server: subprocess.Popen[str]) -> None:
    """Return once `/readyz` says ready. Raises ScorerNotUp when the process ends or time runs out."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            raise ScorerNotUp(server.communicate()[1].strip())
        try:
            if httpx.get(f"{address}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise ScorerNotUp(f"not ready after {PATIENCE:.0f} s")


def live_conversations() -> list[Conversation]:
    """The bundled corpus's conversations that were kept for this."""
    found = [c for path in sorted(FOLDER.glob("*.jsonl")) for c in read_conversations(path)]
    return [c for c in found if c.meta.get("split") == "live"]


def queue_table(entries: list[Entry], rows: int) -> Table:
    """The hottest conversations, at most `rows`."""
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    table.add_column("conversation", no_wrap=True)
    table.add_column("channel")
    for name in ("priority", "frustration", "urgency", "boil-over"):
        table.add_column(name, justify="right")
    table.add_column("queue")
    table.add_column("reasons", ratio=1, no_wrap=True, overflow="ellipsis")
    for entry in entries[:rows]:
        table.add_row(*_cells(entry))
    return table


def _cells(entry: Entry) -> list[Text]:
    answer = entry.latest
    priority = answer["priority"]
    style = next(style for least, style in HEAT if priority["score"] >= least)
    scores = ["–"] * 3
    if answer["abstained"] is None:
        scores = [
            f"{answer['frustration']['expected']:.1f}",
            f"{answer['urgency']['expected']:.1f}",
            f"{answer['boil_over']:.0%}",
        ]
    reasons = ", ".join(reason.replace("_", " ") for reason in priority["reasons"])
    cells = [
        entry.conversation.id,
        entry.conversation.channel,
        str(priority["score"]),
        *scores,
        priority["queue"],
        reasons,
    ]
    return [Text(cell, style=style) for cell in cells]


def show_replay(address: str, conversations: list[Conversation], rows: int, console: Console) -> Replay:
    """Replay with the queue drawn as it changes; where there is no terminal, it is drawn once, at the end."""
    total = sum(len(conversation.customer_turns()) for conversation in conversations)
    bar = Progress(TextColumn("messages scored"), BarColumn(), MofNCompleteColumn(), console=console)
    task = bar.add_task("", total=total)
    state = Replay()
    with (
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,  # loopback needs no proxy
        Live(console=console, refresh_per_second=8) as live,
    ):
        for state in replay(conversations, client, SEED):
            bar.advance(task)
            if console.is_terminal:
                live.update(Group(queue_table(state.hottest_first(), rows), bar))
        live.update(Group(queue_table(state.hottest_first(), rows), bar))
    console.print()
    return state


def summary(found: Outcome, queue_names: list[str]) -> list[str]:
    """What the replay showed, line by line."""
    queues = ", ".join(f"{found.queues.get(name, 0)} {name}" for name in queue_names)
    return [
        f"{found.conversations} conversations, {found.messages} messages over HTTP: "
        f"{1000 * found.seconds_median:.1f} ms median, {1000 * found.seconds_p95:.1f} ms at the 95th percentile",
        f"queues at the end: {queues}" + (f"; {found.abstained} messages not judged" if found.abstained else ""),
        f"of {found.hot} hot messages (by their labels) {found.hot_sent_up} went to senior or critical, "
        f"and so did {found.calm_sent_up} of {found.calm} calm ones",
        f"of {found.boiled_over} conversations that began calm and boiled over {found.foreseen} were foreseen, "
        f"with {found.false_alarms} false alarms over {found.stayed_calm} that stayed calm",
    ]


def where_to_look() -> list[tuple[str, str]]:
    """What to do next, and with what."""
    return [
        ("serve the scorer", "make serve, then http://127.0.0.1:8000/docs"),
        ("score a file", ".venv/bin/simmer score IN.jsonl -o OUT.jsonl"),
        ("see the experiments", ".venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db"),
        ("read the report", "metrics/report.html"),
        ("change the policy", "configs/routing.yaml"),
    ]


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description="Replay held-back conversations and show the queue.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "current", help="folder of the bundle")
    parser.add_argument("--rows", type=int, default=18, help="rows of the queue to show")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    routing = load_config(RoutingConfig, "routing.yaml")
    conversations = live_conversations()
    console.rule("[bold]Simmer: live queue, hottest first")
    try:
        with running_scorer(given.model) as address:
            state = show_replay(address, conversations, given.rows, console)
    except ScorerNotUp as error:
        sys.exit(str(error))
    found = outcome(state, load_vocabulary().hot, UPPER_QUEUES, routing.factors["boil_over"].fires_at)
    console.rule("[bold]summary")
    for line in summary(found, [queue.name for queue in routing.queues]):
        console.print(f"  {line}", highlight=False)
    console.rule("[bold]next")
    for what, how in where_to_look():
        console.print(f"  {what:<22}{how}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
