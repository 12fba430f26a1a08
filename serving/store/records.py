"""What the store gives and takes: a conversation as it lives here, with its messages in order."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from pipeline.conversation import Channel, Role

Status = Literal["open", "assigned", "resolved"]


@dataclass(frozen=True, slots=True)
class Message:
    """One party's message. `answer` is what was first said of it, `revised` what a late message made of that."""

    id: str
    sequence: int
    at: datetime
    received_at: datetime
    role: Role
    text: str
    digest: str
    answer: dict[str, Any] | None = None
    revised: dict[str, Any] | None = None

    @property
    def standing(self) -> dict[str, Any] | None:
        """The answer that holds now."""
        return self.revised or self.answer


@dataclass(frozen=True, slots=True)
class State:
    """Everything about a conversation but its messages. `version` counts its changes; 0 was never stored."""

    id: str
    version: int
    channel: Channel
    language: str | None
    meta: dict[str, Any]
    status: Status
    agent: str | None  # who has it, or had it last
    created_at: datetime
    updated_at: datetime
    waiting_since: datetime | None
    ages_at: datetime | None  # when waiting will have changed its queue
    assigned_at: datetime | None
    resolved_at: datetime | None  # last; what had been said by then is settled
    outcome: str | None
    first_hot_at: datetime | None
    first_answer_at: datetime | None
    score: int
    queue: str
    reasons: list[str]
    strengths: dict[str, float] | None
    rank: float | None
    hot: bool
    held_out: bool
    latest: dict[str, Any] | None
    latest_message: str | None
    peak: int  # the highest priority so far
    heat: float  # the highest chance so far that the customer is hot
    fired: list[str]  # every reason that ever fired
    model: str | None  # which scored it last
    foreseen_at: datetime | None  # when the forecast fired while the customer had never been hot
    hot_turn: int | None  # which of the customer's messages, from 1, was the first hot one

    def values(self) -> dict[str, Any]:
        """The columns and what stands in them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation with its messages, ordered by when they were written, then by when they came."""

    state: State
    messages: tuple[Message, ...]

    def message(self, identifier: str) -> Message | None:
        """The message with this id."""
        return next((message for message in self.messages if message.id == identifier), None)
