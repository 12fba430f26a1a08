"""`simmer promote` and `simmer rollback` as a person meets them: accepted, refused by name, and what can go wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.bundle import LAYOUT, Bundle, bundle_digest, write_manifest
from pipeline.config import load_config
from pipeline.conversation import write_conversations
from pipeline.prepare import PrepareConfig, prepare
from pipeline.sources import read_sources
from pipeline.stage import read_json, write_json
from pipeline.vocabulary import load_vocabulary
from tests.training.test_registry import add, crown, empty_store, log, shop
from training import promote as module
from training.commands import promote, rollback
from training.registry import CHALLENGER, CHAMPION, Registry
from training.suite import load_suite

__all__ = ["empty_store", "shop"]
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow, of its own store
app = typer.Typer()
app.command()(promote)
app.command()(rollback)


@pytest.fixture(scope="module")
def dataset(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small dataset with the conversations that it comes from."""
    folder = tmp_path_factory.mktemp("build")
    talks = [c for n, c in enumerate(read_sources(["bundled"], folder)) if n % 6 == 0]
    config = load_config(PrepareConfig, "data.yaml", "prepare", "bundled")
    made = prepare(talks, config, load_vocabulary(), bundle.predictor.encoder._tokenizer)
    made.save_to_disk(str(folder / "dataset"))
    write_conversations(folder / "conversations.jsonl", talks)
    return folder


