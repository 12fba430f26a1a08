"""Conversations and their turns, and JSON lines in and out.

A bad line never hides the good ones: `read_rows` yields a `RowError` in its place, naming line and field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError
from pipeline.vocabulary import Labels

Role = Literal["customer", "agent", "bot", "system"]
Channel = Literal["chat", "email", "social", "phone"]

MAX_TEXT = 100_000
MAX_TURNS = 20_000
MAX_ID = 200


class Turn(BaseModel):
    """One message of one party. `labels` maps heads to what a reader said of a customer's turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    text: str = Field(max_length=MAX_TEXT)
    at: datetime | None = None
    id: str | None = Field(default=None, max_length=MAX_ID)
    labels: Labels | None = None


class Conversation(BaseModel):
    """A support conversation, oldest turn first. `language` is ISO 639-1 where it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=MAX_ID)
    channel: Channel = "chat"
    language: str | None = Field(default=None, max_length=20)
    turns: tuple[Turn, ...] = Field(min_length=1, max_length=MAX_TURNS)
    meta: dict[str, str | int | float | bool | None] = Field(default_factory=dict)

    def customer_turns(self) -> list[int]:
        """Indices into `turns` of what the customer wrote."""
        return [index for index, turn in enumerate(self.turns) if turn.role == "customer"]


@dataclass(frozen=True)
class RowError:
    """Why a line could not be read. `line` counts from 1; `id` is None where none could be read."""

    line: int
    id: str | None
    error: str

    def as_dict(self) -> dict[str, Any]:
        """The error as it is written."""
        return {"id": self.id, "line": self.line, "error": self.error}

    def as_line(self) -> bytes:
        """The error as one JSON line."""
        return json.dumps(self.as_dict(), ensure_ascii=False).encode() + b"\n"


class RowInvalid(InputError):
    """A row that is no conversation; the message names the field, and `field` holds it where there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def parse_row(row: object) -> Conversation:
    """A conversation from a decoded row, `{"id", "text"}` or `{"id", "turns"}`. Raises RowInvalid."""
    if not isinstance(row, dict):
        raise RowInvalid(f"a row must be an object, not {_kind(row)}")
    if "text" in row:
        if "turns" in row:
            raise RowInvalid("text: give either text or turns, not both", "text")
        if not isinstance(row["text"], str):
            raise RowInvalid(f"text: must be a string, not {_kind(row['text'])}", "text")
        if len(row["text"]) > MAX_TEXT:
            raise RowInvalid(f"text: must have at most {MAX_TEXT:,} characters", "text")
        row = {key: value for key, value in row.items() if key != "text"} | {
            "turns": [{"role": "customer", "text": row["text"]}]
        }
    try:
        # half an emoji, cut off by a client, becomes "?" rather than an error
        return Conversation.model_validate_json(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    except ValidationError as error:
        raise RowInvalid(describe(error), _field(error.errors(include_url=False, include_input=False)[0])) from None
    except RecursionError:
        raise RowInvalid("the row is nested too deeply") from None


def describe(error: ValidationError) -> str:
    """The first few problems of a validation, each as `field: what is wrong`."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False)[:3]:
        lines.append(f"{_field(problem) or 'row'}: {problem['msg']}")
    more = error.error_count() - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _field(problem: Mapping[str, Any]) -> str | None:
    return ".".join(str(part) for part in problem["loc"]) or None


def read_rows(lines: Iterable[bytes]) -> Iterator[Conversation | RowError]:
    """Each line of JSON lines as a conversation or an error; blank lines are passed over, repeated ids refused."""
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row_id: str | None = None
        try:
            row = decode_json(line)
            row_id = id_of(row)
            conversation = parse_row(row)
            if conversation.id in seen:
                raise RowInvalid(f"id: already used on line {seen[conversation.id]}", "id")
        except RowInvalid as error:
            yield RowError(number, row_id, str(error))
        else:
            seen[conversation.id] = number
            yield conversation


def read_conversations(path: Path) -> list[Conversation]:
    """All conversations of a file. Raises RowInvalid naming file and line at the first bad row."""
    conversations = []
    with path.open("rb") as lines:
        for row in read_rows(lines):
            if isinstance(row, RowError):
                raise RowInvalid(f"{path.name} line {row.line}: {row.error}")
            conversations.append(row)
    return conversations


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write conversations as JSON lines, leaving out fields that were not given."""
    with path.open("wb") as out:
        for conversation in conversations:
            out.write(as_line(conversation))


def as_line(conversation: Conversation) -> bytes:
    """The conversation as one JSON line, without fields that were not given."""
    return conversation.model_dump_json(exclude_none=True, exclude_defaults=True).encode() + b"\n"


def decode_json(line: bytes) -> object:
    """A decoded JSON document. Raises RowInvalid."""
    try:
        return json.loads(line)
    except UnicodeDecodeError:
        raise RowInvalid("not UTF-8") from None
    except RecursionError:
        raise RowInvalid("the row is nested too deeply") from None
    except ValueError as error:
        raise RowInvalid(f"not JSON: {error}") from None


def writable(text: str) -> str:
    """The text with lone surrogates, which JSON may spell and UTF-8 may not, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def id_of(row: object) -> str | None:
    """A row's id, where one can be read, safe to write."""
    value = row.get("id") if isinstance(row, dict) else None
    if not isinstance(value, str):
        return None
    return writable(value[:MAX_ID])


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number")
