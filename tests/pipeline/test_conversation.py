import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.conversation import (
    MAX_ID,
    MAX_TEXT,
    Conversation,
    RowError,
    RowInvalid,
    Turn,
    decode_json,
    id_of,
    parse_row,
    read_conversations,
    read_rows,
    write_conversations,
)
from pipeline.vocabulary import AnyOf, LabelValue

WELL_FORMED = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LABELS: st.SearchStrategy[LabelValue] = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    WELL_FORMED,
    st.lists(WELL_FORMED, max_size=3).map(tuple),
    st.lists(WELL_FORMED, min_size=1, max_size=3).map(lambda values: AnyOf(any_of=tuple(values))),
)
TURNS = st.builds(
    Turn,
    role=st.sampled_from(["customer", "agent", "bot", "system"]),
    text=WELL_FORMED,
    at=st.none() | st.datetimes(timezones=st.just(UTC)),
    id=st.none() | WELL_FORMED,
    labels=st.none() | st.dictionaries(WELL_FORMED, LABELS, max_size=3),
)
META = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
CONVERSATIONS = st.builds(
    Conversation,
    id=WELL_FORMED.filter(bool),
    channel=st.sampled_from(["chat", "email", "social", "phone"]),
    language=st.none() | st.sampled_from(["en", "de"]),
    turns=st.lists(TURNS, min_size=1, max_size=4).map(tuple),
    meta=st.dictionaries(WELL_FORMED, META | WELL_FORMED, max_size=3),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
ROW_LIKE = st.fixed_dictionaries({}, optional={"id": JSON, "text": JSON, "turns": JSON, "meta": JSON, "channel": JSON})


def good_row(number: int) -> bytes:
    return json.dumps({"id": f"good-{number}", "text": "My parcel never came"}).encode()


def errors(*lines: bytes) -> list[RowError]:
    return [row for row in read_rows(lines) if isinstance(row, RowError)]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations=st.lists(CONVERSATIONS, max_size=4, unique_by=lambda c: c.id))
def test_what_is_written_is_read_back(tmp_path: Path, conversations: list[Conversation]) -> None:
    file = tmp_path / "conversations.jsonl"
    write_conversations(file, conversations)
    assert read_conversations(file) == conversations


def test_what_was_not_given_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "conversations.jsonl"
    write_conversations(file, [Conversation(id="c1", turns=(Turn(role="customer", text="hi"),))])
    assert json.loads(file.read_text(encoding="utf-8")) == {"id": "c1", "turns": [{"role": "customer", "text": "hi"}]}


@settings(deadline=None)
@given(junk=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b" ")), max_size=6), data=st.data())
def test_no_bad_line_raises_or_hides_a_good_one(junk: list[bytes], data: st.DataObject) -> None:
    lines = data.draw(st.permutations([*junk, *map(good_row, range(3))]))
    read = [row.id for row in read_rows(lines) if isinstance(row, Conversation)]
    assert sorted(read) == ["good-0", "good-1", "good-2"]


def parsed(row: object) -> Conversation | str:
    try:
        return parse_row(row)
    except RowInvalid as error:
        return str(error)


@settings(deadline=None)
@given(row=JSON | ROW_LIKE)
def test_any_json_is_a_conversation_or_a_named_error(row: object) -> None:
    read = parsed(row)
    assert isinstance(read, Conversation) or read


