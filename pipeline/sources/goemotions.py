"""GoEmotions: comments from Reddit with 27 emotions and neutral, several at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.conversation import Conversation
from pipeline.sources.source import Source, post, read_json_rows
from pipeline.vocabulary import Labels

FILES = {"train": "goemotions_train.jsonl", "validation": "goemotions_dev.jsonl"}


def read(folder: Path) -> Iterator[Conversation]:
    """One single-turn conversation a comment, in the corpus's own splits."""
    for split, file in FILES.items():
        if not (folder / file).exists():
            continue
        for row in read_json_rows(folder / file, {"id": str, "text": str, "emotions": list}):
            labels: Labels = {"goemotions": tuple(row["emotions"])}
            yield post("goemotions", row["id"], row["text"], labels, industry="reddit", split=split)


SOURCE = Source(
    name="goemotions",
    title="GoEmotions (Demszky et al., ACL 2020)",
    licence="Apache-2.0",
    home="https://github.com/google-research/google-research/tree/master/goemotions",
    heads=("goemotions",),
    files=(FILES["train"],),
    labels=(FILES["validation"],),
    labelled_by="a crowd",
    warts=("comments on Reddit: nobody asks for help and nobody answers for a company",),
    read=read,
)
