import pytest
from datasets import Dataset

from training.slices import slices, text_slices

ROWS = Dataset.from_dict(
    {
        "conversation": ["a", "a", "b", "c"],
        "turn": [1, 3, 0, 2],
        "source": ["support_chats", "support_chats", "bundled", "bundled"],
        "channel": ["chat", "chat", "email", "chat"],
        "industry": ["devices", "devices", "bank", None],
        "text": ["It is not here", "WHERE IS IT", "fine 😀", "Oh great, another week of waiting"],
    }
)


def members(name: str) -> list[bool]:
    return next(chosen.tolist() for found, chosen in slices(ROWS) if found == name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("channel email", [False, False, True, False]),
        ("source support_chats", [True, True, False, False]),
        ("industry bank", [False, False, True, False]),
        ("first turns", [True, False, True, True]),
        ("later turns", [False, True, False, False]),
        ("translated", [True, True, False, False]),
        ("original language", [False, False, True, True]),
        ("negated", [True, False, False, False]),
        ("shouted", [False, True, False, False]),
        ("with emoji", [False, False, True, False]),
        ("sarcasm markers", [False, False, False, True]),
    ],
)
def test_who_belongs_to_a_slice(name: str, expected: list[bool]) -> None:
    assert members(name) == expected


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Thanks for nothing.", True),
        ("yeah right, tomorrow", True),
        ("I love how nobody answers", True),
        ("Well, brilliant. The app is down again", True),
        ("how convenient of you to close the ticket", True),
        ("thanks for the quick help", False),
        ("the great thing is that it works", False),
        ("I sent the right form", False),
    ],
)
def test_markers_of_sarcasm(text: str, marked: bool) -> None:
    assert dict(text_slices([text]))["sarcasm markers"].tolist() == [marked]
