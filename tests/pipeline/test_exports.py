"""Exports of help desks and CSV files: what was said in public is kept, what was not never comes out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import ConfigError
from pipeline.conversation import Conversation, as_line, parse_row
from pipeline.sources import FormatChanged, SourceMissing
from pipeline.sources.exports import DESKS, Export, Kind, read_export, read_exports
from pipeline.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
NOON = "2025-03-01T12:00:00Z"
SECRET = "he is rude, go slow on this one"


def read(kind: Kind, content: bytes | str, columns: Mapping[str, str] | None = None) -> list[Any]:
    """What an export gives, errors as their text."""
    lines = io.BytesIO(content.encode() if isinstance(content, str) else content)
    rows = read_export(kind, lines, "given", columns or {}, VOCABULARY)
    return [str(row) if isinstance(row, FormatChanged) else row for row in rows]


def only(kind: Kind, row: object) -> Conversation:
    (found,) = read(kind, json.dumps([row]))
    assert isinstance(found, Conversation), found
    return found


def talk(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in conversation.turns]


def comment(author: int, text: str, **more: object) -> dict[str, object]:
    return {"id": 900 + author, "author_id": author, "public": True, "body": text, **more}


def ticket(*comments: object, **more: object) -> dict[str, Any]:
    return {"id": 35, "requester_id": 1, "comments": list(comments), **more}


def part(kind: str, body: str | None, **more: object) -> dict[str, object]:
    return {"id": "p", "part_type": "comment", "body": body, "author": {"type": kind, "id": "u"}, **more}


def chat(*parts: object, **source: object) -> dict[str, Any]:
    opening = {"type": "conversation", "id": "s", "body": "<p>Hello?</p>", "author": {"type": "user"}, **source}
    return {
        "type": "conversation",
        "id": "c7",
        "created_at": 1740830400,
        "source": opening,
        "conversation_parts": {"type": "conversation_part.list", "conversation_parts": list(parts)},
    }


def note(text: str, incoming: bool = False, **more: object) -> dict[str, object]:
    return {"id": 5, "body_text": text, "body": f"<div>{text}</div>", "incoming": incoming, "private": False, **more}


def case(*notes: object, **more: object) -> dict[str, Any]:
    return {"id": 12, "description_text": "It is cold", "source": 1, "conversations": list(notes), **more}


ROWS: dict[Kind, dict[str, Any]] = {
    "zendesk": ticket(comment(1, "It is cold")),
    "intercom": chat(),
    "freshdesk": case(),
}
KINDS = list(ROWS)


def test_a_zendesk_ticket_is_its_public_comments() -> None:
    users = [{"id": 2, "role": "admin"}, {"id": 3, "role": "end-user"}]
    found = only(
        "zendesk",
        ticket(
            comment(1, "It is cold", created_at=NOON),
            comment(2, SECRET, public=False, created_at=NOON),
            comment(2, "We are on it", created_at=NOON),
            comment(3, "It is cold here too", created_at=NOON),
            comment(4, "Somebody came", created_at=NOON),
            comment(-1, "How did we do?", created_at=NOON),
            comment(2, "Solved itself", via={"channel": "rule"}, created_at=NOON),
            users=users,
        ),
    )
    assert [turn.role for turn in found.turns] == ["customer", "agent", "customer", "agent", "bot", "bot"]
    assert SECRET not in str(found)
    assert (found.id, found.turns[0].id, found.turns[0].at) == ("35", "901", datetime(2025, 3, 1, 12, tzinfo=UTC))


def test_users_may_stand_beside_the_tickets() -> None:
    page = {"tickets": [ticket(comment(3, "Me too"))], "users": [{"id": 3, "role": "end-user"}]}
    (found,) = read("zendesk", json.dumps(page))
    assert talk(found) == [("customer", "Me too")]


@pytest.mark.parametrize(
    ("bodies", "text"),
    [
        ({"plain_body": "2 < 3", "html_body": "<p>2 &lt; 3</p>"}, "2 < 3"),
        (
            {"plain_body": " ", "body": None, "html_body": "<h2>Late</h2><p>cold &amp; <b>dark</b></p>"},
            "Late\ncold & dark",
        ),
        ({"body": "plain <b>as it stands</b>"}, "plain <b>as it stands</b>"),
        ({"body": None, "html_body": '<img src="https://a.example/b.png">what is this?'}, "what is this?"),
    ],
)
def test_a_body_is_read_without_its_markup(bodies: dict[str, object], text: str) -> None:
    row = ticket({"author_id": 1, "public": True, **bodies})
    assert talk(only("zendesk", row)) == [("customer", text)]


def test_an_intercom_conversation_is_what_its_customer_saw() -> None:
    found = only(
        "intercom",
        chat(
            part("bot", "<p>A person will come</p>", created_at=1740830401),
            part("admin", f"<p>{SECRET}</p>", part_type="note", created_at=1740830402),
            part("admin", SECRET, part_type="assignment", created_at=1740830403),
            part("lead", "<p>Still <i>waiting</i></p>", part_type="open", created_at=1740830404),
            part("admin", "Sorry", part_type="close", created_at=1740830405),
            part("admin", None, part_type="snoozed", created_at=1740830406),
            {"part_type": "fin_step", "body": None, "author": {"type": "workflow"}},
        ),
    )
    assert talk(found) == [
        ("customer", "Hello?"),
        ("bot", "A person will come"),
        ("customer", "Still waiting"),
        ("agent", "Sorry"),
    ]
    assert (found.id, found.turns[0].at) == ("c7", datetime(2025, 3, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("source", "role"),
    [
        ({"author": {"type": "contact"}}, "customer"),
        ({"author": {"type": "admin"}}, "agent"),
        ({"author": {"type": "admin"}, "delivered_as": "automated"}, "bot"),
        ({"author": {"type": "user"}, "delivered_as": "automated"}, "customer"),
        ({"author": {"type": "admin", "from_ai_agent": True}}, "bot"),
    ],
)
def test_who_opened_an_intercom_conversation(source: dict[str, object], role: str) -> None:
    assert talk(only("intercom", chat(**source))) == [(role, "Hello?")]


def test_a_freshdesk_ticket_is_its_public_conversations() -> None:
    found = only(
        "freshdesk",
        case(
            note("Have you tried the valve?", created_at="2025-03-02T09:00:00+05:30"),
            note(SECRET, private=True),
            note("", incoming=True, body="<div>Yes,<br>twice</div>", created_at="2025-03-03T09:00:00Z"),
            note("We miss you", automation_id=4, created_at="2025-03-04T09:00:00Z"),
            created_at="2025-03-01T09:00:00Z",
        ),
    )
    assert talk(found) == [
        ("customer", "It is cold"),
        ("agent", "Have you tried the valve?"),
        ("customer", "Yes,\ntwice"),
        ("bot", "We miss you"),
    ]
    assert (found.id, found.turns[1].id) == ("12", "5")


def test_a_freshdesk_account_export_is_read_too() -> None:
    inner = {"body": "2 < 3", "body_html": "<p>2 &lt; 3</p>", "incoming": True, "private": False}
    row = {
        "id": 99,
        "display_id": 12,
        "description": "a < b",
        "description_html": "<p>a</p>",
        "notes": [{"note": inner}],
    }
    found = only("freshdesk", {"helpdesk_ticket": row})
    assert (found.id, talk(found)) == ("12", [("customer", "a < b"), ("customer", "2 < 3")])


def test_an_agent_who_wrote_first_is_no_customer() -> None:
    assert talk(only("freshdesk", case(source=10))) == [("agent", "It is cold")]


CHANNELS: list[tuple[Kind, dict[str, Any], str]] = [
    ("zendesk", {"via": {"channel": "native_messaging"}}, "chat"),
    ("zendesk", {"via": {"channel": "web"}}, "email"),
    ("zendesk", {"via": {"channel": "twitter_dm"}}, "social"),
    ("zendesk", {"via": {"channel": "voice"}}, "phone"),
    ("zendesk", {"via": None}, "email"),
    ("zendesk", {}, "email"),
    ("freshdesk", {"source": 3}, "phone"),
    ("freshdesk", {"source": 7}, "chat"),
    ("freshdesk", {"source": 6}, "social"),
    ("freshdesk", {"source": 101}, "email"),
    ("freshdesk", {"source": None}, "email"),
    ("intercom", {"source": chat(type="whatsapp")["source"]}, "chat"),
    ("intercom", {"source": chat(type="email")["source"]}, "email"),
    ("intercom", {"source": chat(type="instagram")["source"]}, "social"),
    ("intercom", {"source": chat(type="phone_call")["source"]}, "phone"),
]


@pytest.mark.parametrize(("kind", "fields", "channel"), CHANNELS)
def test_a_vendors_channel_is_one_of_ours(kind: Kind, fields: dict[str, Any], channel: str) -> None:
    assert only(kind, {**ROWS[kind], **fields}).channel == channel


def test_turns_are_put_in_order_where_all_are_timed() -> None:
    late, early = comment(1, "second", created_at="2025-03-02T00:00:00Z"), comment(1, "first", created_at=NOON)
    assert [turn.text for turn in only("zendesk", ticket(late, early)).turns] == ["first", "second"]
    del early["created_at"]
    assert [turn.text for turn in only("zendesk", ticket(late, early)).turns] == ["second", "first"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["array", "object", "pretty", "lines", "pages", "bom"])
def test_every_shape_of_file_is_read(kind: Kind, shape: str) -> None:
    rows = [{**ROWS[kind], "id": number} for number in (1, 2, 3)]
    key = DESKS[kind].rows
    content = {
        "array": json.dumps(rows),
        "object": json.dumps({key: rows, "count": 3}),
        "pretty": json.dumps({key: rows}, indent=2),
        "lines": "\r\n\r\n".join(map(json.dumps, rows)),
        "pages": "\n".join(json.dumps({key: some}) for some in (rows[:2], rows[2:])),
        "bom": "\ufeff" + "\n".join(map(json.dumps, rows)),
    }[shape]
    assert [row.id for row in read(kind, content)] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_may_be_the_whole_file(kind: Kind) -> None:
    assert len(read(kind, json.dumps(ROWS[kind], indent=1))) == 1
    assert read(kind, "\n\n") == []


def test_where_nothing_was_said_in_public_there_is_no_conversation() -> None:
    assert (
        read("zendesk", json.dumps([ticket(comment(2, SECRET, public=False)), ticket(comment(1, " "))])) == [None] * 2
    )


def test_a_user_of_no_known_role_is_judged_by_the_ticket() -> None:
    row = ticket(comment(1, "It is cold"), comment(2, "Sorry"), users=[{"id": [2], "role": ["owner"]}, {}])
    assert [role for role, _ in talk(only("zendesk", row))] == ["customer", "agent"]


BAD: list[tuple[Kind, Any, str]] = [
    ("zendesk", ["a"], "not an object"),
    ("zendesk", {"id": 35}, "comments: missing"),
    ("zendesk", {**ticket(), "id": None}, "id: missing"),
    ("zendesk", ticket("hi"), "comments.0: not an object"),
    ("zendesk", ticket({"author_id": 1, "body": "hi"}), "comments.0.public: missing"),
    ("zendesk", ticket({"public": True, "body": "hi"}), "comments.0.author_id: missing"),
    ("zendesk", ticket({"public": True, "author_id": 1}), "comments.0.body: missing"),
    (
        "zendesk",
        ticket(comment(1, "a"), comment(1, "b", created_at="noon")),
        "comments.1.created_at: 'noon' is no time",
    ),
    ("zendesk", ticket(comment(1, "x" * 100_001)), "comments.0.text: String should have at most 100000"),
    ("zendesk", ticket(users=["x"]), "users.0: not an object"),
    ("intercom", {"id": "c7", "source": {}}, "conversation_parts: missing"),
    ("intercom", {**chat(), "created_at": []}, "created_at: '[]' is no time"),
    ("intercom", chat(author={"type": "ghost"}), "source.author.type: 'ghost' is none of user"),
    ("intercom", chat(author=None), "source.author: missing"),
    ("intercom", chat(body=5), "source.body: missing or of another type"),
    ("intercom", chat({"body": "hi"}), "conversation_parts.conversation_parts.0.part_type: missing"),
    ("intercom", chat(part("ghost", "boo")), "conversation_parts.conversation_parts.0.author.type: 'ghost'"),
    ("freshdesk", {"id": 1, "conversations": []}, "description: missing"),
    ("freshdesk", {"id": 1, "description": "hi"}, "conversations: missing"),
    ("freshdesk", case({"incoming": True, "body": "hi"}), "conversations.0.private: missing"),
    ("freshdesk", case({"private": False, "body": "hi"}), "conversations.0.incoming: missing"),
    ("freshdesk", case({"private": False, "incoming": True, "body": 1}), "conversations.0.body: missing"),
]


@pytest.mark.parametrize(("kind", "bad", "named"), BAD)
def test_a_bad_row_is_named_and_spoils_no_other(kind: Kind, bad: Any, named: str) -> None:
    found = read(kind, json.dumps([{**ROWS[kind], "id": "a"}, bad, {**ROWS[kind], "id": "b"}]))
    assert [found[0].id, found[2].id] == ["a", "b"]
    assert found[1].startswith(f"given row 2: {named}"), found[1]


def test_a_bad_line_is_named_and_spoils_no_other() -> None:
    good = json.dumps(ROWS["zendesk"])
    assert read("zendesk", f"nonsense\n{good}\n[" + "[" * 50_000 + '\n{"id": 5}\n"caf\xe9"')[::2] == [
        "given line 1: not JSON: Expecting value: line 1 column 1 (char 0)",
        "given line 3: the row is nested too deeply",
        "given line 5: not an object",
    ]


def test_an_id_that_comes_back_names_its_first_row() -> None:
    rows = "\n".join([json.dumps(ROWS["zendesk"])] * 2)
    assert read("zendesk", rows)[1] == "given line 2: id: '35' is already used in line 1"


@pytest.mark.parametrize("content", ["nonsense", '[\n{"id": 1},\n', '{"tickets": [\n  {"id"', b"\xff\xfe{\x00"])
def test_a_file_that_is_no_json_is_named(content: str | bytes) -> None:
    with pytest.raises(FormatChanged, match=r"^given: not "):
        read("zendesk", content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("<p>hi"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    *("id", "comments", "users", "requester_id", "author_id", "public", "body", "html_body", "plain_body", "via"),
    *("source", "conversation_parts", "part_type", "author", "type", "created_at", "role", "channel"),
    *("conversations", "notes", "incoming", "private", "description", "helpdesk_ticket", "body_html", "body_text"),
)


def wilder(value: Any, changes: st.DataObject) -> Any:
    """The value with some fields gone and others holding anything."""
    if isinstance(value, list):
        return [wilder(item, changes) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: wilder(inner, changes) for name, inner in value.items() if changes.draw(st.integers(0, 9))}
    return kept | changes.draw(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=1))


@settings(deadline=None)
@given(kind=st.sampled_from(KINDS), changes=st.data())
def test_any_json_is_a_conversation_or_a_named_error(kind: Kind, changes: st.DataObject) -> None:
    rows = {
        "zendesk": ticket(comment(1, "a"), comment(2, "b", via={"channel": "web"}), users=[{"id": 2, "role": "agent"}]),
        "intercom": chat(part("bot", "a"), part("user", "b")),
        "freshdesk": case(note("a"), note("b", incoming=True)),
    }
    for found in read(kind, json.dumps([wilder(rows[str(kind)], changes)])):
        if isinstance(found, Conversation):
            assert parse_row(json.loads(as_line(found))) == found
        else:
            assert found is None or found.startswith("given row 1: ")


@settings(deadline=None)
@given(kind=st.sampled_from([*KINDS, "csv"]), content=st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_are_read_or_refused(kind: Kind, content: bytes | str) -> None:
    given_bytes = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    with suppress(FormatChanged):
        assert all(row is None or row.startswith("given ") for row in read(kind, given_bytes, columns_for(kind)))


def columns_for(kind: Kind) -> dict[str, str]:
    return {"text": "text"} if kind == "csv" else {}


MAP = {
    **{"conversation": "ticket", "id": "message", "text": "body", "role": "author", "at": "sent"},
    **{"channel": "via", "language": "lang", "sentiment": "mood", "frustration": "heat", "signals": "flags"},
}
HEADER = "ticket,message,body,author,sent,via,lang,mood,heat,flags"


def table(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def test_a_csv_row_is_a_message_of_its_conversation() -> None:
    content = table(
        'T1,1,"Late, and\ncold",Customer,2025-03-01 10:00:00 UTC,Email,en,negative,2.0,repeat_contact|abuse',
        "T2,2,Hi,end-user,,,,,mild,none",
        "",
        "T1,3,Sorry,agent,2025-03-01T10:05:00Z,,,,,",
    )
    first, second = read("csv", content, MAP)
    assert (first.id, first.channel, first.language) == ("T1", "email", "en")
    assert talk(first) == [("customer", "Late, and\ncold"), ("agent", "Sorry")]
    assert [(turn.id, turn.at and turn.at.hour) for turn in first.turns] == [("1", 10), ("3", 10)]
    assert first.turns[0].labels == {"sentiment": "negative", "frustration": 2, "signals": ("repeat_contact", "abuse")}
    assert first.turns[1].labels is None
    assert (second.channel, second.turns[0].labels) == ("chat", {"frustration": 1, "signals": ()})


@pytest.mark.parametrize("mapped", [{"id": "ticket"}, {"conversation": "ticket"}])
def test_rows_of_one_id_are_one_conversation(mapped: dict[str, str]) -> None:
    (found,) = read("csv", "ticket,body\n7,Hello\n7,Anyone?\n", {"text": "body", **mapped})
    assert (found.id, talk(found)) == ("7", [("customer", "Hello"), ("customer", "Anyone?")])
    assert found.turns[0].id is None


def test_without_an_id_every_row_stands_alone() -> None:
    found = read("csv", 'body,heat\nHello,\n\n" ",\n" ",2\nAnyone?,\n', {"text": "body"})
    assert [row and row.id for row in found] == ["row-2", None, "row-6"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_delimiter_is_told_from_the_header(delimiter: str, start: str, end: str) -> None:
    rows = [["no", " body", "a,b;c|d"], ["1", "one, two; three | four\tfive", ""]]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    (found,) = read("csv", start + out.getvalue(), {"text": "body", "id": "no"})
    assert (found.id, talk(found)) == ("1", [("customer", "one, two; three | four\tfive")])


ROW = "T1,1,Hi,customer,,,,,,"


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("T2,1,Hi,boss,,,,,,", "column author: 'boss' is none of customer, "),
        ("T2,1,Hi,,,,,,,", "column author: '' is none of customer, "),
        ("T2,1,Hi,customer,1.3.25,,,,,", "column sent: '1.3.25' is no time"),
        ("T2,1,Hi,customer,,fax,,,,", "column via: 'fax' is none of chat, "),
        ("T2,1,Hi,customer,,,,furious,,", "column mood: sentiment: 'furious' is not one of very_negative, "),
        ("T2,1,Hi,customer,,,,,4,", "column heat: frustration: 4 is not one of none, "),
        ("T2,1,Hi,customer,,,,,2.5,", "column heat: frustration: '2.5' is not one of none, "),
        ("T2,1,Hi,customer,,,,,,abuse rage", "column flags: signals: 'rage' is not one of escalation_request, "),
        ("T2,1,Hi,agent,,,,,2,", "column heat: frustration: a label on a turn of the agent"),
        (",1,Hi,customer,,,,,,", "column ticket: empty"),
        ("T2,1,Hi", "has 3 cells where the header has 10"),
        ('T2,1,"Hi" you,customer,,,,,,', "',' expected after '\"'"),
        (f"T2,1,{'x' * 100_001},customer,,,,,,", "text: String should have at most 100000"),
    ],
)
def test_a_bad_csv_row_names_its_column_and_spoils_no_other(bad: str, named: str) -> None:
    error, first, last = read("csv", table(ROW, bad, ROW.replace("T1", "T3")), MAP)
    assert [first.id, last.id] == ["T1", "T3"]
    assert error.startswith(f"given row 3: {named}"), error


def test_a_conversation_with_a_bad_row_is_left_out_whole() -> None:
    error, other = read("csv", table(ROW, "T1,2,Hi,boss,,,,,,", ROW, ROW.replace("T1", "T2")), MAP)
    assert error.endswith("; conversation 'T1' is left out")
    assert other.id == "T2"


def test_a_row_that_is_not_utf_8_is_named() -> None:
    content = table(ROW, "T2,1,caf\xe9,customer,,,,,,").encode("latin-1")
    error, _ = read("csv", content, MAP)
    assert error == "given row 3: column body: not UTF-8; conversation 'T2' is left out"


def test_a_quote_that_never_ends_is_no_message() -> None:
    error, first = read("csv", table(ROW, 'T2,1,"Hi,customer,,,,,,', ROW), MAP)
    assert error == "given row 3: unexpected end of data"
    assert first.id == "T1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"no column body \(it has: \)"),
        ("ticket;text\n", r"no column body \(it has: ticket, text\)"),
        ("body,body\n", "more than one column body"),
        ('"body\n', "header: unexpected end of data"),
        ("body\n".encode("utf-16"), "header: not UTF-8"),
    ],
)
def test_a_table_without_its_columns_is_refused(content: str | bytes, message: str) -> None:
    with pytest.raises(FormatChanged, match=f"^given: {message}"):
        read("csv", content, {"text": "body"})


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("csv", {}, "text: no column is named"),
        ("csv", {"text": "body", "temper": "mood"}, r"temper: no such field or head \(known: id, text, .*boil_over"),
        ("zendesk", {"text": "body"}, "zendesk: only csv has columns"),
    ],
)
def test_columns_that_cannot_be_are_refused(kind: Kind, columns: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(kind, "", columns)


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)
@given(texts=st.lists(CELLS, max_size=6), delimiter=st.sampled_from(",;\t|"), others=st.lists(CELLS, min_size=6))
def test_whatever_a_csv_writer_wrote_is_read_back(texts: list[str], delimiter: str, others: list[str]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "text", "other"), *zip(map(str, range(6)), texts, others, strict=False)])
    found = read("csv", out.getvalue(), {"id": "id", "text": "text"})
    assert [row and row.turns[0].text for row in found] == [text.strip() or None for text in texts]


def export(**more: Any) -> Export:
    return Export(**{"kind": "csv", "file": "t.csv", "columns": {"text": "body", "frustration": "heat"}, **more})


def test_training_reads_exports_named_after_their_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("body,heat\nCold again,2\n \nHi,\n", encoding="utf-8")
    (tmp_path / "z.json").write_text(json.dumps([ROWS["zendesk"], ticket(id=36)]), encoding="utf-8")
    found = list(read_exports([export(), Export(kind="zendesk", file="z.json")], tmp_path, VOCABULARY))
    assert [(row.id, row.meta["source"]) for row in found] == [
        ("t.csv-row-2", "t.csv"),
        ("t.csv-row-4", "t.csv"),
        ("z.json-35", "z.json"),
    ]
    assert found[0].turns[0].labels == {"frustration": 2}


def test_training_ends_at_the_first_bad_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("body,heat\nHi,9\n", encoding="utf-8")
    with pytest.raises(FormatChanged, match=r"^t\.csv row 2: column heat: frustration: 9 is not one of"):
        list(read_exports([export()], tmp_path, VOCABULARY))
    (tmp_path / "t.csv").write_text(f"body,heat\n{'i' * 200},\n", encoding="utf-8")
    with pytest.raises(FormatChanged, match=r"^t\.csv i+: id: String should have at most 200"):
        list(read_exports([export(columns={"text": "body", "id": "body"})], tmp_path, VOCABULARY))


def test_an_export_that_is_not_there_is_skipped_by_name(tmp_path: Path) -> None:
    with pytest.warns(SourceMissing, match=r"^t\.csv: skipped, not in"):
        assert list(read_exports([export()], tmp_path, VOCABULARY)) == []


@pytest.mark.parametrize(
    "more", [{"file": "../t.csv"}, {"file": "/t.csv"}, {"columns": {}}, {"kind": "fax"}, {"file": ""}]
)
def test_an_export_that_cannot_be_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        export(**more)


def test_a_row_that_lost_its_place_leaves_its_conversation_out() -> None:
    error, other = read("csv", "id,body\n1,Hello\n1,well, what now\n2,Hi\n", {"text": "body", "id": "id"})
    assert "3 cells" in str(error)
    assert isinstance(other, Conversation)
    assert other.id == "2"


def test_a_very_long_cell_is_one_bad_row_and_no_rows_come_out_of_it() -> None:
    long = "x" * 140_000 + "\n5,injected"
    error, other = read("csv", f'id,body\n1,"{long}"\n2,Hi\n', {"text": "body", "id": "id"})
    assert "100000" in str(error) or "100,000" in str(error)
    assert isinstance(other, Conversation)
    assert other.id == "2"
