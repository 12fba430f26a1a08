"""Twitter US Airline Sentiment: messages to airlines with a crowd's three-way sentiment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.conversation import Conversation
from pipeline.sources.signals import FILE as SIGNALS
from pipeline.sources.signals import HEADS, LABELLED_BY, load_signals
from pipeline.sources.source import Source, post, read_json_rows

FILE = "airline_tweets.jsonl"


def read(folder: Path) -> Iterator[Conversation]:
    """One single-turn conversation a tweet, with the crowd's label and, where they exist, this project's."""
    signals = load_signals(folder, "airline_tweets")
    for row in read_json_rows(folder / FILE, {"id": str, "text": str, "sentiment": str}):
        labels = {"airline_sentiment": row["sentiment"], **signals.get((row["id"], None), {})}
        yield post("airline_tweets", row["id"], row["text"], labels, industry="airline")


SOURCE = Source(
    name="airline_tweets",
    title="Twitter US Airline Sentiment (CrowdFlower)",
    licence="CC BY-NC-SA 4.0",
    home="https://www.kaggle.com/datasets/crowdflower/twitter-airline-sentiment",
    heads=("airline_sentiment", *HEADS),
    files=(FILE,),
    labels=(SIGNALS,),
    labelled_by=f"a crowd (airline_sentiment); {LABELLED_BY} (the others, part of the rows)",
    warts=(
        "mentions, links and HTML entities stand in the text; a few rows were written by the company",
        "the crowd calls nearly every problem negative, where this project keeps a plain question or fact neutral",
    ),
    read=read,
)
