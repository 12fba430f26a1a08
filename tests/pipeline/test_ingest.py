import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import ingest as stage
from pipeline.config import ConfigError, load_config
from pipeline.conversation import Conversation, Turn
from pipeline.ingest import (
    CorpusError,
    IngestConfig,
    check_ids,
    check_labels,
    check_near_duplicates,
    describe_corpora,
    hot_rates,
    ingest,
    redacted,
)
from pipeline.vocabulary import AnyOf, load_vocabulary

VOCABULARY = load_vocabulary()
CONFIG = IngestConfig(sources=("airline_tweets",), near_duplicate=0.8, near_duplicate_words=6)


def conversation(name: str, *turns: Turn, **meta: str) -> Conversation:
    return Conversation(id=name, turns=turns, meta=dict(meta))


def said(text: str, role: Any = "customer", **labels: Any) -> Turn:
    return Turn(role=role, text=text, labels=labels or None)


def test_labels_inside_the_vocabulary_pass() -> None:
    labels = {"sentiment": AnyOf(any_of=("negative", "very_negative")), "frustration": 2, "signals": ("abuse",)}
    check_labels([conversation("a", said("hi", **labels), said("hello", "agent"))], VOCABULARY)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (said("hi", sentiment="furious"), "a turn 1: sentiment: 'furious' is not one of"),
        (said("hi", frustration=4), "a turn 1: frustration: 4 is not one of"),
        (said("hi", temper=1), "a turn 1: temper: no such head"),
        (said("hi", "agent", frustration=1), "a turn 1: labels on a turn of the agent"),
    ],
)
def test_a_label_that_cannot_be_names_its_row(turn: Turn, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        check_labels([conversation("a", said("ok"), turn)], VOCABULARY)


def test_repeated_ids_are_named() -> None:
    one, two = conversation("a", said("hi")), conversation("b", said("ho"))
    check_ids([one, two])
    with pytest.raises(CorpusError, match=r"twice: b$"):
        check_ids([one, two, two])


def test_near_duplicate_customer_messages_are_named() -> None:
    first = conversation("a", said("Hello", "agent"), said("You lost my blue suitcase on Monday evening"))
    second = conversation("b", said("you lost my blue suitcase on monday evening!"))
    with pytest.raises(CorpusError, match=r"^1 near-duplicate customer messages: a turn 1 and b turn 0$"):
        check_near_duplicates([first, second], CONFIG)


def test_agents_and_short_messages_may_repeat() -> None:
    chat = [said("Is there anything else that I can help with?", "agent"), said("no thank you")]
    check_near_duplicates([conversation("a", *chat), conversation("b", *chat)], CONFIG)


def test_every_turn_is_decoded_and_redacted_and_keeps_the_rest() -> None:
    given = conversation(
        "a", said("&lt;b&gt;I am anna@x.example&lt;/b&gt;", frustration=0), said("+1 202-555-0143", "agent")
    )
    assert redacted(given) == conversation("a", said("I am [EMAIL]", frustration=0), said("[PHONE]", "agent"))


def write_tweets(folder: Path, *tweets: dict[str, Any]) -> None:
    lines = [json.dumps({"id": str(n), "sentiment": "negative", **tweet}) for n, tweet in enumerate(tweets)]
    (folder / "airline_tweets.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_a_corpus_is_read_checked_and_redacted(tmp_path: Path) -> None:
    write_tweets(tmp_path, {"text": "late &amp; rude"}, {"text": "mail me at anna@x.example"})
    found = ingest(CONFIG, VOCABULARY, tmp_path)
    assert [c.turns[0].text for c in found] == ["late & rude", "mail me at [EMAIL]"]


@pytest.mark.parametrize(
    ("tweet", "message"),
    [({"text": "hi", "sentiment": "angry"}, "airline_sentiment: 'angry'"), ({"text": "hi", "id": "0"}, "occur twice")],
)
def test_a_corpus_that_breaks_a_rule_is_refused(tmp_path: Path, tweet: dict[str, Any], message: str) -> None:
    write_tweets(tmp_path, {"text": "late"}, tweet)
    with pytest.raises(CorpusError, match=message):
        ingest(CONFIG, VOCABULARY, tmp_path)


def test_exports_are_read_beside_the_corpora_and_redacted(tmp_path: Path) -> None:
    write_tweets(tmp_path, {"text": "late"})
    (tmp_path / "own.csv").write_text("body,mood\nmail me at anna@x.example,negative\n", encoding="utf-8")
    export = {"kind": "csv", "file": "own.csv", "columns": {"text": "body", "sentiment": "mood"}}
    config = IngestConfig.model_validate({**CONFIG.model_dump(), "exports": [export]})
    corpus, own = ingest(config, VOCABULARY, tmp_path)
    assert corpus.meta["source"] == "airline_tweets"
    assert own.turns == (said("mail me at [EMAIL]", sentiment="negative"),)
    assert (own.id, own.meta["source"]) == ("own.csv-row-2", "own.csv")


def test_a_corpus_of_no_known_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(
        "ingest: {bundled: {sources: [bundle], near_duplicate: 0.8, near_duplicate_words: 6}}", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"› bundled: sources: .*bundle: no such corpus \(known: bundled, airline"):
        load_config(IngestConfig, "data.yaml", "ingest", "bundled", folder=tmp_path)


def test_hot_rates_count_turns_and_conversations() -> None:
    chats = [
        conversation("a", said("x", frustration=3), said("x", frustration=0), said("x", "agent")),
        conversation("b", said("x", signals=("repeat_contact",)), said("x")),
    ]
    assert hot_rates(chats, VOCABULARY) == {
        "conversations": 2,
        "customer_turns": 4,
        "hot_turn_share": 0.25,
        "hot_conversation_share": 0.5,
    }
    assert hot_rates([], VOCABULARY)["hot_turn_share"] == 0


def test_corpora_are_described_by_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = tmp_path / "blind.jsonl"
    blind.write_text('{"conversation": "b1", "turn": 0, "labels": {"frustration": 2}}\n', encoding="utf-8")
    monkeypatch.setattr(stage, "BLIND", blind)
    report: Any = describe_corpora(
        [
            conversation(
                "b1", said("You lost my bag", frustration=2), source="bundled", split="train", industry="rail"
            ),
            conversation("t1", said("late", complaint=True), said("sorry", "agent"), source="tweets", industry="rail"),
            conversation("t2", said("late"), source="tweets", industry="bank"),
        ],
        VOCABULARY,
    )
    assert report["tweets"] == {"conversations": 2, "customer_turns": 2, "industries": 2, "labels": {"complaint": 1}}
    assert report["bundled_splits"]["train"]["hot_turn_share"] == 1
    assert report["bundled_agreement"] == {"turns": 1, "frustration": 1.0}
    assert report["bundled_diversity"]["words"] == 4


def test_corpora_without_the_bundled_one_are_described_alone() -> None:
    talk = Conversation.model_validate(
        {"id": "a", "turns": [{"role": "customer", "text": "hi"}], "meta": {"source": "mine"}}
    )
    assert set(describe_corpora([talk], load_vocabulary())) == {"mine"}
