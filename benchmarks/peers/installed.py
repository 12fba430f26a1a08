"""The peers: their environments and models, made once under build/bench, and how each is started and asked.

Every setting here is the best of those tried on two cores; `docs/benchmarks.md` lists them, and says what each peer
computes and how that differs from Simmer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import HOST, Request, Server
from pipeline.bundle import LAYOUT
from pipeline.config import ROOT
from pipeline.files import sha256

BENCH = ROOT / "build" / "bench"
PEERS = Path(__file__).parent
INFINITY_BATCH = "32"
LITSERVE_BATCH, LITSERVE_WAIT = "16", "0.002"
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "TOKENIZERS_PARALLELISM": "0"}


class NotInstalled(RuntimeError):
    """A peer that could not be installed or prepared; the message carries what went wrong."""


@dataclass(frozen=True)
class Home:
    """Where environments and models of the peers lie."""

    folder: Path = BENCH

    def environment(self, peer: str) -> Path:
        return self.folder / f"venv-{peer}"

    def program(self, peer: str, name: str = "python") -> str:
        return str(self.environment(peer) / "bin" / name)

    @property
    def classifier(self) -> Path:
        return self.folder / "classifier"

    @property
    def int8(self) -> Path:
        return self.folder / "classifier-int8"

    @property
    def mlflow_model(self) -> Path:
        return self.folder / "mlflow-model"


def install(peer: str, home: Home) -> None:
    """Make a peer's environment from its pinned requirements, unless it is there. Raises NotInstalled."""
    requirements = PEERS / f"requirements-{peer}.txt"
    done = home.environment(peer) / ".complete"
    if done.is_file() and done.read_text(encoding="utf-8") == sha256(requirements):
        return
    shutil.rmtree(home.environment(peer), ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(home.environment(peer)))
    _run(home.program(peer), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements))
    done.write_text(sha256(requirements), encoding="utf-8")


def prepare(bundle: Path, home: Home) -> None:
    """Make the models that the peers serve from a bundle's float network, unless they are its. Raises NotInstalled."""
    done = home.folder / "models.sha256"
    digest = sha256(bundle / LAYOUT.original)
    if done.is_file() and done.read_text(encoding="utf-8") == digest:
        return
    for folder in (home.classifier, home.int8, home.mlflow_model):
        shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "benchmarks.peers.classifier", str(bundle), str(home.classifier))
    _run(home.program("infinity"), str(PEERS / "int8.py"), str(home.classifier), str(home.int8))
    _run(home.program("mlflow"), str(PEERS / "mlflow_model.py"), str(home.classifier), str(home.mlflow_model))
    done.write_text(digest, encoding="utf-8")


def peers(home: Home, cores: int) -> list[Server]:
    """The peers at their best settings for so many cores."""
    return [
        mlflow(home, workers=cores),
        infinity(home, "Infinity, torch", home.classifier, "--engine", "torch", "--no-compile"),
        infinity(home, "Infinity, ONNX int8", home.int8, "--engine", "optimum"),
        litserve(home, workers=cores),
    ]


def mlflow(home: Home, workers: int, threads: int = 1) -> Server:
    """`mlflow models serve` of the transformers flavour."""
    program, path = home.program("mlflow", "mlflow"), os.environ.get("PATH", "")

    def command(port: int) -> Sequence[str]:
        where = ["-h", HOST, "-p", str(port), "-w", str(workers), "--env-manager", "local"]
        return [program, "models", "serve", "-m", str(home.mlflow_model), *where]

    return Server(
        "mlflow models serve",
        command,
        "/ping",
        lambda _, text: Request("POST", "/invocations", json.dumps({"inputs": [text]})),
        {**QUIET, "OMP_NUM_THREADS": str(threads), "PATH": f"{Path(program).parent}{os.pathsep}{path}"},
    )


def infinity(home: Home, name: str, model: Path, *options: str) -> Server:
    """Infinity's classifier; its warm-up is ours, since its own takes longer than a measurement."""

    def command(port: int) -> Sequence[str]:
        where = ["--host", HOST, "--port", str(port), "--device", "cpu", "--batch-size", INFINITY_BATCH]
        served = ["--model-id", str(model), "--served-model-name", "classifier", "--no-model-warmup"]
        return [home.program("infinity", "infinity_emb"), "v2", *served, *where, *options]

    return Server(
        name,
        command,
        "/health",
        lambda _, text: Request("POST", "/classify", json.dumps({"model": "classifier", "input": [text]})),
        {**QUIET, "INFINITY_ONNX_DISABLE_OPTIMIZE": "1", "INFINITY_LOG_LEVEL": "error"},
    )


def litserve(home: Home, workers: int, batch: str = LITSERVE_BATCH, wait: str = LITSERVE_WAIT) -> Server:
    """LitServe with batches over ONNX Runtime int8, one worker a core."""

    def command(port: int) -> Sequence[str]:
        given = [str(home.int8), str(port), str(workers), batch, wait]
        return [home.program("litserve"), str(PEERS / "litserve_int8.py"), *given]

    return Server(
        "LitServe, ONNX int8",
        command,
        "/health",
        lambda _, text: Request("POST", "/predict", json.dumps({"text": text})),
        QUIET,
    )


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"{' '.join(command[:4])}: {(done.stdout + done.stderr)[-1500:].strip()}")
