"""Exports of help desks, and CSV files, as conversations: what a team has, rather than a corpus with an adapter.

    read_export("zendesk", lines, "tickets.json")    every row as it stands, for `simmer convert`
    read_exports(exports, folder, vocabulary)        for training: the first bad row ends it

A row that cannot be read is a FormatChanged in its place, naming file, row and field. Private notes are left out.
Knows nothing of redaction: what comes out is as personal as what went in.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipeline.config import Config, ConfigError
from pipeline.conversation import Conversation
from pipeline.sources.exports import freshdesk, intercom, zendesk
from pipeline.sources.exports.csv_table import FIELDS, read_csv
from pipeline.sources.exports.desk import Desk, Read, read_json
from pipeline.sources.source import FormatChanged, SourceMissing, named
from pipeline.vocabulary import Vocabulary

Kind = Literal["zendesk", "intercom", "freshdesk", "csv"]

DESKS: dict[str, Desk] = {"zendesk": zendesk.DESK, "intercom": intercom.DESK, "freshdesk": freshdesk.DESK}


class Export(Config):
    """A file in the corpora's folder to train on. `columns` says which column of a CSV file holds which field."""

    kind: Kind
    file: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Export:
        if Path(self.file).name != self.file:
            raise ValueError(f"file: {self.file!r} must be a name in the folder of corpora, without a path")
        if self.kind == "csv" and "text" not in self.columns:
            raise ValueError("columns: of a csv file, say which column holds the text")
        return self


def check_columns(kind: Kind, columns: Mapping[str, str], vocabulary: Vocabulary) -> None:
    """Raise ConfigError for columns that this kind of export cannot have, or a CSV file cannot do without."""
    if kind != "csv":
        if columns:
            raise ConfigError(f"{kind}: only csv has columns to name")
        return
    known = (*FIELDS, *vocabulary.heads)
    for field in columns:
        if field not in known:
            raise ConfigError(f"{field}: no such field or head (known: {', '.join(known)})")
    if "text" not in columns:
        raise ConfigError("text: no column is named for it")


def read_export(
    kind: Kind, lines: Iterable[bytes], name: str, columns: Mapping[str, str], vocabulary: Vocabulary
) -> Iterator[Read]:
    """Every row of an export as a conversation, as None where nothing was said in public, or as a FormatChanged.

    `name` is what errors call the file. Raises ConfigError for wrong columns, FormatChanged for a file of which
    nothing can be read.
    """
    check_columns(kind, columns, vocabulary)
    if kind == "csv":
        yield from read_csv(lines, name, columns, vocabulary)
    else:
        yield from read_json(lines, name, DESKS[kind])


def read_exports(exports: Sequence[Export], folder: Path, vocabulary: Vocabulary) -> Iterator[Conversation]:
    """Every conversation of these files of the folder, named after their file; `meta.source` is the file's name.

    Raises FormatChanged at the first bad row; warns of a file that is not there.
    """
    for export in exports:
        path = folder / export.file
        if not path.exists():
            warnings.warn(f"{export.file}: skipped, not in {folder}", SourceMissing, stacklevel=2)
            continue
        with path.open("rb") as lines:
            for row in read_export(export.kind, lines, export.file, export.columns, vocabulary):
                if isinstance(row, FormatChanged):
                    raise row
                if row is not None:
                    yield _of_file(row, export.file)


def _of_file(row: Conversation, file: str) -> Conversation:
    with named(f"{file} {row.id}: "):
        return Conversation(**{**dict(row), "id": f"{file}-{row.id}", "meta": {**row.meta, "source": file}})
