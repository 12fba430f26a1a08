"""How well two independent labellings of the same turns agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from pipeline.conversation import Conversation
from pipeline.scores import flags_f1, quadratic_kappa
from pipeline.vocabulary import Labels, Vocabulary

K = TypeVar("K")


class BlindLabels(BaseModel):
    """A second reader's labels of one turn, given without sight of the first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversation: str
    turn: int
    labels: Labels


def read_blind(path: Path) -> list[BlindLabels]:
    """The second labelling from a JSON-lines file. Raises pydantic's ValidationError on a bad row."""
    return [BlindLabels.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def agreement(
    conversations: Sequence[Conversation], blind: Sequence[BlindLabels], vocabulary: Vocabulary
) -> dict[str, float]:
    """How well the second labels of turns agree with those that the conversations carry."""
    first = {(c.id, i): turn.labels for c in conversations for i, turn in enumerate(c.turns) if turn.labels}
    return compare([(first[row.conversation, row.turn], row.labels) for row in blind], vocabulary)


def label_agreement(first: Mapping[K, Labels], second: Mapping[K, Labels], vocabulary: Vocabulary) -> dict[str, float]:
    """How well two labellings agree over the rows that both speak of."""
    return compare([(first[key], labels) for key, labels in second.items() if key in first], vocabulary)


def compare(pairs: Sequence[tuple[Labels, Labels]], vocabulary: Vocabulary) -> dict[str, float]:
    """Quadratic kappa per distribution head and micro-F1 per multilabel head, over turns labelled twice."""
    result: dict[str, float] = {"turns": len(pairs)}
    for name, head in vocabulary.heads.items():
        both = [(head.target(a[name]), head.target(b[name])) for a, b in pairs if name in a and name in b]
        if not both:
            continue
        if head.exclusive:
            result[name] = round(quadratic_kappa([a.index(1) for a, _ in both], [b.index(1) for _, b in both]), 4)
        else:
            result[name] = round(flags_f1([a for a, _ in both], [b for _, b in both]), 4)
    return result
