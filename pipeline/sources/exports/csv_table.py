"""CSV with a column map: one message a row, rows of one conversation gathered in their order.

The delimiter is the one with which the header has the named columns. `conversation`, where no column is named for it,
is `id`, and each row stands alone where there is neither. A row counts as a spreadsheet counts it, the header first.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from pipeline.conversation import Channel, Role, Turn
from pipeline.sources.exports.desk import Read, conversation_of, moment, said
from pipeline.sources.source import FormatChanged, named
from pipeline.vocabulary import Head, LabelError, Labels, LabelValue, Vocabulary

FIELDS = ("id", "text", "role", "conversation", "at", "channel", "language")
DELIMITERS = (",", ";", "\t", "|")
ROLES: dict[str, Role] = {
    **dict.fromkeys(("customer", "user", "end-user", "end_user", "requester", "client", "contact", "lead"), "customer"),
    **dict.fromkeys(("visitor", "consumer", "incoming", "inbound"), "customer"),
    **dict.fromkeys(("agent", "admin", "staff", "support", "operator", "employee", "outgoing", "outbound"), "agent"),
    **dict.fromkeys(("bot", "chatbot"), "bot"),
    "system": "system",
}
CHANNELS: dict[str, Channel] = {
    **dict.fromkeys(("chat", "messaging", "sms", "whatsapp", "live chat"), "chat"),
    **dict.fromkeys(("email", "e-mail", "mail", "web", "portal", "form", "api"), "email"),
    **dict.fromkeys(("social", "twitter", "facebook", "instagram", "forum"), "social"),
    **dict.fromkeys(("phone", "voice", "call"), "phone"),
}
NO_FLAG = "none"
_WHOLE = re.compile(r"[+-]?\d{1,9}(?:\.0+)?")  # 2.0 is how a table with gaps writes 2
_BETWEEN_FLAGS = re.compile(r"[|\s]+")
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

T = TypeVar("T")


@dataclass(frozen=True)
class _Message:
    """What a row says, and of which channel and language its conversation is."""

    turn: Turn
    channel: Channel | None
    language: str | None


@dataclass(frozen=True)
class _Header:
    """Which column holds which field, and where it stands in a row of `width` cells."""

    columns: Mapping[str, str]
    places: Mapping[str, int]
    width: int

    def cells(self, record: Sequence[str]) -> dict[str, str]:
        """A row's cells by field. Raises FormatChanged."""
        if len(record) != self.width:
            raise FormatChanged(f"has {len(record)} cells where the header has {self.width}")
        return {field: record[place].strip() for field, place in self.places.items()}

    def conversation(self, record: Sequence[str]) -> str | None:
        """Which conversation a row with too many or too few cells belongs to, as far as its cells tell."""
        field = next((field for field in ("conversation", "id") if field in self.places), None)
        return record[self.places[field]].strip() if field and self.places[field] < len(record) else None

    def named(self, field: str) -> AbstractContextManager[None]:
        """Errors inside name the field's column."""
        return named(f"column {self.columns.get(field)}: ")


@dataclass(frozen=True)
class _Talks:
    """Messages gathered by conversation; None for a conversation with a bad row, which is left out whole."""

    header: _Header
    vocabulary: Vocabulary
    messages: dict[str, list[_Message] | None] = field(default_factory=dict)

    def add(self, number: int, record: list[str] | csv.Error) -> None:
        """Put a row with its conversation. Raises FormatChanged."""
        if isinstance(record, csv.Error):
            raise FormatChanged(str(record))
        try:
            cells = self.header.cells(record)
        except FormatChanged:
            if name := self.header.conversation(record):
                self.messages[name] = None
            raise
        row_id = _conversation_id(cells, self.header, number)
        try:
            with named(""):
                message = _message(cells, self.header, self.vocabulary)
        except FormatChanged as error:
            self.messages[row_id] = None
            raise FormatChanged(f"{error}; conversation {row_id[:40]!r} is left out") from None
        others = self.messages.setdefault(row_id, [])
        if others is not None:
            others.append(message)


def read_csv(lines: Iterable[bytes], name: str, columns: Mapping[str, str], vocabulary: Vocabulary) -> Iterator[Read]:
    """Every bad row as a FormatChanged, then every conversation of which no row is bad, None for one without text.

    Raises FormatChanged where the columns cannot be found.
    """
    text = [line.decode("utf-8", "surrogateescape") for line in lines]
    if text:
        text[0] = text[0].removeprefix("\ufeff")
    records = _records(text, _delimiter(text, columns.values()))
    with named(f"{name}: "):
        talks = _Talks(_header(next((record for _, record in records if not _blank(record)), []), columns), vocabulary)
    for number, record in records:
        try:
            with named(f"{name} row {number}: "):
                if not _blank(record):
                    talks.add(number, record)
        except FormatChanged as error:
            yield error
    for row_id, messages in talks.messages.items():
        if messages is not None:
            yield _conversation(row_id, messages, name)


