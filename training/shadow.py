"""Where challenger and champion answer traffic differently: told by a running service, or found by letting both score.

http://127.0.0.1:8000      a service with the challenger in its shadow; SIMMER_KEY holds a key of scope admin
shadow.json                what such a service said at GET /v1/shadow
history.jsonl              conversations that both score now, by the scorer's own command
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from pipeline.bundle import bundle_digest
from pipeline.config import ROOT
from pipeline.conversation import describe
from pipeline.differences import Differences, Shadow, differences
from pipeline.errors import InputError

KEY_VARIABLE = "SIMMER_KEY"
SECONDS = 10
MOST_BYTES = 4_000_000  # of a report; what is larger is history


def check_shadow(given: str) -> None:
    """Raise InputError where there is no such file, before anything takes long."""
    if not _is_address(given) and not Path(given).is_file():
        raise InputError(f"{given}: no such file")


def shadowed(given: str, champion: Path, challenger: Path) -> Differences:
    """Where the two differ. Raises InputError, also where what is told is of other models."""
    report = _asked(given) if _is_address(given) else _reported(Path(given))
    if report is None:
        return compared(Path(given), champion, challenger)
    for name, told, folder in (("champion", report.champion, champion), ("challenger", report.challenger, challenger)):
        if told != bundle_digest(folder):
            why = f" ({report.refused})" if report.refused else ""
            raise InputError(f"{given}: tells of another {name}, {told or 'of none'}{why}")
    if not report.scored:
        raise InputError(f"{given}: the challenger has scored no message there yet")
    return report.differences


def compared(history: Path, champion: Path, challenger: Path) -> Differences:
    """Let both score past conversations, and see where they differ. Raises InputError where nothing could be scored."""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "answers.jsonl"
        return differences(scored(history, champion, target), scored(history, challenger, target))


def scored(history: Path, bundle: Path, target: Path) -> list[dict[str, Any]]:
    """The answers that a bundle gives to every customer turn of a file of conversations."""
    command = [sys.executable, "-m", "serving.cli", "score", str(history), "-o", str(target), "--every-turn"]
    done = subprocess.run(
        [*command, "--model", str(bundle)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode > 1 or not target.is_file():
        raise InputError(f"{history}: could not be scored: {done.stderr.strip()[-300:]}")
    answers = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    target.unlink()
    return answers


def _is_address(given: str) -> bool:
    return given.startswith(("http://", "https://"))


def _asked(address: str) -> Shadow:
    key = os.environ.get(KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.get(f"{address.rstrip('/')}/v1/shadow", headers=headers, timeout=SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(f"{address}: does not answer: {error or type(error).__name__}") from None
    if not response.is_success:
        raise InputError(f"{address}: {_refusal(response)}")
    return _read(response.content, address)


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"answers with status {response.status_code}"


def _reported(file: Path) -> Shadow | None:
    """The report in a file; None where it is history."""
    if file.stat().st_size > MOST_BYTES:
        return None
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        return None
    return _read(file.read_bytes(), str(file)) if isinstance(found, dict) and "differences" in found else None


def _read(content: bytes, name: str) -> Shadow:
    try:
        return Shadow.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{name}: is not what GET /v1/shadow says: {describe(error)}") from None
