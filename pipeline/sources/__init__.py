"""One adapter a corpus: what it loads, from where, under which licence, and which heads its labels train.

A corpus that is missing is skipped by name; one whose format has changed fails by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.config import ConfigError
from pipeline.conversation import Conversation, describe
from pipeline.sources import (
    airline_tweets,
    bundled,
    complaint_tweets,
    empathic_replies,
    goemotions,
    reviews,
    satisfaction,
    support_chats,
    support_chats_emotion,
    tweeteval,
)
from pipeline.sources.source import FormatChanged, Source, SourceMissing

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        bundled.SOURCE,
        airline_tweets.SOURCE,
        complaint_tweets.SOURCE,
        support_chats.SOURCE,
        support_chats_emotion.SOURCE,
        satisfaction.MWOZ,
        satisfaction.SGD,
        goemotions.SOURCE,
        tweeteval.SOURCE,
        empathic_replies.SOURCE,
        reviews.SOURCE,
    )
}

__all__ = ["SOURCES", "FormatChanged", "Source", "SourceMissing", "find_source", "read_sources"]


def find_source(name: str) -> Source:
    """The adapter of this name. Raises ConfigError naming the known ones."""
    if name not in SOURCES:
        raise ConfigError(f"{name}: no such corpus (known: {', '.join(SOURCES)})")
    return SOURCES[name]


def read_sources(names: Sequence[str], folder: Path) -> Iterator[Conversation]:
    """Every conversation of the named corpora, each with `meta.source` set.

    `folder` holds the corpora that are not bundled. Raises ConfigError for an unknown name, FormatChanged
    for a corpus that no longer looks as its adapter expects; warns of one that is not there.
    """
    for name in names:
        source = find_source(name)
        missing = [file for file in source.files if not (folder / file).exists()]
        if missing:
            warnings.warn(f"{name}: skipped, {', '.join(missing)} not in {folder}", SourceMissing, stacklevel=2)
            continue
        for conversation in _read(source, folder):
            yield conversation.model_copy(update={"meta": {**conversation.meta, "source": name}})


def _read(source: Source, folder: Path) -> Iterator[Conversation]:
    """The corpus's conversations; one that cannot be, of an unknown role for one, is named by its row."""
    good = 0
    try:
        for conversation in source.read(folder):
            good += 1
            yield conversation
    except ValidationError as error:
        raise FormatChanged(f"{source.name} row {good + 1}: {describe(error)}") from None
