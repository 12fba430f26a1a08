"""What a routing service sends: one message, or a conversation so far."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from pipeline.conversation import MAX_ID, MAX_TEXT, Channel, Role, writable
from pipeline.redact import redact
from pipeline.text import decode

MOST_TURNS = 2_000  # of one conversation
MOST_META = 50

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Meta = Annotated[dict[str, str | int | float | bool | None], Field(max_length=MOST_META)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(writable)]


class Body(BaseModel):
    """Base of what is sent: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewMessage(Body):
    """One party's message. Its id makes it safe to send again: the same body gets the same answer."""

    id: Identifier
    role: Role = "customer"
    text: Text
    at: datetime | None = Field(default=None, description="when it was written; when it comes, if not given")
    channel: Channel | None = Field(default=None, description="of the conversation, if this message begins it")
    language: str | None = Field(default=None, max_length=20, description="likewise")
    meta: Meta = Field(default_factory=dict, description="likewise")


class NewTurn(Body):
    """A message of a conversation that is sent whole; without an id its place is its id."""

    id: Identifier | None = None
    role: Role
    text: Text
    at: datetime | None = None


class NewConversation(Body):
    """A conversation so far. What is here already must be the same; what is not is added."""

    channel: Channel = "chat"
    language: str | None = Field(default=None, max_length=20)
    turns: tuple[NewTurn, ...] = Field(min_length=1, max_length=MOST_TURNS)
    meta: Meta = Field(default_factory=dict)

    def messages(self) -> list[NewMessage]:
        """Its turns as messages, each with an id."""
        return [
            NewMessage.model_construct(id=turn.id or f"turn-{place}", role=turn.role, text=turn.text, at=turn.at)
            for place, turn in enumerate(self.turns)
        ]


def kept_text(text: str) -> str:
    """The text as it may be kept: decoded, personal data redacted."""
    return redact(decode(text))


def digest(role: str, text: str, at: datetime | None) -> str:
    """What tells one body from another. Of the text that is kept, so that nothing can be guessed from it."""
    said = orjson.dumps([role, text, at.isoformat() if at else None])
    return hashlib.sha256(said).hexdigest()