@pytest.fixture
def simmer(shop: Registry, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The command over the test's registry and dataset; its exit status and what it printed."""
    monkeypatch.setattr(module, "open_registry", lambda: shop)
    monkeypatch.setattr(module, "DATASET", dataset / "dataset")
    monkeypatch.setattr(module, "CONVERSATIONS", dataset / "conversations.jsonl")
    monkeypatch.setattr(module, "load_suite", lambda folder, labels: load_suite(folder, labels)[::10])
    monkeypatch.setattr(module, "out_of_bounds", lambda *_: [])
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def worsen(folder: Path) -> str:
    """Make a bundle blind to urgency; its new digest."""
    card = read_json(folder / LAYOUT.card)
    where = load_vocabulary().only(list(card["labels"]["heads"])).slices()["urgency"]
    scale = [0.0 if where.start <= n < where.stop else value for n, value in enumerate(card["calibration"]["scale"])]
    write_json(folder / LAYOUT.card, {**card, "calibration": {**card["calibration"], "scale": scale}, "golden": []})
    return write_manifest(folder)


def challenge(shop: Registry, number: str = "2") -> None:
    crown(shop, "1", "first")
    shop.point(CHALLENGER, shop.numbered(number))


def worse_challenger(shop: Registry, tmp_path: Path) -> None:
    challenge(shop)
    digest = worsen(tmp_path / "artifacts" / "2" / "artifacts" / "bundle")
    shop.client.set_model_version_tag("simmer", "2", "bundle", digest)


Run = Callable[..., tuple[int, str]]


def test_a_challenger_as_good_is_promoted_and_serves(simmer: Run, shop: Registry) -> None:
    challenge(shop)
    status, told = simmer("promote", "--by", "ann", "--why", "week 47")
    assert status == 0
    assert "models:/simmer/2 is @champion, in place of models:/simmer/1" in told
    assert bundle_digest(shop.current) == shop.numbered("2").digest
    entry: Any = log(shop)[-1]
    assert (entry["by"], entry["why"], entry["verdict"]["worse"]) == ("ann", "week 47", [])
    assert entry["verdict"]["judged"] > 50
    status, told = simmer("rollback", "--by", "ann")
    assert (status, told) == (0, "models:/simmer/1 is @champion again, in place of models:/simmer/2\n")
    assert bundle_digest(shop.current) == shop.numbered("1").digest
    status, told = simmer("rollback")
    assert status == 2
    assert "models:/simmer/1 took no other version's place" in told


def test_what_got_worse_is_named_and_nothing_moves(simmer: Run, shop: Registry, tmp_path: Path) -> None:
    worse_challenger(shop, tmp_path)
    status, told = simmer("promote")
    assert status == 1
    assert "worse: test split, bundled: urgency quadratic_kappa" in told
    assert "refused: models:/simmer/2 must not take the place of models:/simmer/1" in told
    tables = told.split("note:")[0].split("worse:")[0].splitlines()
    assert len(tables) > 20
    assert all(len(line) <= 80 for line in tables)
    assert str(shop.at(CHAMPION)) == "models:/simmer/1"
    assert len(log(shop)) == 1


def test_json_holds_every_figure_and_nothing_else(simmer: Run, shop: Registry, tmp_path: Path) -> None:
    worse_challenger(shop, tmp_path)
    done = CliRunner().invoke(app, ["promote", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (told["promoted"], told["refused"], told["champion"]) == (False, True, "models:/simmer/1")
    named = {(f["where"], f["head"]) for f in told["figures"] if f["worse"]}
    assert ("test split, bundled", "urgency") in named
    assert {head for _, head in named} <= {"urgency", "cases"}


def test_a_dry_run_moves_nothing(simmer: Run, shop: Registry) -> None:
    challenge(shop)
    status, told = simmer("promote", "--dry-run")
    assert status == 0
    assert "models:/simmer/2 could take the place of models:/simmer/1" in told
    assert str(shop.at(CHAMPION)) == "models:/simmer/1"


def test_folders_are_compared_without_a_registry(simmer: Run, shop: Registry, tmp_path: Path) -> None:
    folders = [tmp_path / "artifacts" / number / "artifacts" / "bundle" for number in "12"]
    status, told = simmer("promote", "--challenger", str(folders[1]), "--champion", str(folders[0]))
    assert status == 0
    assert "nothing moved: folders are compared, what the registry holds is promoted" in " ".join(told.split())
    assert shop.at(CHAMPION) is None


def test_the_first_champion_is_compared_with_nothing(simmer: Run, shop: Registry) -> None:
    shop.point(CHALLENGER, shop.numbered("2"))
    status, told = simmer("promote")
    assert status == 2
    assert "no @champion in the registry" in told
    assert "--first" in told
    status, told = simmer("promote", "--first")
    assert status == 0
    assert bundle_digest(shop.current) == shop.numbered("2").digest
    status, told = simmer("promote", "--first")
    assert status == 2
    assert "there is a champion, models:/simmer/2" in " ".join(told.split())


def test_a_first_champion_stays_within_the_suites_bounds(
    simmer: Run, shop: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.point(CHALLENGER, shop.numbered("2"))
    monkeypatch.setattr(module, "out_of_bounds", lambda *_: ["sarcasm (90% of 24 cases fail, at most 55%)"])
    status, told = simmer("promote", "--first")
    assert status == 1
    assert "out of bounds: behaviour sarcasm (90% of 24 cases fail" in told
    assert shop.at(CHAMPION) is None


def test_without_a_challenger_there_is_nothing_to_promote(simmer: Run, shop: Registry) -> None:
    crown(shop, "1", "first")
    status, told = simmer("promote")
    assert status == 2
    assert "no @challenger in the registry" in told


def test_the_champion_challenging_itself_is_left_alone(simmer: Run, shop: Registry) -> None:
    challenge(shop, "1")
    assert simmer("promote") == (0, "models:/simmer/1 is @champion already\n")
    assert len(log(shop)) == 1


def test_a_champion_whose_bundle_is_gone_is_named(simmer: Run, shop: Registry, tmp_path: Path) -> None:
    challenge(shop)
    shutil.rmtree(shop.bundles)
    shutil.rmtree(tmp_path / "artifacts" / "1")
    status, told = simmer("promote")
    assert status == 2
    assert "models:/simmer/1: its bundle is gone" in told


def test_another_vocabulary_is_refused_by_name(simmer: Run, shop: Registry, tmp_path: Path, bundle_path: Path) -> None:
    crown(shop, "1", "first")
    version = add(shop, bundle_path, tmp_path / "artifacts" / "4", "other")
    folder = tmp_path / "artifacts" / "4" / "artifacts" / "bundle"
    card = read_json(folder / LAYOUT.card)
    card["labels"]["heads"]["urgency"]["values"] = ["low", "normal", "high", "blocking"]
    write_json(folder / LAYOUT.card, {**card, "golden": []})
    shop.client.set_model_version_tag("simmer", version.number, "bundle", write_manifest(folder))
    shop.point(CHALLENGER, shop.numbered(version.number))
    status, told = simmer("promote")
    assert status == 2
    assert "urgency: other values or another kind" in told


def test_without_a_dataset_nothing_can_be_compared(
    simmer: Run, shop: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge(shop)
    monkeypatch.setattr(module, "DATASET", tmp_path / "nowhere")
    status, told = simmer("promote")
    assert status == 2
    assert "no dataset in build/: run dvc repro" in told


def test_the_shadow_shows_where_the_two_differ(simmer: Run, shop: Registry, tmp_path: Path) -> None:
    worse_challenger(shop, tmp_path)
    history = tmp_path / "history.jsonl"
    texts = ["My heating is out and the baby is freezing, please come today!", "Thanks, all good."]
    rows = [{"id": f"c{n}", "text": text} for n, text in enumerate(texts)]
    history.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "bad"}]), encoding="utf-8")
    done = CliRunner().invoke(app, ["promote", "--dry-run", "--json", "--shadow", str(history)])
    shadow = json.loads(done.stdout)["shadow"]
    assert (shadow["answers"], shadow["unmatched"]) == (2, 0)
    assert shadow["levels"]["urgency"] > 0
    assert {example["id"] for example in shadow["examples"]} <= {"c0", "c1"}
    assert "heating" not in done.stdout


def test_a_registry_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("not a database", encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    for command in ("promote", "rollback"):
        done = CliRunner().invoke(app, [command])
        assert done.exit_code == 2
        assert "error: the registry does not answer: " in done.output


def test_a_history_that_is_not_there_is_named(simmer: Run, shop: Registry, tmp_path: Path) -> None:
    challenge(shop)
    status, told = simmer("promote", "--shadow", str(tmp_path / "none.jsonl"))
    assert status == 2
    assert "no such file" in told


def test_without_training_installed_the_command_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "training.promote")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "training.registry", None)
    done = CliRunner().invoke(app, ["promote"])
    assert done.exit_code == 2
    assert "pip install 'simmer[train]'" in done.output
