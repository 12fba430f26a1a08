"""What MLflow is told of a run."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from pipeline.config import Config
from training.tracking import log_config, resume_run, start_run


class Settings(Config):
    depth: int
    rate: float


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow, of its own store
def test_a_stage_may_run_again_under_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_file = tmp_path / "run.json"
    with start_run("tiny", {}, run_file) as run_id:
        log_config("stage", Settings(depth=1, rate=0.5))
    with resume_run(run_file):
        log_config("stage", Settings(depth=2, rate=0.5))
    data = mlflow.get_run(run_id).data
    assert (data.params["stage.depth"], data.params["stage.rate"]) == ("1", "0.5")
    assert data.tags["stage.depth"] == "2"
    assert "stage.rate" not in data.tags
