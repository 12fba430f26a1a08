"""EPITOME: a person in distress and one reply judged for empathy. Text to pre-train on; no head learns it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.conversation import Conversation, Turn
from pipeline.sources.source import Source, read_json_rows

FILE = "empathic_replies.jsonl"
SCALES = ("emotional_reactions", "interpretations", "explorations")


def read(folder: Path) -> Iterator[Conversation]:
    """One conversation of two turns a row; the reply's three scores, each 0 to 2, stand in `meta`."""
    fields = {"id": str, "customer": str, "reply": str, **dict.fromkeys(SCALES, int)}
    for row in read_json_rows(folder / FILE, fields):
        yield Conversation(
            id=f"empathic_replies-{row['id']}",
            channel="social",
            language="en",
            turns=(Turn(role="customer", text=row["customer"]), Turn(role="agent", text=row["reply"])),
            meta={"industry": "peer support", **{scale: row[scale] for scale in SCALES}},
        )


SOURCE = Source(
    name="empathic_replies",
    title="EPITOME: empathy in text-based mental-health support (Sharma et al., EMNLP 2020)",
    licence="research use",
    home="https://github.com/behavioral-data/Empathy-Mental-Health",
    heads=(),
    files=(FILE,),
    labelled_by="trained annotators (the reply's empathy)",
    warts=("people in distress: no head learns from it, and it must not be used to judge anyone's health",),
    read=read,
)
