from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ConfigError
from pipeline.sources import SOURCES, FormatChanged, SourceMissing, read_sources
from pipeline.vocabulary import load_vocabulary

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
    with pytest.raises(ConfigError, match=r"^nonsense: no such corpus \(known: bundled, airline_tweets, "):
        list(read_sources(["nonsense"], tmp_path))


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_where_it_comes_from(name: str) -> None:
    source = SOURCES[name]
    assert source.title
    assert source.licence
    assert source.home
    assert set(source.heads) <= set(load_vocabulary().heads)


COMPLAINT = {"id": "k1", "text": "@shoes the sole fell off", "complaint": 1, "domain": "apparel"}
ROWS: dict[str, dict[str, Any]] = {"airline_tweets": TWEET, "complaint_tweets": COMPLAINT, "support_chats": CHAT}


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != field}


@pytest.mark.parametrize("complaint", [0, 1])
def test_a_complaint_tweet_is_a_complaint_or_not(tmp_path: Path, complaint: int) -> None:
    write(tmp_path, "complaint_tweets.jsonl", {**COMPLAINT, "complaint": complaint})
    (found,) = read_sources(["complaint_tweets"], tmp_path)
    assert found.turns[0].labels == {"complaint": bool(complaint)}
    assert found.meta["industry"] == "apparel"


def test_labels_go_to_their_corpus_row_and_turn_alone(tmp_path: Path) -> None:
    for name, row in ROWS.items():
        write(tmp_path, f"{name}.jsonl", row, {**row, "id": "unlabelled"})
    keys = [("complaint_tweets", "k1", None), ("complaint_tweets", "t1", None), ("support_chats_emotion", "c1", 0)]
    write(tmp_path, "signals.jsonl", *({**SIGNAL, "source": s, "id": name, "turn": turn} for s, name, turn in keys))
    found = {c.id for c in read_sources(list(ROWS), tmp_path) if any("urgency" in (t.labels or {}) for t in c.turns)}
    assert found == {"complaint_tweets-k1"}


@pytest.mark.parametrize("name", ROWS)
def test_the_other_corpora_are_read_where_one_is_missing(tmp_path: Path, name: str) -> None:
    others = [other for other in ROWS if other != name]
    for other in others:
        write(tmp_path, f"{other}.jsonl", ROWS[other])
    with pytest.warns(SourceMissing, match=rf"^{name}: skipped, {name}\.jsonl not in"):
        found = list(read_sources([name, *others], tmp_path))
    assert [c.meta["source"] for c in found] == others


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        ("airline_tweets", {**TWEET, "sentiment": None}, "sentiment"),
        ("airline_tweets", without(TWEET, "text"), "text"),
        ("airline_tweets", {**TWEET, "id": 5}, "id"),
        ("complaint_tweets", {**COMPLAINT, "complaint": "yes"}, "complaint"),
        ("complaint_tweets", without(COMPLAINT, "domain"), "domain"),
        ("support_chats", {"id": "x", "messages": []}, "turns"),
        ("support_chats", {"id": "x", "turns": [*CHAT["turns"], {"speaker": "agent"}]}, r"turns\.2\.role"),
        ("support_chats", {"id": "x", "turns": [{"role": "customer", "text": ["hi"]}]}, r"turns\.0\.text"),
        ("support_chats", {"id": "x", "turns": ["hi"]}, r"turns\.0\.role"),
    ],
)
def test_a_changed_format_names_the_field_too(tmp_path: Path, name: str, row: Any, field: str) -> None:
    write(tmp_path, f"{name}.jsonl", ROWS[name], row)
    with pytest.raises(FormatChanged, match=rf"^{name}\.jsonl line 2: {field}"):
        list(read_sources([name], tmp_path))


@pytest.mark.parametrize(("field", "value"), [("signals", "abuse"), ("turn", "1"), ("frustration", "2")])
def test_changed_labels_name_file_line_and_field(tmp_path: Path, field: str, value: str) -> None:
    write(tmp_path, "airline_tweets.jsonl", TWEET)
    write(tmp_path, "signals.jsonl", {**SIGNAL, field: value})
    with pytest.raises(FormatChanged, match=rf"^signals\.jsonl line 1: {field}"):
        list(read_sources(["airline_tweets"], tmp_path))


@pytest.mark.parametrize("line", [b"{", b"", '{"id": "café"}'.encode("latin-1")])
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "airline_tweets.jsonl").write_bytes(json.dumps(TWEET).encode() + b"\n" + line + b"\n")
    with pytest.raises(FormatChanged, match=r"^airline_tweets\.jsonl line 2: not JSON"):
        list(read_sources(["airline_tweets"], tmp_path))


def test_the_bundled_corpus_needs_no_folder(tmp_path: Path) -> None:
    first = next(read_sources(["bundled"], tmp_path / "nowhere"))
    assert first.meta["source"] == "bundled"
    assert any(turn.labels for turn in first.turns)


@pytest.mark.parametrize("name", ["support_chats", "satisfaction_mwoz"])
def test_a_turn_of_an_unknown_role_names_corpus_and_row(tmp_path: Path, name: str) -> None:
    turn = {"role": "customer", "text": "It does not switch on.", "satisfaction": None}
    rows = [{"id": f"c{n}", "turns": [{**turn, "role": role}]} for n, role in enumerate(("agent", "customer", "boss"))]
    write(tmp_path, f"{name}.jsonl", *rows)
    with pytest.raises(FormatChanged, match=rf"^{name}(\.jsonl c2| row 3): role: Input should be 'customer', "):
        list(read_sources([name], tmp_path))


def test_votes_out_of_range_are_named(tmp_path: Path) -> None:
    turns = [{"role": "customer", "text": "ok", "satisfaction": [9]}]
    write(tmp_path, "satisfaction_sgd.jsonl", {"id": "s1", "turns": turns})
    with pytest.raises(FormatChanged, match=r"^satisfaction_sgd\.jsonl s1: satisfaction: votes are not"):
        list(read_sources(["satisfaction_sgd"], tmp_path))
