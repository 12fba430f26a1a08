"""The toy bundle, once as it was before there were references, and once with one of messages that it can read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline.bundle import LAYOUT, Card, load_bundle, read_card, write_manifest
from pipeline.conversation import Conversation, Turn
from pipeline.encode import Encoder, read_turn
from pipeline.reference import describe, look
from tests.serving.toy import ENCODING

WORDS = ("manager", "lawyer", "soon", "parcel", "refund", "please", "late")


def sentence(rng: np.random.Generator, hot: float = 0.1) -> str:
    """A few words, now and then a hot one."""
    words = [str(word) for word in rng.choice(WORDS[3:], rng.integers(4, 12))]
    if rng.random() < hot:
        words.append(str(rng.choice(["furious", "urgent", "manager"])))
    return " ".join(words)


@pytest.fixture(scope="session")
def toy_card(toy: Path) -> Card:
    return read_card(toy / LAYOUT.card)


@pytest.fixture(scope="session")
def referenced(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy with a reference in its card."""
    folder = Path(shutil.copytree(toy, tmp_path_factory.mktemp("referenced") / "bundle"))
    card, rng = read_card(folder / LAYOUT.card), np.random.default_rng(5)
    talks = [Conversation(id=f"r{n}", turns=(Turn(role="customer", text=sentence(rng)),)) for n in range(400)]
    predictor = load_bundle(folder).predictor
    given = [read_turn(talk, 0, ENCODING) for talk in talks]
    chances: Sequence[np.ndarray] = list(predictor.predict(given))  # type: ignore[type-arg]
    seen = look(predictor.encoder, [talk.id for talk in talks], given, chances, [None] * len(talks))
    described = describe(seen, [one.tokens for one in seen], card.labels)
    (folder / LAYOUT.card).write_text(card.model_copy(update={"reference": described}).model_dump_json())
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(toy: Path) -> Encoder:
    return Encoder(Tokenizer.from_file(str(toy / LAYOUT.tokenizer)), ENCODING)
