"""The audit log: who did what to which conversation, agent or key, and when. Append-only; each entry seals the last.

    record(connection, actor="key:desk", action="resolved", subject="c17", detail={"outcome": "refunded"}, now=now)

An entry's hash is SHA-256 over its fields and the hash before it, so a change in the middle breaks the chain from
there on. Cutting off the end leaves a chain that is whole: keep the last SEQUENCE:HASH elsewhere and compare. Entries
outlive the conversations they speak of and so never hold what a customer wrote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, Row, Text, insert, select, type_coerce

from pipeline.errors import InputError
from serving.store.before_commit import before_commit
from serving.store.schema import audit

NOTHING_BEFORE = "0" * 64  # what the first entry seals
LONGEST_STRING = 256  # characters in a detail: reasons, queues, ids; never a message
_ROWS = 1000
_ANCHOR = re.compile(r"([1-9]\d{0,17}):([0-9a-f]{64})")

# the columns as they lie in the database: what somebody has spoilt must not keep the rest from being read
_AT = type_coerce(audit.c.at, BigInteger)
_DETAIL = type_coerce(audit.c.detail, Text)
_RAW = (audit.c.sequence, _AT, audit.c.actor, audit.c.action, audit.c.subject, _DETAIL, audit.c.previous, audit.c.hash)
_WHOLE = select(*_RAW).order_by(audit.c.sequence)


@dataclass(frozen=True)
class Entry:
    """One thing that was done."""

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True)
class Anchor:
    """An entry as it was known to be, kept where whoever changes the log cannot reach."""

    sequence: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """SEQUENCE:HASH as `simmer audit verify` prints it. Raises InputError."""
        match = _ANCHOR.fullmatch(text.strip().lower())
        if match is None:
            raise InputError("an anchor is SEQUENCE:HASH, as `simmer audit verify` prints it")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


@dataclass(frozen=True)
class Break:
    """The first entry that is not as it was written, and why: changed, missing, out of order or truncated."""

    sequence: int
    why: str
    told: str


@dataclass(frozen=True)
class Verdict:
    """How many entries hold, the last of them, and what broke the chain after it."""

    entries: int
    last: Anchor | None
    broken: Break | None = None


@dataclass(frozen=True)
class _Draft:
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def record(
    connection: Connection, *, actor: str, action: str, subject: str, detail: Mapping[str, Any], now: datetime
) -> None:
    """Write an entry with the transaction of a connection; it has its number and its hash from COMMIT on.

    Raises ValueError for a time without a zone and for a detail that is no JSON or has strings as long as messages.
    """
    if now.tzinfo is None:
        raise ValueError("the time of an audit entry has a zone")
    before_commit(connection, _append).append(_Draft(now.astimezone(UTC), actor, action, subject, _checked(detail)))


def history(connection: Connection, subject: str) -> list[Entry]:
    """What was done to a subject, in order."""
    rows = connection.execute(select(audit).where(audit.c.subject == subject).order_by(audit.c.sequence))
    return [Entry(**row._mapping) for row in rows]


def verify(connection: Connection, expect: Anchor | None = None) -> Verdict:
    """Read the whole log and recompute every hash; with an anchor also that the entry it names is still there."""
    entries, last, anchored = 0, Anchor(0, NOTHING_BEFORE), None
    with connection.execute(_WHOLE, execution_options={"stream_results": True, "yield_per": _ROWS}) as rows:
        for row in rows:
            if broken := _broken(row, last):
                return Verdict(entries, _known(last), broken)
            entries, last = entries + 1, Anchor(row.sequence, row.hash)
            if expect is not None and expect.sequence == last.sequence:
                anchored = last
    return Verdict(entries, _known(last), None if anchored == expect else _unlike(expect, anchored))


def _unlike(expect: Anchor | None, found: Anchor | None) -> Break:
    sequence = expect.sequence if expect else 0
    if found is None:
        return Break(sequence, "truncated", "was anchored, and the log ends before it")
    return Break(sequence, "changed", "is not the entry that was anchored")


def _known(last: Anchor) -> Anchor | None:
    return last if last.sequence else None


def _broken(row: Row[Any], last: Anchor) -> Break | None:
    sequence, expected = row.sequence, last.sequence + 1
    if sequence > expected:
        return Break(expected, "missing", f"is not there; the next one is {sequence}")
    if sequence < expected:
        return Break(sequence, "out of order", f"stands where {expected} is due")
    if not _sound(row):
        return Break(sequence, "changed", "does not have the contents that were sealed")
    if row.previous != last.hash:
        return Break(sequence, "out of order", f"does not follow the entry that stands before it ({last.sequence})")
    return None


def _sound(row: Row[Any]) -> bool:
    values: tuple[Any, ...] = tuple(row)
    sequence, at, actor, action, subject, detail, previous, hash = values
    try:
        known = orjson.loads(detail)
        return bool(
            _canonical(known) == detail.encode()
            and hash == _hash(sequence, at, actor, action, subject, known, previous)
        )
    except (TypeError, ValueError, AttributeError):  # not even of the kind that was written
        return False


def _append(connection: Connection, drafts: list[_Draft]) -> None:
    """Number, seal and insert what a transaction recorded. The transaction is alone in this, see `before_commit`."""
    last = connection.execute(select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)).first()
    sequence, previous = last or (0, NOTHING_BEFORE)
    rows = []
    for draft in drafts:
        sequence += 1
        at = (draft.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        hash = _hash(sequence, at, draft.actor, draft.action, draft.subject, draft.detail, previous)
        rows.append({**vars(draft), "sequence": sequence, "previous": previous, "hash": hash})
        previous = hash
    connection.execute(insert(audit), rows)


def _hash(sequence: int, at: int, actor: str, action: str, subject: str, detail: Any, previous: str) -> str:
    fields = {
        "sequence": sequence,
        "at": at,  # microseconds since 1970, UTC
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": detail,
        "previous": previous,
    }
    return hashlib.sha256(_canonical(fields)).hexdigest()


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _checked(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail as it is read back: JSON with sorted keys."""
    try:
        known: dict[str, Any] = orjson.loads(_canonical(dict(detail)))
    except TypeError as error:
        raise ValueError(f"the detail of an audit entry is JSON: {error}") from None
    if any(len(text) > LONGEST_STRING for text in _strings(known)):
        raise ValueError("the detail of an audit entry names things; it does not quote messages")
    return known


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
