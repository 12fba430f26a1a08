"""A very small pretrained encoder with a tokenizer of its own, and a dataset of messages that words decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel

from pipeline.conversation import parse_row
from pipeline.encode import Encoder, EncodingConfig, read_turn
from pipeline.prepare import FEATURES, targets
from pipeline.vocabulary import AnyOf, Labels, load_vocabulary

TEXTS = [
    "still no refund",
    "thanks a lot",
    "my parcel is late again",
    "where is my order?",
    "agent: customer: [NAME] ^",
]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hub would hand it over: config.json, tokenizer.json, model.safetensors."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


ENCODING = EncodingConfig(max_tokens=32, message_tokens=24, turn_tokens=8, earlier_turns=0)
GOOD, BAD, PLAIN = "thanks a lot, this is great", "awful, my parcel is late again", "where is my order?"
NEGATIVE = AnyOf(any_of=("very_negative", "negative"))


@pytest.fixture(scope="session")
def tiny_dataset(tiny_encoder: Path) -> DatasetDict:
    """Praise, complaints and questions in turn; two corpora, two industries, some labels coarse."""
    encoder = Encoder(Tokenizer.from_file(str(tiny_encoder / "tokenizer.json")), ENCODING)
    sizes = {"train": 60, "validation": 30, "test": 36, "live": 3}
    return DatasetDict(
        {
            split: Dataset.from_list([tiny_row(split, n, encoder) for n in range(size)], features=FEATURES)
            for split, size in sizes.items()
        }
    )


def tiny_row(split: str, number: int, encoder: Encoder) -> dict[str, Any]:
    """One of three kinds of message, with a word of its own."""
    kind = number % 3
    text = f"{(GOOD, BAD, PLAIN)[kind]} {number}"
    labels: Labels = {
        "sentiment": ("positive", NEGATIVE if number % 2 else "negative", "neutral")[kind],
        "frustration": (0, 2, 0)[kind],
        "signals": ("repeat_contact",) if kind == 1 else (),
        "airline_sentiment": ("positive", "negative", "neutral")[kind],
        "complaint": kind == 1,
    }
    vocabulary = load_vocabulary()
    encoded = encoder.encode(read_turn(parse_row({"id": "a", "text": text}), 0, ENCODING))
    target, known = targets(labels, vocabulary)
    return {
        "conversation": f"{split}-{number}",
        "turn": 0,
        "source": "posts" if number % 4 == 3 else "bundled",
        "channel": "chat",
        "industry": "rail" if number % 5 == 0 else "bank",
        "split": split,
        "text": text,
        "input_ids": encoded.ids,
        "token_type_ids": encoded.segments,
        "target": target,
        "known": known,
    }
