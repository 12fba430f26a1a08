"""What a routing service sends: one message, or a conversation so far."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from pipeline.conversation import MAX_ID, MAX_TEXT, Channel, Role, writable
from pipeline.redact import redact
from pipeline.text import decode

MOST_TURNS = 2_000  # of one conversation
MOST_META = 50
LONGEST_META = 1_000  # characters of one value
LARGEST = 2**53  # a whole number that every reader of JSON reads as it is
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # what claims to be older was dated by a broken clock

# U+FFFD is what is left of bytes that were no UTF-8: two such ids would be taken for one
IDENTIFIER = r"^[^\x00-\x1f\x7f/\ufffd]+$"
PLAIN = r"^[^\x00-\x1f\x7f\ufffd]*$"


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; without a zone it is taken for that. Raises ValueError for one before EARLIEST."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if aware.year < EARLIEST.year - 1 or aware < EARLIEST:  # near year 1 there is no such time in UTC
        raise ValueError(f"must not lie before {EARLIEST.year}")
    if aware.year == datetime.max.year:  # and near year 9999
        raise ValueError("must not lie so far ahead")
    return aware.astimezone(UTC)


def no_step(identifier: str) -> str:
    """The id, unless it is `.` or `..`, which many a client takes out of an address. Raises ValueError."""
    if identifier in (".", ".."):
        raise ValueError("must not be . or ..")
    return identifier


def plain_value(given: object) -> object:
    """What may stand in `meta`. Raises ValueError."""
    if not isinstance(given, str | int | float | None):
        raise ValueError("must be text, a number, true, false or null")
    if isinstance(given, str) and len(given) > LONGEST_META:
        raise ValueError(f"must have at most {LONGEST_META:,} characters")
    if isinstance(given, int | float) and not _finite(given):
        raise ValueError("must be a finite number")
    return given


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # JSON's whole numbers may be larger than any float
        return False


Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_ID, pattern=IDENTIFIER), AfterValidator(no_step)
]
Language = Annotated[str, StringConstraints(max_length=20, pattern=PLAIN)]
Moment = Annotated[datetime, AfterValidator(in_utc)]
Key = Annotated[str, StringConstraints(max_length=100, pattern=PLAIN)]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]  # a larger one becomes a float, as in most readers of JSON
Value = Annotated[
    Annotated[str, Field(max_length=LONGEST_META), AfterValidator(writable)] | Whole | float | bool | None,
    BeforeValidator(plain_value),
]
Meta = Annotated[dict[Key, Value], Field(max_length=MOST_META, json_schema_extra={"additionalProperties": False})]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(writable)]


class Body(BaseModel):
    """Base of what is sent: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewMessage(Body):
    """One party's message. Its id makes it safe to send again: the same body gets the same answer."""

    id: Identifier
    role: Role = "customer"
    text: Text
    at: Moment | None = Field(
        default=None, description="when it was written; when it comes, if not given, or a day ahead and more"
    )
    channel: Channel | None = Field(default=None, description="of the conversation, if this message begins it")
    language: Language | None = Field(default=None, description="likewise")
    meta: Meta = Field(default_factory=dict, description="likewise")


class NewTurn(Body):
    """A message of a conversation that is sent whole; without an id its place is its id."""

    id: Identifier | None = None
    role: Role
    text: Text
    at: Moment | None = None


class NewConversation(Body):
    """A conversation so far. What is here already must be the same; what is not is added."""

    channel: Channel | None = Field(default=None, description="chat, if none was ever given")
    language: Language | None = None
    turns: tuple[NewTurn, ...] = Field(min_length=1, max_length=MOST_TURNS)
    meta: Meta = Field(default_factory=dict)

    def messages(self) -> list[NewMessage]:
        """Its turns as messages, each with an id."""
        return [
            NewMessage.model_construct(id=turn.id or f"turn-{place}", role=turn.role, text=turn.text, at=turn.at)
            for place, turn in enumerate(self.turns)
        ]


@dataclass(frozen=True)
class Heard:
    """A message as it may be kept. `at` is what was given; `digest` tells one body from another."""

    id: str
    role: Role
    text: str
    at: datetime | None
    digest: str


def heard(new: NewMessage) -> Heard:
    """A message decoded, personal data redacted."""
    text = kept_text(new.text)
    return Heard(new.id, new.role, text, new.at, digest(new.role, text, new.at))


def kept_text(text: str) -> str:
    """The text as it may be kept: decoded, personal data redacted."""
    return redact(decode(text))


def digest(role: str, text: str, at: datetime | None) -> str:
    """What tells one body from another. Of the text that is kept, so that nothing can be guessed from it."""
    said = orjson.dumps([role, text, at.isoformat() if at else None])
    return hashlib.sha256(said).hexdigest()
