"""DVC stage `ingest`: read the profile's corpora, check them, redact them, write one file of conversations.

    python -m pipeline.ingest            build/conversations.jsonl, metrics/ingest.json

Knows nothing of tokens or splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from pipeline.agreement import agreement, read_blind
from pipeline.config import Config, current_profile, load_config
from pipeline.conversation import Conversation, write_conversations
from pipeline.diversity import LEAST_OVERLAP, diversity, near_duplicates
from pipeline.errors import InputError
from pipeline.redact import redact
from pipeline.sources import find_source, read_sources
from pipeline.sources.bundled import BLIND
from pipeline.sources.exports import Export, read_exports
from pipeline.splits import draw
from pipeline.stage import BUILD, CORPORA, METRICS, progress, run, write_json
from pipeline.text import decode
from pipeline.vocabulary import LabelError, Vocabulary, load_vocabulary

CONVERSATIONS = BUILD / "conversations.jsonl"


class IngestConfig(Config):
    """Which corpora and exports, and when two messages of the bundled corpus count as the same.

    `held` names, of a corpus, the share of conversations that are held back for tests, whatever is added later.
    """

    sources: tuple[str, ...]
    exports: tuple[Export, ...] = ()
    held: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    near_duplicate: float = Field(ge=LEAST_OVERLAP)
    near_duplicate_words: int

    @field_validator("sources")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find_source(name)
        return names

    @model_validator(mode="after")
    def _held_are_read(self) -> IngestConfig:
        for name in self.held:
            if name not in self.sources:
                raise ValueError(f"held: {name} is none of the sources")
        return self


class CorpusError(InputError):
    """The corpora break a rule; the message names the rows."""


def ingest(config: IngestConfig, vocabulary: Vocabulary, folder: Path) -> list[Conversation]:
    """The profile's conversations, labels checked, personal data redacted. Raises CorpusError."""
    found = chain(read_sources(config.sources, folder), read_exports(config.exports, folder, vocabulary))
    conversations = [hold_back(conversation, config.held) for conversation in progress(found, "reading corpora")]
    check_labels(conversations, vocabulary)
    check_ids(conversations)
    bundled = [c for c in conversations if c.meta.get("source") == "bundled"]
    check_near_duplicates(bundled, config)
    return [redacted(conversation) for conversation in progress(conversations, "redacting")]


def hold_back(conversation: Conversation, shares: Mapping[str, float]) -> Conversation:
    """The conversation, named a test one if it is among the share of its corpus that is held back.

    Drawn from its id alone, so that one held back once stays so.
    """
    if draw(conversation.id) >= shares.get(str(conversation.meta.get("source")), 0.0):
        return conversation
    return conversation.model_copy(update={"meta": {**conversation.meta, "split": "test"}})


def check_labels(conversations: Iterable[Conversation], vocabulary: Vocabulary) -> None:
    """Raise CorpusError for a label outside the vocabulary or on a turn that no customer wrote."""
    for conversation in conversations:
        for index, turn in enumerate(conversation.turns):
            where = f"{conversation.id} turn {index}"
            if turn.labels and turn.role != "customer":
                raise CorpusError(f"{where}: labels on a turn of the {turn.role}")
            try:
                vocabulary.check(turn.labels or {})
            except LabelError as error:
                raise CorpusError(f"{where}: {error}") from None


def check_ids(conversations: Iterable[Conversation]) -> None:
    """Raise CorpusError naming conversation ids that occur twice."""
    repeated = [name for name, count in Counter(c.id for c in conversations).items() if count > 1]
    if repeated:
        raise CorpusError(f"conversation ids occur twice: {', '.join(repeated[:5])}")


def check_near_duplicates(conversations: Sequence[Conversation], config: IngestConfig) -> None:
    """Raise CorpusError naming customer messages that are near-duplicates of each other."""
    named = [(f"{c.id} turn {i}", c.turns[i].text) for c in conversations for i in c.customer_turns()]
    pairs = near_duplicates([text for _, text in named], config.near_duplicate, config.near_duplicate_words)
    if pairs:
        listed = "; ".join(f"{named[i][0]} and {named[j][0]}" for i, j in pairs[:5])
        raise CorpusError(f"{len(pairs)} near-duplicate customer messages: {listed}")


def redacted(conversation: Conversation) -> Conversation:
    """The conversation with every turn decoded and its personal data replaced."""
    turns = tuple(turn.model_copy(update={"text": redact(decode(turn.text))}) for turn in conversation.turns)
    return conversation.model_copy(update={"turns": turns})


def describe_corpora(conversations: Sequence[Conversation], vocabulary: Vocabulary) -> dict[str, object]:
    """Counts per corpus and head, and for the bundled corpus diversity, hot rates and agreement."""
    sources = sorted({str(c.meta["source"]) for c in conversations})
    report: dict[str, object] = {
        name: _counts([c for c in conversations if c.meta["source"] == name]) for name in sources
    }
    bundled = [c for c in conversations if c.meta["source"] == "bundled"]
    return report | (describe_bundled(bundled, vocabulary) if bundled else {})


def describe_bundled(bundled: Sequence[Conversation], vocabulary: Vocabulary) -> dict[str, object]:
    """How varied the bundled corpus is, how hot its splits are, and how well its two readers agree."""
    report: dict[str, object] = {}
    report["bundled_diversity"] = diversity([c.turns[i].text for c in bundled for i in c.customer_turns()])
    report["bundled_splits"] = {
        split: hot_rates([c for c in bundled if c.meta.get("split") == split], vocabulary)
        for split in ("train", "validation", "test", "live")
    }
    report["bundled_agreement"] = agreement(bundled, read_blind(BLIND), vocabulary)
    return report


def hot_rates(conversations: Sequence[Conversation], vocabulary: Vocabulary) -> dict[str, float]:
    """Counts, and the share of customer turns, and of conversations with any turn, that are hot."""
    hot = [[bool(vocabulary.hot.applies(c.turns[i].labels or {})) for i in c.customer_turns()] for c in conversations]
    turns = sum(map(len, hot))
    return {
        "conversations": len(hot),
        "customer_turns": turns,
        "hot_turn_share": round(sum(map(sum, hot)) / max(1, turns), 4),
        "hot_conversation_share": round(sum(map(any, hot)) / max(1, len(hot)), 4),
    }


def _counts(conversations: Sequence[Conversation]) -> dict[str, object]:
    turns = [c.turns[i] for c in conversations for i in c.customer_turns()]
    return {
        "conversations": len(conversations),
        "customer_turns": len(turns),
        "industries": len({c.meta.get("industry") for c in conversations}),
        "labels": dict(sorted(Counter(head for turn in turns for head in turn.labels or {}).items())),
    }


def main() -> None:
    """Run the stage for the current profile."""
    config = load_config(IngestConfig, "data.yaml", "ingest", current_profile())
    vocabulary = load_vocabulary()
    conversations = ingest(config, vocabulary, CORPORA)
    CONVERSATIONS.parent.mkdir(parents=True, exist_ok=True)
    write_conversations(CONVERSATIONS, conversations)
    write_json(METRICS / "ingest.json", describe_corpora(conversations, vocabulary))


if __name__ == "__main__":
    run(main)
