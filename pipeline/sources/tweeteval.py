"""TweetEval's sentiment task: tweets of every kind, negative, neutral or positive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.conversation import Conversation
from pipeline.sources.source import FormatChanged, Source, post, read_json_rows
from pipeline.vocabulary import AnyOf, LabelValue

FILE = "tweeteval_sentiment_val.jsonl"
COARSE: dict[str, LabelValue] = {
    "negative": AnyOf(any_of=("very_negative", "negative")),
    "neutral": "neutral",
    "positive": AnyOf(any_of=("positive", "very_positive")),
}


def read(folder: Path) -> Iterator[Conversation]:
    """One single-turn conversation a tweet, its label a coarse one of `sentiment`, its id a digest of the text."""
    for row in read_json_rows(folder / FILE, {"text": str, "sentiment": str}):
        if row["sentiment"] not in COARSE:
            raise FormatChanged(f"{FILE}: sentiment: {row['sentiment']!r} is none of {', '.join(COARSE)}")
        digest = hashlib.sha256(row["text"].encode()).hexdigest()[:16]
        yield post("tweeteval", digest, row["text"], {"sentiment": COARSE[row["sentiment"]]}, industry="twitter")


SOURCE = Source(
    name="tweeteval",
    title="TweetEval sentiment (SemEval-2017 task 4), validation part",
    licence="research use",
    home="https://github.com/cardiffnlp/tweeteval",
    heads=("sentiment",),
    files=(FILE,),
    labelled_by="a crowd",
    warts=("tweets of every kind, few of them to a company",),
    read=read,
)
