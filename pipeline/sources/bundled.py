"""The corpus that the project carries in `corpus/`, written and labelled for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.config import ROOT
from pipeline.conversation import Conversation, read_conversations
from pipeline.sources.source import Source

FOLDER = ROOT / "corpus" / "conversations"
BLIND = ROOT / "corpus" / "blind.jsonl"


def read(folder: Path) -> Iterator[Conversation]:
    """Every conversation of the bundled corpus, industry by industry; `folder` is not looked at."""
    for path in sorted(FOLDER.glob("*.jsonl")):
        yield from read_conversations(path)


SOURCE = Source(
    name="bundled",
    title="Simmer's bundled corpus",
    licence="Apache-2.0",
    home="corpus/",
    heads=("sentiment", "frustration", "urgency", "signals", "satisfaction", "boil_over"),
    files=(),
    labelled_by="the language models that wrote it, by this project's rules; 400 turns a second time, blind",
    warts=(
        "written by language models: wording and labels are their idea of how customers write and feel",
        "the training split is hotter than life, so that rare cases are taught",
        "English alone; brands and people are invented",
    ),
    read=read,
)
