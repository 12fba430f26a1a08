"""The reference is made of what was held back, as the model scores it, beside the tokens of what it was trained on."""

from __future__ import annotations

import pytest

from pipeline.bundle import load_bundle
from pipeline.conversation import Conversation, Turn
from pipeline.predictor import Predictor
from pipeline.prepare import PrepareConfig, prepare
from pipeline.splits import SplitConfig
from pipeline.vocabulary import load_vocabulary
from tests.serving.toy import ENCODING, make_bundle
from training.reference import reference

LABELS = {"frustration": 1}
SPLITS = SplitConfig(validation_share=0.2, test_share=0.2, near_duplicate=0.8, near_duplicate_words=9)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_bundle(make_bundle(tmp_path_factory.mktemp("toy") / "bundle")).predictor


def talk(number: int, split: str, text: str) -> Conversation:
    turns = (
        Turn(role="customer", text=f"{text} {number}", labels=LABELS),
        Turn(role="agent", text="which one is it please"),
        Turn(role="customer", text=f"the blue one {number}", labels=LABELS),
    )
    return Conversation(id=f"{split}{number}", turns=turns, meta={"source": "made", "split": split})


def test_held_back_messages_are_described(predictor: Predictor) -> None:
    texts = {
        "train": "where is my parcel",
        "validation": "I am furious",
        "test": "¿dónde está mi paquete señor?",
        "live": "not looked at",
    }
    talks = [talk(n, split, text) for split, text in texts.items() for n in range(10)]
    config = PrepareConfig(splits=SPLITS, encoding=ENCODING)
    dataset = prepare(talks, config, load_vocabulary(), predictor.encoder._tokenizer)
    found = reference(dataset, talks, predictor, ["en"])
    assert (found.messages, found.conversations) == (40, 20)
    judged = dict(zip(found.features["abstention"].names, found.features["abstention"].counts, strict=True))
    assert judged["language"] > 0
    assert judged["judged"] + judged["language"] == 40
    assert found.features["frustration"].messages == judged["judged"]
    assert found.knows()[predictor.encoder._tokenizer.token_to_id("[UNK]")]
    assert not found.knows()[predictor.encoder._tokenizer.token_to_id("furious")]  # only what was held back has it
    assert sum(found.features["novelty"].counts[1:]) == 10
