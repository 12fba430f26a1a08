"""Our server on a store that holds many conversations: start, memory, and how quickly it says who is next.

The conversations are copies, made inside SQLite, of a few that the server itself was told over HTTP, so this knows two
table names and nothing else of the store.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np

from benchmarks.measure import Bench, Messages
from benchmarks.ours import durable, simmer
from benchmarks.servers import Request, running

CONVERSATIONS = 100_000
ORIGINALS = 50
QUEUE_REQUESTS_SECONDS = 2.0


@dataclass(frozen=True)
class Stored:
    """What was measured. Latencies in seconds."""

    conversations: int
    seconds_to_ready: float
    resident_bytes: int
    queue_median: float
    queue_p99: float


def stored(model: Path, texts: Sequence[str], cores: Sequence[int], generator: Sequence[int], logs: Path) -> Stored:
    """Measure a server on a store of `CONVERSATIONS`, made for this and thrown away."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "store.db"
        server = simmer(model, f"sqlite:///{file}")
        with running(server, cores, logs) as first:
            tell(first.address, texts[:ORIGINALS])
        multiply(file, CONVERSATIONS)
        asking = replace(server, ask=lambda *_: Request("GET", "/v1/queue"))
        with running(asking, cores, logs) as second:
            bench = Bench(asking, second, Messages(texts), generator)
            bench.closed_loop(1, 0.5)
            run = bench.closed_loop(1, QUEUE_REQUESTS_SECONDS)
            bench = replace(bench, server=replace(server, ask=durable))
            bench.closed_loop(8, 1.0)  # memory with the model at work
            return Stored(
                CONVERSATIONS, second.seconds_to_ready, second.resident_bytes(), run.quantile(0.5), run.quantile(0.99)
            )


def tell(address: str, texts: Sequence[str]) -> None:
    """Begin a conversation with each text. Raises httpx's errors."""
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        for number, text in enumerate(texts):
            asked = durable(f"m{number}", text)
            client.request(asked.method, asked.path, content=asked.body).raise_for_status()


def multiply(file: Path, total: int) -> None:
    """Copy the conversations of a store, and their messages, until there are `total`; ranks are spread apart."""
    with sqlite3.connect(file) as connection:
        (originals,) = connection.execute("SELECT count(*) FROM conversations").fetchone()
        copies = int(np.ceil(total / originals)) - 1
        connection.execute(
            "CREATE TEMP TABLE copy AS WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n",
            (copies,),
        )
        for table, key in (("conversations", "id"), ("messages", "conversation")):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            changed = {key: f"{key} || '-' || i", "rank": "rank - i * 0.01"}
            values = ", ".join(changed.get(column, column) for column in columns)
            names = ", ".join(columns)
            connection.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM {table}, copy")
    connection.close()
