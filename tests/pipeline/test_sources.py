from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.sources import SOURCES, FormatChanged, SourceMissing, read_sources

TWEET = {
    "id": "t1",
    "text": "@acmeair two hours late and no word",
    "sentiment": "negative",
    "sentiment_confidence": 1.0,
}
SIGNAL = {
    "source": "airline_tweets",
    "id": "t1",
    "turn": None,
    "sentiment": "negative",
    "frustration": 1,
    "urgency": 2,
    "signals": ["repeat_contact"],
}
CHAT = {
    "id": "c1",
    "turns": [{"role": "customer", "text": "It does not switch on."}, {"role": "agent", "text": "Did you charge it?"}],
}


def write(folder: Path, name: str, *rows: Any) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_tweet_carries_the_crowds_label_and_the_projects(tmp_path: Path) -> None:
    write(tmp_path, "airline_tweets.jsonl", TWEET)
    write(tmp_path, "signals.jsonl", SIGNAL)
    (tweet,) = read_sources(["airline_tweets"], tmp_path)
    assert tweet.channel == "social"
    assert tweet.meta["source"] == "airline_tweets"
    assert tweet.turns[0].labels == {
        "airline_sentiment": "negative",
        "sentiment": "negative",
        "frustration": 1,
        "urgency": 2,
        "signals": ("repeat_contact",),
    }


def test_without_signals_the_corpus_keeps_its_own_label(tmp_path: Path) -> None:
    write(tmp_path, "airline_tweets.jsonl", TWEET)
    (tweet,) = read_sources(["airline_tweets"], tmp_path)
    assert tweet.turns[0].labels == {"airline_sentiment": "negative"}


def test_labels_of_a_chat_go_to_their_turn(tmp_path: Path) -> None:
    write(tmp_path, "support_chats.jsonl", CHAT)
    write(tmp_path, "signals.jsonl", {**SIGNAL, "source": "support_chats", "id": "c1", "turn": 0})
    (chat,) = read_sources(["support_chats"], tmp_path)
    assert (chat.turns[0].labels or {})["urgency"] == 2
    assert chat.turns[1].labels is None


def test_a_missing_corpus_is_skipped_by_name(tmp_path: Path) -> None:
    with pytest.warns(SourceMissing, match=r"airline_tweets: skipped, airline_tweets\.jsonl"):
        assert list(read_sources(["airline_tweets"], tmp_path)) == []


@pytest.mark.parametrize("row", [{"id": "t1", "text": "hi"}, {"id": "t1", "text": 5, "sentiment": "negative"}, ["t1"]])
def test_a_changed_format_fails_by_file_and_line(tmp_path: Path, row: Any) -> None:
    write(tmp_path, "airline_tweets.jsonl", TWEET, row)
    with pytest.raises(FormatChanged, match=r"airline_tweets\.jsonl line 2"):
        list(read_sources(["airline_tweets"], tmp_path))


def test_an_unknown_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        list(read_sources(["nonsense"], tmp_path))


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_where_it_comes_from(name: str) -> None:
    source = SOURCES[name]
    assert source.title
    assert source.licence
    assert source.home
    assert source.heads
