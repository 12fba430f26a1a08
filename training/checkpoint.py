"""A trained model on disk between stages: safetensors weights, the encoder's config, the tokenizer, its vocabulary."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig

from pipeline.encode import Encoder, EncodingConfig
from pipeline.stage import BUILD
from pipeline.vocabulary import Vocabulary
from training.model import SimmerModel, empty_encoder, load_encoder

MODEL = BUILD / "model"
WEIGHTS, ENCODER, TOKENIZER, VOCABULARY = "model.safetensors", "config.json", "tokenizer.json", "vocabulary.json"


def new_model(encoder: Path, vocabulary: Vocabulary, dropout: float) -> SimmerModel:
    """A model with the folder's pretrained encoder and fresh heads."""
    pad = pad_of(Tokenizer.from_file(str(encoder / TOKENIZER)))
    return SimmerModel(load_encoder(encoder), vocabulary, pad, dropout)


def save_model(folder: Path, model: SimmerModel, vocabulary: Vocabulary, encoder: Path) -> None:
    """Write the model so that `load_model` finds everything in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    model.encoder.config.save_pretrained(folder)
    shutil.copyfile(encoder / TOKENIZER, folder / TOKENIZER)
    (folder / VOCABULARY).write_text(vocabulary.model_dump_json(indent=2), encoding="utf-8")


def load_model(folder: Path) -> tuple[SimmerModel, Vocabulary]:
    """The saved model, ready to predict, and the heads it has."""
    vocabulary = load_saved_vocabulary(folder)
    encoder = empty_encoder(AutoConfig.from_pretrained(folder))
    model = SimmerModel(encoder, vocabulary, pad_of(Tokenizer.from_file(str(folder / TOKENIZER))), dropout=0.0)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval(), vocabulary


def load_saved_vocabulary(folder: Path) -> Vocabulary:
    """The heads a saved model has, without loading its weights."""
    return Vocabulary.model_validate_json((folder / VOCABULARY).read_text(encoding="utf-8"))


def pad_of(tokenizer: Tokenizer) -> int:
    """The padding token's id."""
    return Encoder(tokenizer, EncodingConfig(max_tokens=16, message_tokens=8, turn_tokens=4, earlier_turns=0)).pad
