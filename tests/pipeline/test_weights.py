import hashlib
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from pipeline.config import load_config
from pipeline.weights import (
    BUNDLED_ENCODER,
    TokenizerMissing,
    TrainedEncoder,
    WeightsChanged,
    check_weights,
    encoder_folder,
    load_tokenizer,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    shutil.copy(encoder_folder(TrainedEncoder(name=BUNDLED_ENCODER)) / "tokenizer.json", tmp_path)
    return tmp_path


def test_the_packaged_encoder_is_whole_and_the_one_configured() -> None:
    encoder = load_config(TrainedEncoder, "train.yaml", "encoder", "bundled")
    home = encoder_folder(encoder)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in home.iterdir()}
    assert encoder.sha256 is not None
    check_weights(encoder, home)


def test_a_folder_is_an_encoder(folder: Path) -> None:
    encoder = TrainedEncoder(name=str(folder))
    assert encoder_folder(encoder) == folder
    assert load_tokenizer(encoder).encode("late again").tokens[:4] == ["[CLS]", "late", "again", "[SEP]"]


def test_an_encoder_without_a_fast_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TokenizerMissing, match=r"no tokenizer\.json"):
        load_tokenizer(TrainedEncoder(name=str(tmp_path)))


def test_any_other_name_is_asked_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        assert "*.safetensors" in allow_patterns
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert encoder_folder(TrainedEncoder(name="someone/encoder")) == folder
    assert asked == ["someone/encoder"]


def test_changed_weights_are_refused_by_name(folder: Path) -> None:
    found = hashlib.sha256(b"weights").hexdigest()
    check_weights(TrainedEncoder(name="mine", sha256=found), folder)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(WeightsChanged, match=f"^mine: weights have .*expected {found}"):
        check_weights(TrainedEncoder(name="mine", sha256=found), folder)


def test_without_a_hash_any_weights_do(tmp_path: Path) -> None:
    check_weights(TrainedEncoder(name="mine"), tmp_path / "nowhere")
