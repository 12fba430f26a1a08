"""What an adapter is, and the reading of JSON lines that all of them share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SourceMissing(UserWarning):
    """A corpus is not in the folder."""


class FormatChanged(ValueError):
    """A corpus no longer has the fields its adapter reads; the message names file, line and field."""


@dataclass(frozen=True)
class Source:
    """A corpus: where it comes from, what may be done with it, what it teaches, and how to read it.

    Without `files` the corpus is skipped; `labels` are files that add labels where they are there.
    """

    name: str
    title: str
    licence: str
    home: str
    heads: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[str, ...] = field(kw_only=True, default=())
    read: Callable[[Path], Iterator[Any]]


def read_json_rows(path: Path, fields: dict[str, type | tuple[type, ...]]) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file that have these fields of these types. Raises FormatChanged."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                raise FormatChanged(f"{path.name} line {number}: not JSON") from None
            for field, kind in fields.items():
                if not isinstance(row, dict) or not isinstance(row.get(field), kind):
                    raise FormatChanged(f"{path.name} line {number}: {field}: missing or of another type")
            yield row
