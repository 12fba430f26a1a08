"""What reviewers said of conversations that the model scored: the way back into training.

    data/reviews/*.jsonl        written by `simmer reviews export`

A row is a conversation whose id begins with `review-`. Labels stand on the customer turns that were reviewed;
`meta.reviewed_at` (ISO 8601) says when, `meta.model` which version had scored it. Where files hold the same
conversation, the newest review counts. Knows nothing of the desk that wrote the files.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.config import ROOT
from pipeline.conversation import Conversation, RowError, read_rows
from pipeline.sources.source import FormatChanged, Source, SourceMissing, named
from pipeline.vocabulary import LabelError, Vocabulary, load_vocabulary

FOLDER = ROOT / "data" / "reviews"
PREFIX = "review-"
_MOMENT = TypeAdapter(datetime)


def read(folder: Path) -> Iterator[Conversation]:
    """Every reviewed conversation, in the order of files and lines; `folder` is not looked at.

    Warns where there is no export. Raises FormatChanged naming file and line.
    """
    paths = sorted(FOLDER.glob("*.jsonl"))
    if not paths:
        warnings.warn("reviews: skipped, no *.jsonl in data/reviews", SourceMissing, stacklevel=2)
    newest: dict[str, Conversation] = {}
    for path in paths:
        for conversation in read_export(path):
            known = newest.get(conversation.id)
            if known is None or reviewed_at(known) <= reviewed_at(conversation):
                newest[conversation.id] = conversation
    yield from newest.values()


def read_export(path: Path) -> Iterator[Conversation]:
    """The conversations of one file. Raises FormatChanged at the first line that is no review."""
    vocabulary, place = load_vocabulary(), _Place()
    with path.open("rb") as lines:
        for row in read_rows(place.of(lines)):
            if isinstance(row, RowError):
                raise FormatChanged(f"{path.name} line {row.line}: {row.error}")
            with named(f"{path.name} line {place.line}: "):
                check(row, vocabulary)
            yield row


class _Place:
    """The number of the line that was read last."""

    line = 0

    def of(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for self.line, line in enumerate(lines, 1):
            yield line


def check(review: Conversation, vocabulary: Vocabulary) -> None:
    """Raise FormatChanged naming the field by which a conversation is no review."""
    if not review.id.startswith(PREFIX):
        raise FormatChanged(f"id: {review.id!r} does not begin with {PREFIX}")
    reviewed_at(review)
    for index, turn in enumerate(review.turns):
        if turn.labels and turn.role != "customer":
            raise FormatChanged(f"turns.{index}.labels: on a turn of the {turn.role}")
        try:
            vocabulary.check(turn.labels or {})
        except LabelError as error:
            raise FormatChanged(f"turns.{index}.labels.{error}") from None


def reviewed_at(review: Conversation) -> datetime:
    """When a conversation was reviewed; UTC where it names no zone. Raises FormatChanged."""
    try:
        moment = _MOMENT.validate_python(review.meta.get("reviewed_at"))
    except ValidationError:
        raise FormatChanged("meta.reviewed_at: missing, or no time in ISO 8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


SOURCE = Source(
    name="reviews",
    title="Conversations that reviewers looked at",
    licence="whoever runs the scorer",
    home="data/reviews/",
    heads=("sentiment", "frustration", "urgency", "signals", "satisfaction", "boil_over"),
    files=(),
    labelled_by="reviewers, by this project's rules, disagreement settled by a third",
    warts=(
        "mostly conversations that the model flagged: hotter than life, and chosen by the model that they correct",
        "personal data was redacted before anyone reviewed them",
    ),
    read=read,
)
