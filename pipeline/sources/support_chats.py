"""MAIA: real chats between agents and customers, the customer's side post-edited into English."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.conversation import Conversation, Turn
from pipeline.sources.signals import FILE as SIGNALS
from pipeline.sources.signals import HEADS, LABELLED_BY, load_signals
from pipeline.sources.source import Source, read_json_rows
from pipeline.vocabulary import Labels

FILE = "support_chats.jsonl"


def read(folder: Path) -> Iterator[Conversation]:
    """One conversation a chat, in English, customer turns labelled where `signals.jsonl` labels them."""
    signals = load_signals(folder, "support_chats")
    for row in read_json_rows(folder / FILE, {"id": str, "turns": list}, {"role": str, "text": str}):
        turns = tuple(_turn(turn, signals.get((row["id"], index))) for index, turn in enumerate(row["turns"]))
        yield Conversation(
            id=f"support_chats-{row['id']}",
            channel="chat",
            language="en",
            turns=turns,
            meta={"industry": "devices", "original": row["id"]},
        )


def _turn(turn: dict[str, Any], labels: Labels | None) -> Turn:
    return Turn(role=turn["role"], text=turn["text"], labels=labels)


SOURCE = Source(
    name="support_chats",
    title="MAIA customer-support chats (Unbabel)",
    licence="CC BY-ND 4.0, research use",
    home="https://github.com/Unbabel/MAIA-Chat",
    heads=HEADS,
    files=(FILE,),
    labels=(SIGNALS,),
    labelled_by=LABELLED_BY,
    warts=(
        "the customers wrote French or Portuguese; the English is a machine's, corrected by people",
        "#NAME#, #PRS_ORG# and the like stand for what was anonymised; notices of uploads stand among the turns",
        "few industries; strong frustration and high urgency are rare",
    ),
    read=read,
)
