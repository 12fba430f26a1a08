"""What reviewers said, read back: good exports, corrupted ones, and what is held back for the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.conversation import Conversation
from pipeline.ingest import IngestConfig, hold_back, ingest
from pipeline.prepare import labelled_turns
from pipeline.sources import FormatChanged, SourceMissing, read_sources, reviews
from pipeline.vocabulary import load_vocabulary

LABELS = {"sentiment": "neutral", "frustration": 0, "urgency": 1, "signals": []}
REVIEW: dict[str, Any] = {
    "id": "review-c1",
    "channel": "chat",
    "language": "en",
    "turns": [
        {"role": "customer", "text": "Is the Glumox in blue sold out?", "labels": LABELS},
        {"role": "agent", "text": "Let me look."},
        {"role": "customer", "text": "Thank you, call me on +44 20 7946 0991."},
    ],
    "meta": {"source": "reviews", "reviewed_at": "2026-11-02T10:00:00+00:00", "model": "3"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reviews, "FOLDER", tmp_path)
    return tmp_path


def write(folder: Path, name: str, *rows: Any) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def of(**changed: Any) -> dict[str, Any]:
    return {**REVIEW, **changed}


def read(folder: Path) -> list[Conversation]:
    return list(read_sources(["reviews"], folder / "elsewhere"))


def test_a_review_labels_the_turns_that_were_reviewed(folder: Path) -> None:
    write(folder, "week-45.jsonl", REVIEW)
    (found,) = read(folder)
    assert found.meta == {"source": "reviews", "reviewed_at": "2026-11-02T10:00:00+00:00", "model": "3"}
    assert [turn for turn, _ in labelled_turns(found, load_vocabulary())] == [0]


@pytest.mark.parametrize("made", [True, False])
def test_without_an_export_the_corpus_is_skipped_by_name(folder: Path, made: bool) -> None:
    if not made:
        folder.rmdir()
    with pytest.warns(SourceMissing, match="reviews: skipped"):
        assert read(folder) == []


def test_an_empty_export_holds_no_review(folder: Path) -> None:
    write(folder, "week-45.jsonl")
    assert read(folder) == []


@pytest.mark.parametrize("newest", ["a", "b"])
def test_of_two_reviews_of_a_conversation_the_newest_counts(folder: Path, newest: str) -> None:
    for name in ("a", "b"):
        day = "2026-11-09" if name == newest else "2026-11-02T10:00:00+01:00"
        write(folder, f"{name}.jsonl", of(meta={"reviewed_at": day, "model": name}))
    (found,) = read(folder)
    assert found.meta["model"] == newest


def test_a_second_review_as_old_as_the_first_counts_where_its_file_comes_later(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder, f"{name}.jsonl", of(meta={**REVIEW["meta"], "model": name}))
    assert [found.meta["model"] for found in read(folder)] == ["b"]


BAD_TURN = [{"role": "customer", "text": "hi", "labels": {"sentiment": "furious"}}]
AGENTS = [{"role": "customer", "text": "hi"}, {"role": "agent", "text": "hello", "labels": {"frustration": 0}}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (json.dumps(REVIEW)[:60], "not JSON"),
        ("[]", "a row must be an object"),
        (of(id="c1"), "id: 'c1' does not begin with review-"),
        (REVIEW, "id: already used on line 1"),
        (of(id="review-2", meta={}), "meta.reviewed_at: missing"),
        (of(id="review-2", meta={"reviewed_at": "last week"}), "meta.reviewed_at: missing"),
        (of(id="review-2", turns=[]), "turns: "),
        (of(id="review-2", verdict="right"), "verdict: "),
        (of(id="review-2", turns=BAD_TURN), "turns.0.labels.sentiment: 'furious' is not one of"),
        (of(id="review-2", turns=AGENTS), "turns.1.labels: on a turn of the agent"),
    ],
)
def test_a_corrupted_export_fails_by_file_and_line(folder: Path, row: Any, said: str) -> None:
    write(folder, "week-44.jsonl", of(id="review-0"))
    write(folder, "week-45.jsonl", REVIEW, "", row)
    with pytest.raises(FormatChanged) as failed:
        read(folder)
    assert str(failed.value).startswith(f"week-45.jsonl line 3: {said}")


def many(count: int) -> list[dict[str, Any]]:
    return [of(id=f"review-{number}") for number in range(count)]


def config(share: float) -> IngestConfig:
    return IngestConfig(sources=("reviews",), held={"reviews": share}, near_duplicate=0.8, near_duplicate_words=6)


def held(conversations: list[Conversation]) -> set[str]:
    return {c.id for c in conversations if c.meta.get("split") == "test"}


def test_a_share_is_held_back_and_stays_so_when_reviews_are_added(folder: Path) -> None:
    write(folder, "a.jsonl", *many(400))
    first = ingest(config(0.2), load_vocabulary(), folder)
    write(folder, "a.jsonl", *many(800))
    second = ingest(config(0.2), load_vocabulary(), folder)
    assert 50 < len(held(first)) < 110
    assert held(second) & {c.id for c in first} == held(first)


def test_personal_data_of_a_review_is_redacted_once_more(folder: Path) -> None:
    write(folder, "a.jsonl", REVIEW)
    (found,) = ingest(config(0.0), load_vocabulary(), folder)
    assert "7946" not in found.turns[2].text
    assert held([found]) == set()


def test_a_share_of_a_corpus_that_is_not_read_is_refused() -> None:
    with pytest.raises(ValueError, match="held: reviews is none of the sources"):
        IngestConfig(sources=("bundled",), held={"reviews": 0.2}, near_duplicate=0.8, near_duplicate_words=6)


def test_other_corpora_are_not_held_back() -> None:
    talk = Conversation.model_validate({"id": "c", "turns": REVIEW["turns"], "meta": {"source": "bundled"}})
    assert hold_back(talk, {"reviews": 1.0}) == talk
