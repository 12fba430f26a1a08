"""MAIA-DQE: real support chats whose sentences carry emotions named by professional annotators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.conversation import Conversation, Turn
from pipeline.sources.signals import FILE as SIGNALS
from pipeline.sources.signals import HEADS, LABELLED_BY, load_signals
from pipeline.sources.source import FormatChanged, Source, read_json_rows
from pipeline.vocabulary import Labels

FILE = "support_chats_emotion.jsonl"
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read(folder: Path) -> Iterator[Conversation]:
    """One conversation a chat; a customer turn's emotions are those of any of its sentences."""
    signals = load_signals(folder, "support_chats_emotion")
    fields = {"id": str, "split": str, "turns": list}
    for row in read_json_rows(folder / FILE, fields, {"role": str, "text": list, "emotion": list}):
        if row["split"] not in SPLITS:
            raise FormatChanged(f"{FILE} {row['id']}: split: {row['split']!r} is none of {', '.join(SPLITS)}")
        turns = tuple(_turn(turn, signals.get((row["id"], index), {})) for index, turn in enumerate(row["turns"]))
        yield Conversation(
            id=f"support_chats_emotion-{row['id']}",
            channel="chat",
            language="en",
            turns=turns,
            meta={"industry": "devices", "original": row["id"], "split": SPLITS[row["split"]]},
        )


def _turn(turn: dict[str, Any], signals: Labels) -> Turn:
    text = " ".join(turn["text"])
    if turn["role"] != "customer":
        return Turn(role=turn["role"], text=text)
    return Turn(role="customer", text=text, labels={"emotion": tuple(dict.fromkeys(turn["emotion"])), **signals})


SOURCE = Source(
    name="support_chats_emotion",
    title="MAIA-DQE: dialogue quality and emotion annotations (Unbabel)",
    licence="CC BY-ND 4.0, research use",
    home="https://github.com/Unbabel/MAIA_DQE",
    heads=("emotion", *HEADS),
    files=(FILE,),
    labels=(SIGNALS,),
    labelled_by=f"professional annotators by the sentence (emotion); {LABELLED_BY} (the others, in part)",
    warts=(
        "the customers wrote German or Portuguese and are read in English translation",
        "most of its Portuguese chats are also in support_chats, under the same id",
        "an emotion of any sentence counts for the whole turn",
    ),
    read=read,
)
