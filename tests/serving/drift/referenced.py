"""The toy bundle with a reference in its card, and messages that it can read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.bundle import LAYOUT, load_bundle, read_card, write_manifest
from pipeline.conversation import Conversation, Turn
from pipeline.encode import read_turn
from pipeline.reference import describe, look
from tests.serving.toy import ENCODING

WORDS = ("manager", "lawyer", "soon", "parcel", "refund", "please", "late")


def sentence(rng: np.random.Generator, hot: float = 0.1) -> str:
    """A few words, now and then a hot one."""
    words = [str(word) for word in rng.choice(WORDS[3:], rng.integers(4, 12))]
    if rng.random() < hot:
        words.append(str(rng.choice(["furious", "urgent", "manager"])))
    return " ".join(words)


def with_reference(toy: Path, folder: Path) -> Path:
    """A copy of the toy whose reference are such messages."""
    shutil.copytree(toy, folder)
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
