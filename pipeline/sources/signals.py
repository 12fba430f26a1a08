"""Labels by this project's rules for rows of other corpora, keyed by corpus, row and turn.

`signals.jsonl` lies with the corpora; `corpus/labels/` holds what was labelled beside it, labels alone, no text.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config import ROOT
from pipeline.sources.source import Fields, read_json_rows
from pipeline.vocabulary import Labels

FILE = "signals.jsonl"
OWN = ROOT / "corpus" / "labels" / "first.jsonl"
SECOND = ROOT / "corpus" / "labels" / "second.jsonl"
LABELLED_BY = "language-model annotators by this project's rules"
HEADS = ("sentiment", "frustration", "urgency", "signals")
_FIELDS: Fields = {
    "source": str,
    "id": str,
    "turn": (int, type(None)),
    "sentiment": str,
    "frustration": int,
    "urgency": int,
    "signals": list,
}


def load_signals(folder: Path, source: str) -> dict[tuple[str, int | None], Labels]:
    """Labels by (row id, turn) for one corpus, turn None for single messages. `signals.jsonl` goes before our own."""
    labels: dict[tuple[str, int | None], Labels] = {}
    for path in (OWN, folder / FILE):
        if path.exists():
            labels |= read_labels(path, source)
    return labels


def read_labels(path: Path, source: str) -> dict[tuple[str, int | None], Labels]:
    """Labels by (row id, turn) of the file's rows for one corpus. Raises FormatChanged."""
    return {
        (row["id"], row.get("turn")): {
            "sentiment": row["sentiment"],
            "frustration": row["frustration"],
            "urgency": row["urgency"],
            "signals": tuple(row["signals"]),
        }
        for row in read_json_rows(path, _FIELDS)
        if row["source"] == source
    }
