"""Aliases, bundles and what serves, in a registry of the test's own."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from pipeline.bundle import LAYOUT, BundleRefused, bundle_digest, check_manifest, load_bundle, write_manifest
from pipeline.stage import read_json, write_json
from training import registry as module
from training.registry import (
    CHALLENGER,
    CHAMPION,
    NAME,
    PREVIOUS,
    Move,
    Registry,
    RegistryError,
    Version,
    open_registry,
)

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow, of its own store
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with its tables made, which takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def shop(empty_store: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of three versions of a model; their artifacts lie under `artifacts`."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(module, "BUNDLE", tmp_path / "build" / "bundle")
    monkeypatch.setattr(module, "load_bundle", check_manifest)  # the whole check takes a second; one test has it
    (tmp_path / "models").mkdir()
    opened = open_registry()
    shop = Registry(opened.client, opened.log, tmp_path / "models" / "current")
    shop.client.create_registered_model(NAME)
    for number in "123":
        add(shop, bundle_path, tmp_path / "artifacts" / number, number)
    return shop


def variant(bundle_path: Path, folder: Path, run: str) -> str:
    """A bundle that differs from another in its run, and carries no float original worth its size; its digest."""
    folder.mkdir(parents=True)
    for name in LAYOUT.hashed:
        if name == LAYOUT.original:
            (folder / name).write_bytes(b"float")
        else:
            shutil.copy(bundle_path / name, folder / name)
    write_json(folder / LAYOUT.card, {**read_json(folder / LAYOUT.card), "mlflow_run_id": run})
    return write_manifest(folder)


def add(shop: Registry, bundle_path: Path, folder: Path, run: str) -> Version:
    """Register a bundle as MLflow would lay it down."""
    digest = variant(bundle_path, folder / "artifacts" / "bundle", run)
    about = {"flavors": {"python_function": {"artifacts": {"bundle": {"path": "artifacts/bundle"}}}}}
    (folder / "MLmodel").write_text(yaml.safe_dump(about), encoding="utf-8")
    made = shop.client.create_model_version(NAME, folder.as_uri(), tags={"bundle": digest})
    return shop.numbered(str(made.version))


def crown(shop: Registry, number: str, action: str = "promote") -> None:
    shop.crown(shop.numbered(number), shop.at(CHAMPION), Move(action, "ann", "because", NOW, {"refused": False}))


def served(shop: Registry) -> str:
    """The version that serves, its bundle whole."""
    found = read_json(shop.current / LAYOUT.registration)
    assert found["bundle"] == check_manifest(shop.current) == shop.numbered(found["version"]).digest
    return str(found["version"])


def log(shop: Registry) -> list[dict[str, object]]:
    return [json.loads(line) for line in shop.log.read_text(encoding="utf-8").splitlines()]


def test_an_alias_that_is_not_there_names_nothing(shop: Registry) -> None:
    assert shop.at(CHAMPION) is None
    assert shop.find("sha256:nothing") is None


def test_a_bundle_comes_whole_from_the_registry_and_knows_its_version(shop: Registry) -> None:
    version = shop.numbered("2")
    bundle = load_bundle(shop.bundle(version))
    assert (bundle.version, bundle.digest) == ("2", version.digest)
    assert shop.find(bundle.digest) == version


def test_the_champion_serves_at_once_and_is_remembered(shop: Registry) -> None:
    crown(shop, "1", "first")
    crown(shop, "2")
    assert bundle_digest(shop.current) == shop.numbered("2").digest
    assert served(shop) == "2"
    assert [str(shop.at(alias)) for alias in (CHAMPION, PREVIOUS)] == ["models:/simmer/2", "models:/simmer/1"]
    assert [(e["action"], e["from"], e["to"], e["by"]) for e in log(shop)] == [
        ("first", None, "1", "ann"),
        ("promote", "1", "2", "ann"),
    ]
    tags = shop.client.get_model_version(NAME, "2").tags
    assert tags["promote"] == "2026-11-25T12:00:00+00:00 by ann: because"


def test_going_back_goes_back_step_by_step(shop: Registry) -> None:
    for number in "123":
        crown(shop, number)
    for number, before in (("2", "1"), ("1", None)):
        crown(shop, str(shop.at(CHAMPION).previous), "rollback")  # type: ignore[union-attr]
        champion = shop.at(CHAMPION)
        assert champion is not None
        assert (champion.number, champion.previous) == (number, before)
        assert bundle_digest(shop.current) == champion.digest
    assert shop.at(PREVIOUS) is None


def test_what_serves_is_swapped_in_one_step(shop: Registry) -> None:
    """Whoever holds the folder that served goes on reading it; the link never points nowhere."""
    crown(shop, "1")
    held = shop.current.resolve()
    crown(shop, "2")
    assert shop.current.is_symlink()
    assert bundle_digest(held) == shop.numbered("1").digest
    crown(shop, "3")
    assert not held.exists()
    assert sorted(path.name for path in shop.bundles.iterdir()) == sorted(
        shop.numbered(number).digest.removeprefix("sha256:")[:16] for number in "23"
    )


def test_a_folder_put_there_by_hand_makes_way(shop: Registry, bundle_path: Path) -> None:
    variant(bundle_path, shop.current, "by hand")
    crown(shop, "1")
    assert served(shop) == "1"
    assert read_json(shop.bundles / "before" / LAYOUT.card)["mlflow_run_id"] == "by hand"


def test_the_champion_again_is_put_right_and_not_logged(shop: Registry) -> None:
    crown(shop, "1")
    shop.current.unlink()
    crown(shop, "1")
    assert served(shop) == "1"
    assert len(log(shop)) == 1


def test_a_champion_that_moved_meanwhile_is_not_overrun(shop: Registry) -> None:
    crown(shop, "1")
    seen = shop.at(CHAMPION)
    crown(shop, "2")
    with pytest.raises(RegistryError, match="moved meanwhile, to models:/simmer/2; nothing was done"):
        shop.crown(shop.numbered("3"), seen, Move("promote", "ben", "", NOW))
    assert str(shop.at(CHAMPION)) == "models:/simmer/2"
    assert len(log(shop)) == 2


def test_a_bundle_that_must_not_serve_is_refused_before_anything_moves(
    shop: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crown(shop, "1")
    monkeypatch.setattr(module, "load_bundle", load_bundle)
    folder = tmp_path / "artifacts" / "2" / "artifacts" / "bundle"
    card = read_json(folder / LAYOUT.card)
    golden = [{**card["golden"][0], "probabilities": [0.0] * len(card["golden"][0]["probabilities"])}]
    write_json(folder / LAYOUT.card, {**card, "golden": golden})
    shop.client.set_model_version_tag(NAME, "2", "bundle", write_manifest(folder))
    with pytest.raises(BundleRefused, match="drifted"):
        crown(shop, "2")
    assert str(shop.at(CHAMPION)) == "models:/simmer/1"
    assert served(shop) == "1"


def test_changed_artifacts_are_refused(shop: Registry, tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "1" / "artifacts" / "bundle" / LAYOUT.tokenizer).write_text("{}", encoding="utf-8")
    with pytest.raises(RegistryError, match="models:/simmer/1: its files are not those that were registered"):
        shop.bundle(shop.numbered("1"))
    assert list(shop.bundles.iterdir()) == []


def test_artifacts_that_are_gone_are_named_unless_the_bundle_still_serves(shop: Registry, tmp_path: Path) -> None:
    crown(shop, "1")
    shutil.rmtree(tmp_path / "artifacts")
    assert bundle_digest(shop.bundle(shop.numbered("1"))) == shop.numbered("1").digest
    with pytest.raises(RegistryError, match="models:/simmer/2: its bundle is gone from the registry's artifacts"):
        shop.bundle(shop.numbered("2"))


def test_a_spoilt_copy_is_fetched_anew(shop: Registry) -> None:
    folder = shop.bundle(shop.numbered("1"))
    (folder / LAYOUT.tokenizer).write_text("{}", encoding="utf-8")
    assert check_manifest(shop.bundle(shop.numbered("1"))) == shop.numbered("1").digest


def test_a_version_that_was_deleted_is_named(shop: Registry) -> None:
    shop.client.delete_model_version(NAME, "2")
    with pytest.raises(RegistryError, match="models:/simmer/2: "):
        shop.numbered("2")


def test_a_challenger_waits_where_nothing_serves_by_it(shop: Registry) -> None:
    crown(shop, "1")
    shop.point(CHALLENGER, shop.numbered("2"))
    assert bundle_digest(shop.current) == shop.numbered("1").digest
    assert len(log(shop)) == 1


def test_the_log_lies_beside_the_registry(shop: Registry, tmp_path: Path) -> None:
    assert shop.log == tmp_path / "promotions.jsonl"
    assert mlflow.get_tracking_uri().endswith("mlflow.db")
