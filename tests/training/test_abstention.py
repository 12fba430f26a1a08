"""What the stage says of abstention, on chats and messages of our own invention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.encode import EncodingConfig
from pipeline.sources import FormatChanged, SourceMissing
from training.abstention import AbstentionConfig, Case, cases, is_reported, read_chats, read_reported, summary

CONFIG = AbstentionConfig(
    chats=("support_chats", "support_chats_emotion"), messages=("airline_tweets", "complaint_tweets")
)
ENCODING = EncodingConfig(max_tokens=96, message_tokens=72, turn_tokens=24, earlier_turns=4)
TYPED = {
    "fr": ["Ma liseuse ne s'allume plus depuis hier soir, que dois-je faire ?", "#EMAIL#", "oui merci"],
    "de": ["Mein Lesegerät geht seit gestern Abend nicht mehr an, was soll ich tun?", "#NAME# #EMAIL#", "ja danke"],
}
ENGLISH = ["My reader has not started since last night, what am I to do?", "#EMAIL#", "yes thanks"]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Forty French chats, forty German ones by the sentence, forty messages."""
    french = [
        {"role": "customer", "text": text, "original": typed} for text, typed in zip(ENGLISH, TYPED["fr"], strict=True)
    ]
    german = [
        {"role": "customer", "language": "de", "text": [text], "original": [typed]}
        for text, typed in zip(ENGLISH, TYPED["de"], strict=True)
    ]
    agent = {"role": "agent", "language": "de", "text": ["One moment."], "original": ["Einen Moment."]}
    numbers = range(40)
    chats = [{"id": f"f{n}", "language": "fr", "turns": french} for n in numbers]
    by_sentence = [{"id": f"g{n}", "turns": [agent, *german]} for n in numbers]
    write(tmp_path / "support_chats.jsonl", chats)
    write(tmp_path / "support_chats_emotion.jsonl", [*by_sentence, *[{**c, "language": "fr"} for c in chats]])
    write(
        tmp_path / "airline_tweets.jsonl",
        [{"id": f"t{n}", "text": "Two hours on the tarmac and nobody tells us why", "sentiment": "x"} for n in numbers],
    )
    return tmp_path


@pytest.fixture
def measured(corpora: Path) -> dict[str, Any]:
    with pytest.warns(SourceMissing, match="complaint_tweets: not measured"):
        return summary(list(cases(read_reported(CONFIG, corpora), ("en",), ENCODING)), ("en",))


def test_what_was_typed_is_refused_and_its_english_is_not(measured: dict[str, Any]) -> None:
    assert set(measured["languages"]) == {"de", "en", "fr"}
    for language in ("de", "fr"):
        assert measured["languages"][language]["4 words or more"]["language"]["value"] == 1.0
        assert measured["languages"][language]["1-2 words"]["language"]["value"] == 1.0  # after a whole sentence
        assert measured["languages"][language]["no words"]["no_words"]["value"] == 1.0
    assert measured["languages"]["en"]["all"]["language"]["value"] == 0.0


def test_only_the_reported_half_is_read_and_no_chat_twice(measured: dict[str, Any]) -> None:
    reported = sum(is_reported(f"f{n}") for n in range(40))
    assert 10 < reported < 30
    assert measured["languages"]["fr"]["all"]["messages"] == 3 * reported
    assert set(measured["corpora"]) == {"airline_tweets", "support_chats", "support_chats_emotion"}


def test_shares_carry_intervals(measured: dict[str, Any]) -> None:
    share = measured["languages"]["fr"]["all"]["abstained"]
    assert share["value"] == 1.0
    assert 0.8 < share["low"] < share["high"] == 1.0


def test_missing_corpora_leave_an_empty_report(tmp_path: Path) -> None:
    with pytest.warns(SourceMissing) as warned:
        found = list(cases(read_reported(CONFIG, tmp_path), ("en",), ENCODING))
    assert len(warned) == 4
    assert summary(found, ("en",)) == {"validated": ["en"], "languages": {}, "corpora": {}}


def test_reasons_are_told_apart() -> None:
    found = [Case("c", "fr", 0, "no_words"), Case("c", "fr", 5, "language"), Case("c", "fr", 5, None)]
    report = summary(found, ("en",))["languages"]["fr"]
    assert report["all"]["messages"] == 3
    assert report["all"]["abstained"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert report["3-5 words"]["language"]["value"] == 0.5
    assert "6-10 words" not in report


@pytest.mark.parametrize("turn", [{"role": "customer", "text": "x"}, {"role": "customer", "text": "x", "original": 1}])
def test_a_chat_without_what_was_typed_fails_by_name(tmp_path: Path, turn: dict[str, Any]) -> None:
    write(tmp_path / "support_chats.jsonl", [{"id": "f1", "language": "fr", "turns": [turn]}])
    with pytest.raises(FormatChanged, match=r"support_chats\.jsonl f1: no original in fr"):
        list(read_chats("support_chats", tmp_path))
