import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle import (
    LAYOUT,
    Bundle,
    BundleRefused,
    bundle_digest,
    check_manifest,
    load_bundle,
    write_manifest,
)
from pipeline.encode import Earlier, Input
from pipeline.text import Cleaned


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / LAYOUT.card).read_text(encoding="utf-8"))
    change(card)
    (folder / LAYOUT.card).write_text(json.dumps(card), encoding="utf-8")
    write_manifest(folder)


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A folder that looks like a bundle as far as hashes go."""
    for name in LAYOUT.hashed:
        (tmp_path / name).write_text(name, encoding="utf-8")
    write_manifest(tmp_path)
    return tmp_path


def test_a_bundle_knows_what_it_is(bundle: Bundle, bundle_path: Path) -> None:
    assert bundle.digest == bundle_digest(bundle_path) == check_manifest(bundle_path)
    assert bundle.digest.startswith("sha256:")
    assert bundle.card.golden
    assert bundle.predictor.vocabulary == bundle.card.labels


def test_golden_inputs_score_as_they_did(bundle: Bundle) -> None:
    bundle.replay_golden()


def test_predictions_are_distributions_and_do_not_depend_on_company(bundle: Bundle) -> None:
    given = [Input(Cleaned(text), (Earlier("agent", "Hello"),)) for text in ("late again!", "thanks", "why? " * 40)]
    together = bundle.predictor.predict(given)
    alone = np.concatenate([bundle.predictor.predict([one]) for one in given])
    assert np.abs(together - alone).max() < 0.05
    for name, where in bundle.card.labels.slices().items():
        if bundle.card.labels.heads[name].exclusive:
            assert np.allclose(together[:, where].sum(axis=1), 1)
    assert ((together >= 0) & (together <= 1)).all()


@pytest.mark.parametrize("name", LAYOUT.hashed)
def test_a_changed_file_is_refused_by_name(stub: Path, name: str) -> None:
    with (stub / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleRefused, match=f"{name} was changed after export"):
        load_bundle(stub)


@pytest.mark.parametrize("name", LAYOUT.hashed)
def test_a_missing_file_is_refused_by_name(stub: Path, name: str) -> None:
    (stub / name).unlink()
    with pytest.raises(BundleRefused, match=f"{name} is missing"):
        load_bundle(stub)


@pytest.mark.parametrize("name", LAYOUT.hashed)
def test_a_file_that_the_manifest_leaves_out_is_refused_by_name(stub: Path, name: str) -> None:
    manifest = stub / LAYOUT.manifest
    lines = manifest.read_text(encoding="ascii").splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if not line.endswith(f"  {name}\n")), encoding="ascii")
    with pytest.raises(BundleRefused, match=f"does not list {name}"):
        load_bundle(stub)


def test_a_folder_without_a_manifest_is_no_bundle(stub: Path) -> None:
    (stub / LAYOUT.manifest).unlink()
    with pytest.raises(BundleRefused, match=rf"{stub}: no {LAYOUT.manifest}"):
        load_bundle(stub)


def test_a_manifest_of_rubbish_is_refused(stub: Path) -> None:
    (stub / LAYOUT.manifest).write_bytes(b"\xff\x00 rubbish\n\n")
    with pytest.raises(BundleRefused, match=LAYOUT.card):
        load_bundle(stub)


def test_the_manifest_is_what_sha256sum_writes(stub: Path) -> None:
    for line in (stub / LAYOUT.manifest).read_text(encoding="ascii").splitlines():
        digest, name = line.split("  ")
        assert len(digest) == 64
        assert name in LAYOUT.hashed


def test_the_digest_changes_with_any_file(stub: Path) -> None:
    before = bundle_digest(stub)
    (stub / LAYOUT.tokenizer).write_text("other", encoding="utf-8")
    assert write_manifest(stub) == bundle_digest(stub) != before


def test_a_tampered_real_bundle_does_not_load(bundle_copy: Path) -> None:
    with (bundle_copy / LAYOUT.engine_weights).open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BundleRefused, match=LAYOUT.engine_weights):
        load_bundle(bundle_copy)


@pytest.mark.parametrize("found", [0, 2, "1", None])
def test_a_bundle_of_another_format_is_refused(bundle_path: Path, stub: Path, found: object) -> None:
    shutil.copy(bundle_path / LAYOUT.card, stub)
    change_card(stub, lambda card: card.update(format=found))
    with pytest.raises(BundleRefused, match=rf"{LAYOUT.card}: bundle format {found}, this version reads 1"):
        load_bundle(stub)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda card: card.pop("calibration"), "calibration"),
        (lambda card: card.update(colour="red"), "colour"),
        (lambda card: card["encoding"].update(max_tokens=5), "max_tokens"),
        (lambda card: card["labels"]["heads"]["urgency"].update(kind="mood"), "urgency"),
    ],
)
def test_a_card_with_a_wrong_field_is_refused_by_field(
    bundle_path: Path, stub: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    shutil.copy(bundle_path / LAYOUT.card, stub)
    change_card(stub, change)
    with pytest.raises(BundleRefused, match=f"{LAYOUT.card}.*{named}"):
        load_bundle(stub)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_card_that_is_no_card_is_refused(stub: Path, text: str) -> None:
    (stub / LAYOUT.card).write_text(text, encoding="utf-8")
    write_manifest(stub)
    with pytest.raises(BundleRefused, match=LAYOUT.card):
        load_bundle(stub)


def spoil_golden(card: dict[str, Any]) -> None:
    first = card["golden"][0]["probabilities"]
    first[0] = first[0] + 0.2 if first[0] < 0.5 else first[0] - 0.2


def spoil_calibration(card: dict[str, Any]) -> None:
    card["calibration"]["shift"] = [value + 3 * (n % 2) for n, value in enumerate(card["calibration"]["shift"])]


@pytest.mark.parametrize("spoil", [spoil_golden, spoil_calibration])
def test_a_bundle_that_no_longer_scores_as_it_did_is_refused(
    bundle_copy: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    name = json.loads((bundle_copy / LAYOUT.card).read_text(encoding="utf-8"))["golden"][0]["conversation"]["id"]
    change_card(bundle_copy, spoil)
    with pytest.raises(BundleRefused, match=rf"golden input {name} drifted by 0\.\d+ \(at most 0\.05\)"):
        load_bundle(bundle_copy)


def test_a_bundle_carries_the_version_it_was_registered_as(bundle_copy: Path) -> None:
    registration = bundle_copy / LAYOUT.registration
    registration.write_text(json.dumps({"version": 3, "bundle": bundle_digest(bundle_copy)}), encoding="utf-8")
    assert load_bundle(bundle_copy).version == "3"
    registration.write_text(json.dumps({"version": 3, "bundle": "sha256:of-another"}), encoding="utf-8")
    assert load_bundle(bundle_copy).version is None
