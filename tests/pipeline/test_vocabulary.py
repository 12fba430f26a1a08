from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.vocabulary import AnyOf, Head, Hot, LabelError, LabelValue, Vocabulary, load_vocabulary

MOOD = Head(kind="categorical", values=("bad", "so-so", "good"), numbers=(-1, 0, 1), wording="")
HEAT = Head(kind="ordinal", values=("none", "mild", "strong"), numbers=(0, 1, 2), wording="")
FLAGS = Head(kind="multilabel", values=("loud", "late"), wording="")
COMPLAINT = Head(kind="probability", values=("complaint",), wording="")
HOT = Hot(frustration=2, signals=("loud",), horizon=3)
VOCABULARY = Vocabulary(heads={"mood": MOOD, "heat": HEAT, "flags": FLAGS, "complaint": COMPLAINT}, hot=HOT)


@pytest.mark.parametrize(
    ("head", "label", "target"),
    [
        (MOOD, "so-so", [0, 1, 0]),
        (MOOD, AnyOf(any_of=("bad", "so-so")), [1, 1, 0]),
        (HEAT, 2, [0, 0, 1]),
        (HEAT, "mild", [0, 1, 0]),
        (HEAT, AnyOf(any_of=("mild", "strong")), [0, 1, 1]),
        (FLAGS, ("late",), [0, 1]),
        (FLAGS, (), [0, 0]),
        (COMPLAINT, True, [1]),
        (COMPLAINT, False, [0]),
    ],
)
def test_a_label_is_a_weight_for_every_value_it_allows(head: Head, label: LabelValue, target: list[float]) -> None:
    assert head.target(label) == target


@pytest.mark.parametrize(
    ("head", "label"),
    [
        (MOOD, "awful"),
        (MOOD, 0),
        (MOOD, True),
        (MOOD, ("bad",)),
        (MOOD, AnyOf(any_of=("bad", "awful"))),
        (HEAT, 3),
        (HEAT, False),
        (FLAGS, "loud"),
        (FLAGS, ("loud", "rude")),
        (FLAGS, AnyOf(any_of=("loud",))),
        (COMPLAINT, 1),
        (COMPLAINT, "complaint"),
    ],
)
def test_a_label_of_another_kind_or_value_is_refused(head: Head, label: LabelValue) -> None:
    with pytest.raises(LabelError):
        head.target(label)


def test_a_refused_label_names_its_head() -> None:
    with pytest.raises(LabelError, match=r"^mood: 'awful' is not one of bad, so-so, good"):
        VOCABULARY.check({"heat": 1, "mood": "awful"})
    with pytest.raises(LabelError, match=r"^temper: no such head"):
        VOCABULARY.check({"temper": 1})


def test_labels_inside_the_vocabulary_pass() -> None:
    VOCABULARY.check({"mood": AnyOf(any_of=("bad",)), "heat": 0, "flags": (), "complaint": False})


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "categorical", "values": ["a", "a"], "numbers": [0, 1]},
        {"kind": "ordinal", "values": ["a", "b"], "numbers": [0]},
        {"kind": "categorical", "values": ["a", "b"]},
        {"kind": "probability", "values": ["a", "b"]},
        {"kind": "multilabel", "values": []},
        {"kind": "guess", "values": ["a"]},
        {"kind": "multilabel", "values": ["a"], "colour": "red"},
    ],
)
def test_an_inconsistent_head_is_refused(head: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Head.model_validate({"wording": "", **head})


def test_a_coarse_label_names_at_least_one_value() -> None:
    with pytest.raises(ValidationError):
        AnyOf(any_of=())


def test_outputs_stand_side_by_side_in_order() -> None:
    assert VOCABULARY.slices() == {
        "mood": slice(0, 3),
        "heat": slice(3, 6),
        "flags": slice(6, 8),
        "complaint": slice(8, 9),
    }
    assert VOCABULARY.size == 9


def test_a_restriction_keeps_the_order_and_what_is_hot() -> None:
    smaller = VOCABULARY.only(["complaint", "mood", "unknown"])
    assert list(smaller.heads) == ["mood", "complaint"]
    assert smaller.slices()["complaint"] == slice(3, 4)
    assert smaller.hot == HOT


@pytest.mark.parametrize(
    ("labels", "hot"),
    [
        ({"frustration": 2}, True),
        ({"frustration": 1}, False),
        ({"signals": ("loud",)}, True),
        ({"signals": ("late",)}, False),
        ({"frustration": 0, "signals": ("late", "loud")}, True),
        ({"frustration": 3, "signals": ()}, True),
        ({"sentiment": "bad"}, None),
        ({}, None),
    ],
)
def test_a_turn_is_hot_by_frustration_or_by_signal(labels: dict[str, LabelValue], hot: bool | None) -> None:
    assert HOT.applies(labels) is hot


def test_the_projects_vocabulary_has_the_designed_heads() -> None:
    heads = load_vocabulary().heads
    sizes = {name: len(head.values) for name, head in heads.items() if not head.auxiliary}
    assert sizes == {"sentiment": 5, "frustration": 4, "urgency": 4, "signals": 6, "satisfaction": 5, "boil_over": 1}
    assert {name: len(head.values) for name, head in heads.items() if head.auxiliary} == {
        "airline_sentiment": 3,
        "complaint": 1,
        "emotion": 8,
        "goemotions": 28,
    }


def test_the_projects_hot_signals_are_signals() -> None:
    vocabulary = load_vocabulary()
    assert set(vocabulary.hot.signals) < set(vocabulary.heads["signals"].values)
    assert (vocabulary.hot.frustration, vocabulary.hot.horizon) == (2, 3)


def test_a_malformed_vocabulary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("heads: {mood: {kind: categorical, values: [a, b], wording: x}}\n", encoding="utf-8")
    with pytest.raises(ValidationError):
        load_vocabulary(file)
