"""Serving starts where nothing of training can be imported, and starts soon."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

BLOCKED = (
    *("torch", "transformers", "pandas", "datasets", "mlflow", "sklearn", "scipy", "matplotlib", "pyarrow"),
    *("accelerate", "nncf", "onnx", "onnxscript", "safetensors", "dvc", "training"),
)
SECONDS_TO_START = 15  # about 1.5 s where nothing else runs; a crowded machine gets ten times that

BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocker())
"""

SCORE = """
import json
from pathlib import Path
from pipeline.conversation import parse_row
from serving.scorer import last_turn, load_scorer

scorer = load_scorer(Path(sys.argv[1]))
row = parse_row({"id": "a", "channel": "email", "text": "Still no refund, third mail now!\\n\\n-- \\nAnna"})
print(json.dumps(scorer.score(last_turn(row))[0].model_dump()))
"""

API = """
import asyncio
import tempfile
import httpx
from serving.api import create_app
from serving.config import load_serve_config
from serving.service import open_service, running

store = tempfile.TemporaryDirectory()
config = load_serve_config()
kept = config.store.model_copy(update={"url": f"sqlite:///{store.name}/simmer.db"})
service = open_service(config.model_copy(update={"model": sys.argv[1], "store": kept}))
app = create_app(service)

async def ask():
    transport = httpx.ASGITransport(app)
    async with running(service), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/readyz")).json()["status"] == "ready"
        print((await client.post("/v1/score", json={"id": "a", "text": "Still no refund"})).text)

asyncio.run(ask())
"""

COMMAND = """
from serving.cli import main

sys.argv = ["simmer", "score", "-", "--model", sys.argv[1]]
main()
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code where BLOCKED cannot be imported and every warning is an error."""
    command = [sys.executable, "-W", "error", "-c", BLOCKER + code, *arguments]
    row = json.dumps({"id": "a", "text": "Still no refund"}) + "\n"
    return subprocess.run(command, cwd=ROOT, input=row, capture_output=True, text=True, check=False, timeout=120)


def answer_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("code", [SCORE, API, COMMAND], ids=["scorer", "api", "command"])
def test_serving_starts_without_what_training_needs(bundle_path: Path, code: str) -> None:
    started = time.perf_counter()
    answer = answer_of(run(code, str(bundle_path)))
    assert time.perf_counter() - started < SECONDS_TO_START
    assert answer["id"] == "a"
    assert answer["frustration"]["probabilities"]


@pytest.mark.parametrize("name", ["torch", "sklearn.metrics", "training"])
def test_what_is_blocked_cannot_be_imported(name: str) -> None:
    done = run(f"import {name}")
    assert done.returncode == 1
    assert f"{name.partition('.')[0]} is not installed here" in done.stderr
