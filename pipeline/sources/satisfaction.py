"""USS: task dialogues with an assistant, every customer turn rated from 1 to 5 by several readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.conversation import Conversation, Turn
from pipeline.sources.source import Fields, FormatChanged, Source, named, read_json_rows
from pipeline.vocabulary import Labels


def read(name: str, folder: Path) -> Iterator[Conversation]:
    """One conversation a dialogue, `satisfaction` on every customer turn that was rated."""
    fields: Fields = {"role": str, "text": str, "satisfaction": (list, type(None))}
    for row in read_json_rows(folder / f"{name}.jsonl", {"id": str, "turns": list}, fields):
        with named(f"{name}.jsonl {row['id']}: "):
            turns = tuple(_turn(turn) for turn in row["turns"])
        yield Conversation(
            id=f"{name}-{row['id']}", channel="chat", language="en", turns=turns, meta={"industry": "assistant"}
        )


def rating(votes: Sequence[int]) -> int:
    """The votes as one rating that stays on their mean's side of 3, the scale's middle.

    A mean of 2.7 is 2, for most dialogues differ from the middle by one reader's vote alone.
    """
    centre = mean(votes)
    if not 1 <= centre <= 5:
        raise ValueError("votes are not from 1 to 5")
    if centre == 3:
        return 3
    return min(2, round(centre)) if centre < 3 else max(4, round(centre))


def _turn(turn: dict[str, Any]) -> Turn:
    votes = turn["satisfaction"]
    try:
        labels: Labels | None = {"satisfaction": rating(votes)} if votes else None
    except (TypeError, ValueError):
        raise FormatChanged("satisfaction: votes are not numbers from 1 to 5") from None
    return Turn(role=turn["role"], text=turn["text"], labels=labels)


def _source(name: str, title: str) -> Source:
    return Source(
        name=name,
        title=title,
        licence="research use",
        home="https://github.com/sunnweiwei/user-satisfaction-simulation",
        heads=("satisfaction",),
        files=(f"{name}.jsonl",),
        labelled_by="a crowd, several readers a turn, whose votes become one rating",
        warts=(
            "customers of an assistant that books and looks up: anger hardly occurs",
            "most ratings differ from the middle by one reader's vote alone",
        ),
        read=partial(read, name),
    )


MWOZ = _source("satisfaction_mwoz", "User Satisfaction Simulation, MultiWOZ part (Sun et al., SIGIR 2021)")
SGD = _source("satisfaction_sgd", "User Satisfaction Simulation, SGD part (Sun et al., SIGIR 2021)")
