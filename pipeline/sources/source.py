"""What an adapter is, and the reading of JSON lines that all of them share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from pipeline.conversation import Conversation, Turn, describe
from pipeline.errors import InputError
from pipeline.vocabulary import Labels


class SourceMissing(UserWarning):
    """A corpus is not in the folder."""


class FormatChanged(InputError):
    """A corpus no longer has the fields its adapter reads; the message names file, line and field."""


@dataclass(frozen=True)
class Source:
    """A corpus: where it comes from, what may be done with it, what it teaches, and how to read it.

    Without `files` the corpus is skipped; `labels` are files that add labels where they are there. `labelled_by` says
    whose judgement the labels are, `warts` what a user of the corpus should know beforehand.
    """

    name: str
    title: str
    licence: str
    home: str
    heads: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[str, ...] = field(kw_only=True, default=())
    labelled_by: str = field(kw_only=True, default="not said")
    warts: tuple[str, ...] = field(kw_only=True, default=())
    read: Callable[[Path], Iterator[Any]]


Fields: TypeAlias = Mapping[str, type | tuple[type, ...]]
"""Fields that a row must have, and their types; of an optional one the types include None's."""


def read_json_rows(path: Path, fields: Fields, turn_fields: Fields | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file that have these fields, and turns that have theirs. Raises FormatChanged."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path.name} line {number}: "
            try:
                row = json.loads(line)
            except ValueError:
                raise FormatChanged(f"{where}not JSON") from None
            check_fields(row, fields, where)
            for index, turn in enumerate(row["turns"] if turn_fields else ()):
                check_fields(turn, turn_fields or {}, f"{where}turns.{index}.")
            yield row


def check_fields(row: Any, fields: Fields, where: str = "") -> None:
    """Raise FormatChanged naming the first field that the row lacks or has with another type."""
    for name, kind in fields.items():
        if not isinstance(row, dict) or not isinstance(row.get(name), kind):
            raise FormatChanged(f"{where}{name}: missing or of another type")


@contextmanager
def named(where: str) -> Iterator[None]:
    """Whatever a row does wrong inside is a FormatChanged that begins with the row's place."""
    try:
        yield
    except ValidationError as error:
        raise FormatChanged(f"{where}{describe(error)}") from None
    except FormatChanged as error:
        raise FormatChanged(f"{where}{error}") from None


def post(source: str, row_id: str, text: str, labels: Labels, **meta: str) -> Conversation:
    """One English message on social media that stands alone, as a conversation of its corpus."""
    turn = Turn(role="customer", text=text, labels=labels)
    return Conversation(id=f"{source}-{row_id}", channel="social", language="en", turns=(turn,), meta={**meta})
