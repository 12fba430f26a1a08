"""What tests share: no network, and one small but real run of the whole pipeline in a copy of the project."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.bundle import Bundle, load_bundle
from serving.policy import load_policy
from serving.scorer import Scorer

pytest_plugins = ["tests.postgres"]

ROOT = Path(__file__).parent.parent
PROJECT = (
    *("pipeline", "training", "serving", "configs", "corpus", "data", "tests/model/suite"),
    *("dvc.yaml", ".dvcignore", "constraints.txt"),
)
BUNDLE_VARIABLE = "SIMMER_TEST_BUNDLE"  # a bundle to test instead of training one


class NetworkUsed(AssertionError):
    """A test spoke to something that is not this machine."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only loopback and local sockets can be connected to."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise NetworkUsed(f"connection to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@dataclass(frozen=True)
class Workshop:
    """A copy of the project in which the pipeline runs; nothing of the real one is touched."""

    root: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy, with the copy's modules and no network for hub clients."""
        scripts = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "HF_HUB_OFFLINE": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} failed\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def configure(self, file: str, section: str, **values: Any) -> None:
        """Change keys of the bundled profile in a configuration file."""
        path = self.root / "configs" / file
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config[section]["bundled"] = {**config[section]["bundled"], **values}
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def copy_project(root: Path) -> Workshop:
    """A copy of what the pipeline needs, without corpora that are not the project's."""
    for name in PROJECT:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", "*.jsonl" if name == "data" else "")
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=ignore)
        else:
            shutil.copy(source, root / name)
    return Workshop(root)


@pytest.fixture(scope="session")
def empty_workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The copy, before anything ran."""
    workshop = copy_project(tmp_path_factory.mktemp("workshop"))
    workshop.run("dvc", "init", "--no-scm", "-q")
    return workshop


@pytest.fixture(scope="session")
def workshop(empty_workshop: Workshop) -> Workshop:
    """The copy after `dvc repro` of a short training on the whole bundled corpus, registered as @champion."""
    empty_workshop.configure("train.yaml", "train", epochs=1)
    empty_workshop.configure("train.yaml", "evaluate", bootstrap=50, slice_bootstrap=20)
    empty_workshop.configure("train.yaml", "baselines", bootstrap=20, train_rows=300, test_rows=300)
    empty_workshop.configure("train.yaml", "export", max_label_disagreement=0.05)  # one epoch leaves it undecided
    empty_workshop.configure("train.yaml", "behaviour", gate={"max_failure_rate": {"default": 1.0}, "margin": 0.0})
    empty_workshop.run("dvc", "repro")
    empty_workshop.run(sys.executable, "-m", "training.register", "--alias", "champion")
    return empty_workshop


@pytest.fixture(scope="session")
def bundle_path(request: pytest.FixtureRequest) -> Path:
    """A bundle with a model that was trained, if briefly."""
    given = os.environ.get(BUNDLE_VARIABLE)
    if given:
        return Path(given).resolve()
    workshop: Workshop = request.getfixturevalue("workshop")
    return workshop.root / "models" / "current"


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """The loaded bundle. Not to be changed."""
    return load_bundle(bundle_path)


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def scorer(bundle: Bundle) -> Scorer:
    """The scorer over the bundle, with the project's policy."""
    return Scorer(bundle, load_policy(bundle.card.labels))
