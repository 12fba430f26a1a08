"""Messages to support accounts of nine industries and random tweets, called complaints or not by experts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.conversation import Conversation
from pipeline.sources.signals import FILE as SIGNALS
from pipeline.sources.signals import HEADS, LABELLED_BY, load_signals
from pipeline.sources.source import Source, post, read_json_rows

FILE = "complaint_tweets.jsonl"


def read(folder: Path) -> Iterator[Conversation]:
    """One single-turn conversation a tweet."""
    signals = load_signals(folder, "complaint_tweets")
    for row in read_json_rows(folder / FILE, {"id": str, "text": str, "complaint": int, "domain": str}):
        labels = {"complaint": bool(row["complaint"]), **signals.get((row["id"], None), {})}
        yield post("complaint_tweets", row["id"], row["text"], labels, industry=row["domain"])


SOURCE = Source(
    name="complaint_tweets",
    title="Automatically Identifying Complaints in Social Media (Preotiuc-Pietro, Gaman, Aletras, ACL 2019)",
    licence="research use",
    home="https://github.com/danielpreotiuc/complaints-social-media",
    heads=("complaint", *HEADS),
    files=(FILE,),
    labels=(SIGNALS,),
    labelled_by=f"two expert annotators (complaint); {LABELLED_BY} (the others, part of the rows)",
    warts=(
        "mentions, links and HTML entities stand in the text; a few rows were written by the company",
        "some rows are random messages that address no company",
    ),
    read=read,
)