def _delimiter(text: Sequence[str], wanted: Iterable[str]) -> str:
    """The delimiter with which the header has most of the columns, or else makes most of them."""
    names = set(wanted)

    def fit(delimiter: str) -> tuple[int, int]:
        header = next((record for _, record in _records(text, delimiter) if not _blank(record)), [])
        cells = [] if isinstance(header, csv.Error) else [cell.strip() for cell in header]
        return len(names & set(cells)), len(cells)

    return max(DELIMITERS, key=fit)


def _records(text: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Each row's number and cells, or why it has none."""
    csv.field_size_limit(2**31 - 1)  # a cell that is cut off would go on as rows; `Turn` says how long a text may be
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    for number in count(1):
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, error


def _blank(record: list[str] | csv.Error) -> bool:
    return isinstance(record, list) and not any(cell.strip() for cell in record)


def _header(record: list[str] | csv.Error, columns: Mapping[str, str]) -> _Header:
    if isinstance(record, csv.Error):
        raise FormatChanged(f"header: {record}")
    with named("header: "):
        header = [_utf8(cell.strip()) for cell in record]
    for column in columns.values():
        if header.count(column) != 1:
            what = "more than one column" if column in header else "no column"
            raise FormatChanged(f"{what} {column} (it has: {', '.join(header)})")
    return _Header(columns, {name: header.index(column) for name, column in columns.items()}, len(header))


def _conversation_id(cells: Mapping[str, str], header: _Header, number: int) -> str:
    name = next((name for name in ("conversation", "id") if name in cells), None)
    if name is None:
        return f"row-{number}"
    with header.named(name):
        if not cells[name]:
            raise FormatChanged("empty")
        return _utf8(cells[name])


def _message(cells: Mapping[str, str], header: _Header, vocabulary: Vocabulary) -> _Message:
    for name, cell in cells.items():
        with header.named(name):
            _utf8(cell)
    with header.named("role"):
        role = _one_of(ROLES, cells["role"]) if "role" in cells else "customer"
    with header.named("channel"):
        channel = _one_of(CHANNELS, cells["channel"]) if cells.get("channel") else None
    with header.named("at"):
        at = moment(cells.get("at"))
    turn = said(role, cells["text"], at, (cells.get("id") or None) if "conversation" in cells else None)
    labels = _labels(cells, role, header, vocabulary)
    return _Message(turn.model_copy(update={"labels": labels or None}), channel, cells.get("language") or None)


def _utf8(cell: str) -> str:
    if not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell):
        raise FormatChanged("not UTF-8")
    return cell


def _one_of(known: Mapping[str, T], cell: str) -> T:
    if cell.lower() not in known:
        raise FormatChanged(f"{cell[:40]!r} is none of {', '.join(known)}")
    return known[cell.lower()]


def _labels(cells: Mapping[str, str], role: Role, header: _Header, vocabulary: Vocabulary) -> Labels:
    labels: Labels = {}
    for name, head in vocabulary.heads.items():
        if not cells.get(name):
            continue
        with header.named(name):
            if role != "customer":
                raise FormatChanged(f"{name}: a label on a turn of the {role}")
            try:
                labels[name] = label_of(cells[name], head)
                vocabulary.check({name: labels[name]})
            except LabelError as error:
                raise FormatChanged(str(error)) from None
    return labels


def label_of(cell: str, head: Head) -> LabelValue:
    """What a cell says of a head: a level's number for its name, flags apart, yes or no; not checked yet.

    An empty cell says nothing; of flags, `none` says that no flag is given.
    """
    if head.kind == "multilabel":
        return () if cell == NO_FLAG else tuple(dict.fromkeys(filter(None, _BETWEEN_FLAGS.split(cell))))
    if head.kind == "probability":
        return _YES_NO.get(cell.lower(), cell)
    if head.kind == "ordinal":
        if _WHOLE.fullmatch(cell):
            return int(cell.partition(".")[0])
        if cell in head.values:
            return int(head.numbers[head.values.index(cell)])
    return cell


def _conversation(row_id: str, messages: Sequence[_Message], name: str) -> Read:
    channel: Channel = next((message.channel for message in messages if message.channel), "chat")
    language = next((message.language for message in messages if message.language), None)
    try:
        with named(f"{name} conversation {row_id[:40]!r}: "):
            return conversation_of(row_id, channel, [message.turn for message in messages], language)
    except FormatChanged as error:
        return error
