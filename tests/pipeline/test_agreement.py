from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.agreement import BlindLabels, agreement, read_blind
from pipeline.conversation import Conversation, Turn
from pipeline.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()


def conversation(name: str, *labels: dict[str, Any] | None) -> Conversation:
    return Conversation(id=name, turns=tuple(Turn(role="customer", text="x", labels=given) for given in labels))


def blind(name: str, turn: int, **labels: Any) -> BlindLabels:
    return BlindLabels(conversation=name, turn=turn, labels=labels)


CHATS = [
    conversation("a", {"frustration": 0, "signals": ("abuse",)}, {"frustration": 3, "signals": ()}),
    conversation("b", None, {"frustration": 1, "sentiment": "neutral"}, {"frustration": 2, "boil_over": True}),
]


def test_equal_labels_agree_wholly() -> None:
    second = [
        blind("a", 0, frustration=0, signals=("abuse",)),
        blind("a", 1, frustration=3, signals=()),
        blind("b", 1, sentiment="neutral"),
    ]
    assert agreement(CHATS, second, VOCABULARY) == {"turns": 3, "frustration": 1.0, "signals": 1.0, "sentiment": 1.0}


def test_disagreement_is_measured_per_head() -> None:
    second = [
        blind("a", 0, frustration=1, signals=("abuse", "vulnerable")),
        blind("a", 1, frustration="severe", signals=("churn_threat",)),
        blind("b", 1, frustration=1),
        blind("b", 2, frustration=0),
    ]
    found = agreement(CHATS, second, VOCABULARY)
    assert found["signals"] == 0.5
    # of 0 3 1 2 and 1 3 1 0: mean squared difference 5/4, by chance 5/4 + 19/16 + (1/4)²
    assert found["frustration"] == pytest.approx(1 - 1.25 / 2.5, abs=1e-4)


def test_a_head_that_one_reader_left_out_is_not_compared() -> None:
    assert agreement(CHATS, [blind("b", 2, sentiment="neutral")], VOCABULARY) == {"turns": 1}


def test_second_labels_are_read_from_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "blind.jsonl"
    file.write_text(
        '{"conversation":"a","turn":0,"labels":{"frustration":1,"signals":["abuse"]}}\n\n', encoding="utf-8"
    )
    assert read_blind(file) == [blind("a", 0, frustration=1, signals=("abuse",))]


@pytest.mark.parametrize("row", ['{"conversation":"a","labels":{}}', '{"conversation":"a","turn":0,"labels":{},"x":1}'])
def test_a_bad_row_of_second_labels_is_refused(tmp_path: Path, row: str) -> None:
    file = tmp_path / "blind.jsonl"
    file.write_text(row, encoding="utf-8")
    with pytest.raises(ValidationError):
        read_blind(file)