@given(row=ROW_LIKE)
def test_an_error_can_always_be_written(row: dict[str, Any]) -> None:
    for error in errors(json.dumps(row).encode()):
        assert json.loads(error.as_line()) == error.as_dict()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"text": "hi"}, "id"),
        ({"id": "", "text": "hi"}, "id"),
        ({"id": 7, "text": "hi"}, "id"),
        ({"id": "i" * (MAX_ID + 1), "text": "hi"}, "id"),
        ({"id": "a"}, "turns"),
        ({"id": "a", "turns": []}, "turns"),
        ({"id": "a", "turns": [{"role": "customer", "text": "hi"}], "text": "hi"}, "text"),
        ({"id": "a", "text": None}, "text"),
        ({"id": "a", "text": "x" * (MAX_TEXT + 1)}, "text"),
        ({"id": "a", "turns": [{"role": "robot", "text": "hi"}]}, "turns.0.role"),
        ({"id": "a", "turns": [{"role": "bot", "text": "hi"}, {"role": "agent"}]}, "turns.1.text"),
        ({"id": "a", "turns": [{"role": "bot", "text": "hi", "mood": 1}]}, "turns.0.mood"),
        ({"id": "a", "text": "hi", "channel": "fax"}, "channel"),
        ({"id": "a", "text": "hi", "colour": "red"}, "colour"),
        ({"id": "a", "text": "hi", "meta": {"deep": [1]}}, "meta.deep"),
    ],
)
def test_a_bad_row_names_its_field(row: object, field: str) -> None:
    with pytest.raises(RowInvalid) as caught:
        parse_row(row)
    assert caught.value.field is not None
    assert caught.value.field.startswith(field)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("row", "kind"), [([], "an array"), ("hi", "a string"), (None, "null"), (True, "a boolean"), (3.5, "a number")]
)
def test_a_row_that_is_no_object_says_what_it_is(row: object, kind: str) -> None:
    with pytest.raises(RowInvalid, match=f"not {kind}"):
        parse_row(row)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\xff\xfe\xfa", "not"),
        (b'{"id": "caf\xe9", "text": "hi"}', "not UTF-8"),
        (b'{"id": "a", "text": "hi"', "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"id": "a", "text": ' + b'{"x":' * 500 + b"1" + b"}" * 501, "text: must be a string"),
        (b'{"id": "a", "meta": {"n": ' + b"9" * 5000 + b"}}", "not JSON"),
    ],
)
def test_a_line_that_cannot_be_decoded_says_why(line: bytes, message: str) -> None:
    (error,) = errors(line)
    assert message in error.error


def test_errors_name_line_and_id() -> None:
    found = errors(good_row(1), b"", b"   \n", b'{"id": "b7", "text": 5}', b"nonsense", good_row(1))
    assert [(error.line, error.id) for error in found] == [(4, "b7"), (5, None), (6, "good-1")]
    assert "already used on line 1" in found[2].error


def test_many_problems_are_counted_not_listed() -> None:
    turns = [{"role": "customer", "text": "hi"}, *[{"role": "robot", "text": "hi"}] * 10]
    with pytest.raises(RowInvalid, match="and 7 more"):
        parse_row({"id": "a", "turns": turns})


def test_half_an_emoji_does_not_cost_the_message() -> None:
    (row,) = read_rows([b'{"id": "a", "text": "I am furious \\ud83d"}'])
    assert isinstance(row, Conversation)
    assert row.turns[0].text == "I am furious ?"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_any_unicode_encoding_of_a_line_is_read(encoding: str) -> None:
    (row,) = read_rows(['{"id": "ü", "text": "Où est mon colis"}'.encode(encoding)])
    assert isinstance(row, Conversation)
    assert row.id == "ü"


def test_text_is_one_customer_turn() -> None:
    assert parse_row({"id": "a", "text": "hi"}).turns == (Turn(role="customer", text="hi"),)


def test_customer_turns_are_numbered_among_all_turns() -> None:
    turns = [{"role": role, "text": "x"} for role in ("bot", "customer", "agent", "system", "customer")]
    assert parse_row({"id": "a", "turns": turns}).customer_turns() == [1, 4]


def test_times_keep_their_zone() -> None:
    turn = {"role": "customer", "text": "x", "at": "2024-05-01T10:00:00+02:00"}
    assert parse_row({"id": "a", "turns": [turn]}).turns[0].at == datetime(2024, 5, 1, 8, tzinfo=UTC)


def test_a_file_with_a_bad_row_is_refused_by_name_and_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(good_row(1) + b"\n" + b'{"id": "x"}\n')
    with pytest.raises(RowInvalid, match=r"^rows\.jsonl line 2: turns:"):
        read_conversations(file)


def test_a_conversation_cannot_be_changed() -> None:
    conversation = parse_row({"id": "a", "text": "hi"})
    with pytest.raises(ValidationError):
        conversation.id = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("row", "found"),
    [({"id": "a1"}, "a1"), ({"id": 3}, None), ({}, None), ([], None), ({"id": "x" * 500}, "x" * MAX_ID)],
)
def test_an_id_is_found_where_there_is_one(row: object, found: str | None) -> None:
    assert id_of(row) == found


def test_an_id_is_safe_to_write() -> None:
    found = id_of(decode_json(b'{"id": "a\\ud800"}'))
    assert found is not None
    assert found.encode() == b"a?"
