"""What the JSON exports of help desks share: documents of rows in, turns and conversations out.

A file is one document or a document a line; a document is a row, an array of rows, or an object that holds the array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from pipeline.conversation import Channel, Conversation, Role, RowInvalid, Turn, decode_json, writable
from pipeline.sources.source import FormatChanged, check_fields, named

Row: TypeAlias = Mapping[str, Any]
Reader: TypeAlias = Callable[[Row], Conversation | None]
Read: TypeAlias = Conversation | FormatChanged | None
"""A row as a conversation, why it is none, or None where nothing was said in public."""

_MOMENT = TypeAdapter(datetime)


@dataclass(frozen=True)
class Desk:
    """A vendor: under which key its documents hold rows, and what reads a row, given what stands around the rows."""

    rows: str
    reader: Callable[[Row], Reader]


def read_json(lines: Iterable[bytes], name: str, desk: Desk) -> Iterator[Read]:
    """Every row of a vendor's export. Raises FormatChanged where the file is no JSON at all."""
    seen: dict[str, str] = {}
    for where, document in _documents(lines, name):
        if isinstance(document, FormatChanged):
            yield document
            continue
        around, rows = _rows(document, desk.rows, where)
        with named(f"{name}: "):
            read = desk.reader(around)
        for row_where, row in rows:
            yield _read(read, row, name, row_where, seen)


def _read(reader: Reader, row: object, name: str, where: str, seen: dict[str, str]) -> Read:
    try:
        with named(f"{name} {where}: "):
            if not isinstance(row, dict):
                raise FormatChanged("not an object")
            conversation = reader(row)
            if conversation and conversation.id in seen:
                raise FormatChanged(f"id: {conversation.id!r} is already used in {seen[conversation.id]}")
    except FormatChanged as error:
        return error
    if conversation:
        seen[conversation.id] = where
    return conversation


def _rows(document: object, key: str, where: str) -> tuple[Row, Iterable[tuple[str, object]]]:
    """What stands around a document's rows, and each row with its place."""
    around = document if isinstance(document, dict) and isinstance(document.get(key), list) else {}
    rows = around[key] if around else document
    if not isinstance(rows, list):
        return {}, [(where or "row 1", rows)]
    return around, ((f"{where} row {number}".strip(), row) for number, row in enumerate(rows, 1))


def _documents(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, object]]:
    """Each document and its place, a FormatChanged for a line that is none. Raises FormatChanged."""
    left = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    top = list(islice(left, 2))
    documents = [_document(row, name) for row in top]
    if documents and isinstance(documents[0], FormatChanged):
        rest = list(left)
        try:
            whole = decode_json(b"".join(line for _, line in [*top, *rest]))
        except RowInvalid as error:
            if not any(isinstance(document, dict) for document in documents):
                raise FormatChanged(f"{name}: {error}") from None
        else:
            yield "", whole
            return
        left = (row for row in rest)
    for (number, _), document in zip(top, documents, strict=True):
        yield f"line {number}" if len(top) > 1 else "", document
    for row in left:
        yield f"line {row[0]}", _document(row, name)


def _document(row: tuple[int, bytes], name: str) -> object:
    try:
        return decode_json(row[1])
    except RowInvalid as error:
        return FormatChanged(f"{name} line {row[0]}: {error}")


def each(row: Row, name: str) -> Iterator[tuple[str, Row]]:
    """The objects of a row's array, each with the prefix that names its fields. Raises FormatChanged."""
    check_fields(row, {name: list})
    for index, item in enumerate(row[name]):
        if not isinstance(item, dict):
            raise FormatChanged(f"{name}.{index}: not an object")
        yield f"{name}.{index}.", item


def inside(row: Row, name: str, key: str) -> object:
    """What an object inside a row holds; None where there is no such object."""
    value = row.get(name)
    return value.get(key) if isinstance(value, dict) else None


def moment(value: object) -> datetime | None:
    """A time given in ISO 8601 or as a Unix timestamp; UTC where it names no zone. Raises FormatChanged."""
    if value is None or value == "":
        return None
    given = value.removesuffix(" UTC") if isinstance(value, str) else value
    try:
        at = _MOMENT.validate_python(given)
    except ValidationError:
        raise FormatChanged(f"{writable(str(value)[:40])!r} is no time in ISO 8601 or as a Unix timestamp") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def time_of(row: Row, name: str = "created_at") -> datetime | None:
    """The time that a field of a row gives. Raises FormatChanged."""
    with named(f"{name}: "):
        return moment(row.get(name))


def said(role: Role, text: str, at: datetime | None, turn_id: object = None) -> Turn:
    """A turn. Raises pydantic's ValidationError where it is too long for one."""
    return Turn(role=role, text=writable(text).strip(), at=at, id=None if turn_id is None else writable(str(turn_id)))


def conversation_of(
    row_id: object, channel: Channel, turns: Sequence[Turn], language: str | None = None
) -> Conversation | None:
    """The conversation of these turns, oldest first where all are timed; None where none has text."""
    spoken = [turn for turn in turns if turn.text]
    if not spoken:
        return None
    if all(turn.at for turn in spoken):
        spoken.sort(key=lambda turn: turn.at or datetime.max)
    return Conversation(id=writable(str(row_id)), channel=channel, language=language, turns=tuple(spoken))
