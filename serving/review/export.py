"""Verdicts as a corpus: what `simmer reviews export` writes and the `reviews` source of the pipeline reads.

One line a conversation that has settled labels, in our own data model. A label counts where one reviewer gave it, where
several gave the same, or where somebody settled what they saw differently; a head that is disputed is left out. Ids
are hashes, so that the same conversation has the same id in every export and tells nobody where it came from; text was
redacted when it came in and is once more. Verdicts on conversations that were erased have no text left to export.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from pipeline.conversation import Conversation, Turn, as_line
from pipeline.redact import redact
from pipeline.vocabulary import LabelError, Labels, Vocabulary
from serving.review.standing import WHOLE, standing
from serving.store import conversations, reviews
from serving.store.records import Record
from serving.store.reviews import Verdict

PREFIX = "review-"
HASH_SHOWN = 24  # characters of the hash that make an id


@dataclass(frozen=True)
class Exported:
    """What came of an export."""

    conversations: int
    labelled: int  # messages
    disputed: int  # conversations in which something waits to be settled
    erased: int  # conversations that were reviewed and are no more


def export(connection: Connection, target: Path, vocabulary: Vocabulary) -> Exported:
    """Write the corpus, whole or not at all, in the order of its ids. Raises OSError.

    Labels outside the vocabulary, of a model of earlier days, are left out.
    """
    found: list[Conversation] = []
    disputed = erased = 0
    for verdicts in reviews.by_conversation(connection):
        record = conversations.read(connection, verdicts[0].conversation)
        disputed += record is not None and bool(standing(verdicts, None).disputed)
        erased += record is None
        review = _review(record, verdicts, vocabulary) if record else None
        if review is not None:
            found.append(review)
    found.sort(key=lambda one: one.id)
    _write(target, found)
    return Exported(len(found), sum(bool(turn.labels) for one in found for turn in one.turns), disputed, erased)


def exported_id(identifier: str) -> str:
    """What a conversation is called in an export."""
    return PREFIX + hashlib.sha256(identifier.encode()).hexdigest()[:HASH_SHOWN]


def _review(record: Record, verdicts: list[Verdict], vocabulary: Vocabulary) -> Conversation | None:
    """The conversation with the labels that hold; None where there are none."""
    holds = standing(verdicts, None).holds
    labels = {message: _known(said, vocabulary) for message, said in holds.items() if message is not WHOLE}
    turns = tuple(
        Turn(
            role=one.role, text=redact(one.text), labels=labels.get(one.id) or None if one.role == "customer" else None
        )
        for one in record.messages
    )
    if not any(turn.labels for turn in turns):
        return None
    newest = max(verdicts, key=lambda verdict: verdict.at)
    model = next((verdict.model for verdict in reversed(verdicts) if verdict.model), None)
    return Conversation(
        id=exported_id(record.state.id),
        channel=record.state.channel,
        language=record.state.language,
        turns=turns,
        meta={"source": "reviews", "reviewed_at": newest.at.isoformat(), "model": model},
    )


def _known(said: Mapping[str, Any], vocabulary: Vocabulary) -> Labels:
    labels: Labels = {}
    for name, label in said.items():
        with suppress(LabelError):
            vocabulary.check({name: label})
            labels[name] = label
    return labels


def _write(target: Path, found: list[Conversation]) -> None:
    """A file that takes its place once all of it is on disk."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as out:
            out.writelines(as_line(one) for one in found)
            out.flush()
            os.fsync(out.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
