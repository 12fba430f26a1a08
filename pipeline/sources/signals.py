"""Labels by this project's rules for rows of other corpora: `signals.jsonl`, keyed by corpus, row and turn."""

from __future__ import annotations

from pathlib import Path

from pipeline.sources.source import Fields, read_json_rows
from pipeline.vocabulary import Labels

FILE = "signals.jsonl"
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
    """Labels by (row id, turn) for one corpus, turn None for single messages; empty without the file."""
    if not (folder / FILE).exists():
        return {}
    return {
        (row["id"], row.get("turn")): {
            "sentiment": row["sentiment"],
            "frustration": row["frustration"],
            "urgency": row["urgency"],
            "signals": tuple(row["signals"]),
        }
        for row in read_json_rows(folder / FILE, _FIELDS)
        if row["source"] == source
    }
