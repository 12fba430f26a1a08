"""MLflow: one run a pipeline, opened by `train` and taken up again by the stages after it.

The store is SQLite at the project's root unless MLFLOW_TRACKING_URI says otherwise. A stage that DVC took from
its cache opens no run; the run's id travels in `build/run.json`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from pipeline.config import ROOT
from pipeline.stage import BUILD, METRICS, read_json, write_json

EXPERIMENT = "simmer"
SOURCES = ("pipeline", "training", "configs", "corpus", "dvc.yaml", "constraints.txt")
RUN_FILE = BUILD / "run.json"
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # what MLflow refuses in a name


def connect() -> None:
    """Point MLflow at the store and the experiment, making both if need be."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / 'mlflow.db'}"))
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        mlflow.create_experiment(EXPERIMENT, artifact_location=(ROOT / "mlruns").as_uri())
    mlflow.set_experiment(EXPERIMENT)


@contextmanager
def start_run(profile: str, tags: Mapping[str, str], run_file: Path = RUN_FILE) -> Iterator[str]:
    """A new run, its id written to `run_file`."""
    connect()
    with mlflow.start_run(tags={"profile": profile, "git_revision": git_revision(), **tags}) as run:
        write_json(run_file, {"run_id": run.info.run_id})
        yield run.info.run_id


@contextmanager
def resume_run(run_file: Path = RUN_FILE) -> Iterator[str]:
    """The run that `train` opened; a new one with the same purpose where the store no longer knows it."""
    connect()
    run_id = read_json(run_file)["run_id"]
    try:
        mlflow.get_run(run_id)
    except MlflowException:
        with mlflow.start_run(tags={"continues": run_id}) as run:
            yield run.info.run_id
        return
    with mlflow.start_run(run_id=run_id):
        yield run_id


def finish_stage(stage: str, config: BaseModel, metrics: Mapping[str, Any], artifacts: Path | None = None) -> None:
    """Write a stage's metrics file, and add config, metrics and a folder of files to the run that `train` opened."""
    write_json(METRICS / f"{stage}.json", metrics)
    with resume_run():
        log_config(stage, config)
        log_metrics(stage, metrics)
        if artifacts:
            mlflow.log_artifacts(str(artifacts), artifacts.name)


def log_config(section: str, config: BaseModel) -> None:
    """A stage's configuration as parameters of the current run, `section.key`.

    A stage that runs again under other settings keeps the first ones as parameters, which MLflow does not let change,
    and tells the new ones as tags of the same names.
    """
    wanted = {name: str(value) for name, value in flatten({section: config.model_dump(mode="json")}).items()}
    run = mlflow.active_run()
    told = mlflow.get_run(run.info.run_id).data.params if run else {}
    mlflow.log_params({name: value for name, value in wanted.items() if name not in told})
    mlflow.set_tags({name: value for name, value in wanted.items() if told.get(name, value) != value})


def log_metrics(section: str, metrics: Mapping[str, Any]) -> None:
    """Every number of a nested mapping as a metric of the current run, `section.path.to.number`."""
    numbers = {k: float(v) for k, v in flatten({section: metrics}).items() if isinstance(v, int | float)}
    mlflow.log_metrics(numbers)


def log_history(history: list[dict[str, float]]) -> None:
    """The Trainer's log as curves over steps."""
    for entry in history:
        step = int(entry["step"])
        mlflow.log_metrics({f"curve.{k}": float(v) for k, v in entry.items() if k != "step"}, step=step)


def flatten(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one level with dotted names that MLflow accepts."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        name = before + _FORBIDDEN.sub("", str(key))
        flat |= flatten(inner, f"{name}.") if isinstance(inner, Mapping) else {name: inner}
    return flat


def git_revision() -> str:
    """The revision of what a model comes from, `-dirty` where that has changes, `unknown` outside git."""
    revision = _git("rev-parse", "HEAD")
    if not revision:
        return "unknown"
    return revision + ("-dirty" if _git("status", "--porcelain", "--", *SOURCES) else "")


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()
