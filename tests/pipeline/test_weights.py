from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, WeightsChanged, check_weights, encoder_folder

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_packaged_weights_are_the_expected_ones() -> None:
    encoder = TrainedEncoder(name=BUNDLED_ENCODER, sha256=SHA256)
    check_weights(encoder, encoder_folder(encoder))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other")
    encoder = TrainedEncoder(name=str(tmp_path), sha256=SHA256)
    with pytest.raises(WeightsChanged, match=f"expected {SHA256}"):
        check_weights(encoder, encoder_folder(encoder))


def test_weights_without_an_expectation_pass(tmp_path: Path) -> None:
    check_weights(TrainedEncoder(name=str(tmp_path)), tmp_path)
