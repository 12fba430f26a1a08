"""Our own server: how it is started, and how its two paths, the stateless and the durable, are asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.servers import HOST, Request, Server

NAME = "Simmer"


def simmer(model: Path, store: str | None = None) -> Server:
    """`simmer serve` of a bundle, on a store of its own where it keeps one, asked without one."""

    def command(port: int) -> Sequence[str]:
        where = ["--model", str(model.resolve()), "--host", HOST, "--port", str(port)]
        kept = ["--store", store] if store and takes_store() else []
        return [sys.executable, "-m", "serving.cli", "serve", *where, *kept]

    return Server(NAME, command, "/readyz", stateless)


def takes_store() -> bool:
    """Whether `simmer serve` takes a store."""
    command = [sys.executable, "-m", "serving.cli", "serve", "--help"]
    wide = {"COLUMNS": "200", "PATH": "/usr/bin:/bin"}
    return "--store" in subprocess.run(command, capture_output=True, text=True, check=True, env=wide).stdout


def stateless(name: str, text: str) -> Request:
    """One message scored, nothing kept."""
    return Request("POST", "/v1/score", json.dumps({"id": name, "text": text}))


def durable(name: str, text: str) -> Request:
    """The same message as the first of a conversation that is kept: the same work for the model."""
    body = json.dumps({"id": name, "role": "customer", "text": text})
    return Request("POST", f"/v1/conversations/c-{name}/messages", body)
