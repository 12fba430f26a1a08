"""Answers and policies made for the tests of routing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.config import CONFIGS
from pipeline.heads import Floats
from pipeline.vocabulary import load_vocabulary
from serving.answers import Abstention, Answer, Level, ModelName, Priority, Satisfaction, Sentiment
from serving.policy import Policy, RoutingConfig, load_policy

VOCABULARY = load_vocabulary()
POLICY = load_policy(VOCABULARY)
MODEL = ModelName(version="1", bundle="sha256:0")


def changed(**sections: Any) -> Policy:
    """The project's policy with some sections in place of its own."""
    values = yaml.safe_load((CONFIGS / "routing.yaml").read_text(encoding="utf-8"))
    return Policy(RoutingConfig.model_validate({**values, **sections}), VOCABULARY)


def outputs(**chances: float) -> Floats:
    """Model outputs: the calmest there are, but for those named `head__value`; ordinal heads still sum to 1."""
    values, where = np.zeros(VOCABULARY.size), VOCABULARY.slices()
    for name, head in VOCABULARY.heads.items():
        named = {value: chances[f"{name}__{value}"] for value in head.values if f"{name}__{value}" in chances}
        for value, chance in named.items():
            values[where[name].start + head.values.index(value)] = chance
        if head.exclusive and head.values[0] not in named:
            values[where[name].start] = 1.0 - sum(named.values())
    return values


def answered(name: str, given: Floats | None = None, turn: int = 0, policy: Policy = POLICY) -> Answer:
    """What the scorer says of these outputs; calm where none are given."""
    given = outputs() if given is None else given
    part = {head: [round(float(p), 4) for p in given[where]] for head, where in VOCABULARY.slices().items()}
    named = {
        head: dict(zip(VOCABULARY.heads[head].values, part[head], strict=True)) for head in ("sentiment", "signals")
    }
    decision = policy.decide(given)
    return Answer(
        id=name,
        turn=turn,
        sentiment=Sentiment(label="neutral", score=0.0, probabilities=named["sentiment"]),
        frustration=Level(level=0, expected=0.0, probabilities=part["frustration"]),
        urgency=Level(level=0, expected=0.0, probabilities=part["urgency"]),
        signals=named["signals"],
        satisfaction=Satisfaction(expected=3.0, probabilities=part["satisfaction"]),
        boil_over=part["boil_over"][0],
        priority=Priority(score=decision.score, queue=decision.queue, reasons=list(decision.reasons)),
        model=MODEL,
    )


def abstained(name: str, turn: int = 0, policy: Policy = POLICY) -> Answer:
    """An answer that does not judge."""
    decision = policy.decide_abstained("language")
    return Answer(
        id=name,
        turn=turn,
        priority=Priority(score=decision.score, queue=decision.queue, reasons=list(decision.reasons)),
        abstained=Abstention(reason="language", detail="fr"),
        model=MODEL,
    )


def export(name: str, *turns: tuple[str | None, Answer | None]) -> dict[str, Any]:
    """A conversation as the store exports it: when each turn came, and its answer."""
    rows = [
        {"id": f"m{i}", "role": "customer", "text": "…", "at": at, "answer": said and said.model_dump(mode="json")}
        for i, (at, said) in enumerate(turns)
    ]
    return {"conversation": {"id": name, "status": "resolved"}, "turns": rows, "history": []}


def line(row: Answer | dict[str, Any]) -> bytes:
    """A row as one JSON line."""
    return (json.dumps(row) if isinstance(row, dict) else row.model_dump_json()).encode() + b"\n"


def written(path: Path, *rows: Answer | dict[str, Any] | bytes) -> Path:
    """A file of rows; bytes are taken as they are."""
    path.write_bytes(b"".join(row if isinstance(row, bytes) else line(row) for row in rows))
    return path
