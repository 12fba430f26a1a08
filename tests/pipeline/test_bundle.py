from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.bundle import LAYOUT, Bundle, BundleRefused, load_bundle, write_manifest


def test_a_bundle_loads_and_names_itself(bundle: Bundle) -> None:
    assert bundle.digest.startswith("sha256:")
    assert bundle.card.golden


@pytest.mark.parametrize("name", LAYOUT.hashed)
def test_one_changed_byte_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    path = bundle_copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleRefused, match=rf"{name} was changed"):
        load_bundle(bundle_copy)


@pytest.mark.parametrize("name", LAYOUT.hashed)
def test_a_missing_file_is_refused_by_name(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    with pytest.raises(BundleRefused, match=f"{name} is missing"):
        load_bundle(bundle_copy)


def test_a_file_that_the_manifest_leaves_out_is_refused(bundle_copy: Path) -> None:
    manifest = bundle_copy / LAYOUT.manifest
    lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if LAYOUT.tokenizer not in line), encoding="utf-8")
    with pytest.raises(BundleRefused, match=f"does not list {LAYOUT.tokenizer}"):
        load_bundle(bundle_copy)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="is this a bundle"):
        load_bundle(tmp_path)


def change_card(folder: Path, **values: object) -> None:
    card = json.loads((folder / LAYOUT.card).read_text(encoding="utf-8"))
    (folder / LAYOUT.card).write_text(json.dumps({**card, **values}), encoding="utf-8")
    write_manifest(folder)


def test_another_format_is_refused(bundle_copy: Path) -> None:
    change_card(bundle_copy, format=99)
    with pytest.raises(BundleRefused, match="bundle format 99"):
        load_bundle(bundle_copy)


def test_a_card_with_an_unknown_field_is_refused(bundle_copy: Path) -> None:
    change_card(bundle_copy, surprise=1)
    with pytest.raises(BundleRefused, match="surprise"):
        load_bundle(bundle_copy)


def test_a_golden_input_that_scores_otherwise_is_refused_by_id(bundle_copy: Path) -> None:
    golden = json.loads((bundle_copy / LAYOUT.card).read_text(encoding="utf-8"))["golden"]
    golden[0]["probabilities"] = [1.0 - p for p in golden[0]["probabilities"]]
    change_card(bundle_copy, golden=golden)
    with pytest.raises(BundleRefused, match=golden[0]["conversation"]["id"]):
        load_bundle(bundle_copy)


def test_a_registration_of_another_bundle_is_not_believed(bundle_copy: Path) -> None:
    registration = {"name": "simmer", "version": "7", "bundle": "sha256:other"}
    (bundle_copy / LAYOUT.registration).write_text(json.dumps(registration), encoding="utf-8")
    assert load_bundle(bundle_copy).version is None
