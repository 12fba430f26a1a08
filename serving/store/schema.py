"""The tables, and the types their columns have on SQLite and PostgreSQL alike. Knows nothing of what the rows mean.

Alembic's migrations (`serving/store/migrations`) make them; a test holds both against each other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A point in time: an aware datetime outside, microseconds since 1970 (UTC) inside."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Raises TypeError for a datetime without a time zone."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Document(TypeDecorator[Any]):
    """JSON, kept as text so that both databases give back exactly what was put in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


Serial = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself there

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

# what the review desk filters and counts by stands in its indexes, so that the wide rows are not read
FLAGGED = ["peak", "id", "queue", "channel", "language", "status", "model", "fired", "first_hot_at"]
BEGAN = [
    *("created_at", "channel", "language", "first_hot_at", "first_answer_at", "hot_turn"),
    *("foreseen_at", "status", "hot"),
]
_IS_FLAGGED = text("first_hot_at IS NOT NULL")

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("version", Integer, nullable=False),  # counts every change; a write names the version it saw
    Column("channel", String, nullable=False),
    Column("language", String),
    Column("meta", Document, nullable=False),
    Column("status", String, nullable=False),  # open, assigned, resolved
    Column("agent", String),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("waiting_since", Instant),  # when the oldest customer message without an answer arrived
    Column("ages_at", Instant),  # when waiting will have changed the queue
    Column("assigned_at", Instant),
    Column("resolved_at", Instant),
    Column("outcome", String),  # what the agent said of it when it was resolved
    Column("first_hot_at", Instant),
    Column("first_answer_at", Instant),  # of a person; bots do not count
    Column("score", Integer, nullable=False),
    Column("queue", String, nullable=False),
    Column("reasons", Document, nullable=False),
    Column("strengths", Document),  # of the policy's factors, so that waiting can be taken into account later
    Column("rank", Float),  # the place in the queue, hottest highest; null when nobody waits
    Column("hot", Boolean, nullable=False),
    Column("held_out", Boolean, nullable=False),  # routed as if there were no model, to measure what routing does
    Column("latest", Document),  # the answer to the latest customer turn
    Column("latest_message", String),
    # what was so at any time, for those who look back
    Column("peak", Integer, nullable=False, server_default="0"),  # the highest priority
    Column("heat", Float, nullable=False, server_default="0"),  # the highest chance of being hot
    Column("fired", Document, nullable=False, server_default="[]"),  # every reason
    Column("model", String),  # which scored it last
    Column("foreseen_at", Instant),  # when the forecast fired while the customer had never been hot
    Column("hot_turn", Integer),  # which of the customer's messages, from 1, was the first hot one
    Index(None, "status", "rank", "id"),
    Index(None, "status", "queue", "waiting_since"),
    Index(None, "ages_at"),
    Index(None, "agent", "status"),
    Index(None, "updated_at"),
    Index("ix_conversations_flagged", *FLAGGED, sqlite_where=_IS_FLAGGED, postgresql_where=_IS_FLAGGED),
    Index("ix_conversations_began", *BEGAN),
)

messages = Table(
    "messages",
    metadata,
    Column(
        "conversation",
        String,
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("id", String, primary_key=True),
    Column("sequence", Integer, nullable=False),  # order of arrival within the conversation
    Column("at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("role", String, nullable=False),
    Column("text", Text, nullable=False),  # personal data redacted
    Column("digest", String, nullable=False),  # of the body as it came; the same id with another is a conflict
    Column("answer", Document),  # as it was first acknowledged; never changed
    Column("revised", Document),  # what a late message made of it
)

marks = Table(  # how far something has come: by name
    "marks",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

agents = Table(
    "agents",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("tier", String, nullable=False),
    Column("empathy_trained", Boolean, nullable=False),
    Column("skills", Document, nullable=False),
    Column("languages", Document, nullable=False),
    Column("channels", Document),
    Column("cap", Integer, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("last_hard_at", Instant),  # when a hard conversation last came to this agent or ended with them
    Column("last_assigned_at", Instant),
    Column("updated_at", Instant, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("conversation", String, nullable=False),
    Column("at", Instant, nullable=False),
    Column("body", Document, nullable=False),
    Index(None, "conversation"),
    sqlite_autoincrement=True,  # an id is never given twice, or a stream that resumes would miss events
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("event", Serial, ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),
    Column("webhook", String, primary_key=True),
    Column("status", String, nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("error", Text),
    Index(None, "status", "webhook", "due_at", "event"),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Serial, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", Document, nullable=False),
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
    Index(None, "subject", "sequence"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("hash", String, nullable=False),  # argon2id
    Column("scopes", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("rotated_at", Instant),
    Column("revoked_at", Instant),
    Column("previous_hash", String),  # the secret before a rotation
    Column("previous_until", Instant),  # and until when it still opens
)

# The review desk

reviewers = Table(
    "reviewers",
    metadata,
    Column("id", String, primary_key=True),  # what they sign in with
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),  # reviewer, lead, admin
    Column("hash", String, nullable=False),  # argon2id of the password
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),  # SHA-256 of the cookie's value
    Column("reviewer", String, ForeignKey("reviewers.id", ondelete="CASCADE"), nullable=False),
    Column("csrf", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index(None, "reviewer"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("conversation", String, nullable=False),
    Column("message", String),  # null: of the conversation as a whole
    Column("reviewer", String, nullable=False),
    Column("at", Instant, nullable=False),
    Column("round", String, nullable=False),  # first, second (blind), adjudication
    Column("labels", Document, nullable=False),  # every reviewed head as the reviewer has it
    Column("agrees", Boolean, nullable=False),  # with what the model said
    Column("routing_right", Boolean),
    Column("note", Text),  # personal data redacted
    Column("seconds", Float),  # from opening to saving
    Column("said", Document),  # the model's answer that was judged
    Column("model", String),
    Column("sample", String),  # flagged, random, uncertain; null: not drawn
    Column("form", String, nullable=False),  # the token of the form it came with
    Column("place", Integer, nullable=False),  # in that form
    Index(None, "conversation", "message"),
    Index(None, "reviewer", "form", "place", unique=True),  # a form counts once
    Index(None, "at"),
    sqlite_autoincrement=True,
)

reviews = Table(  # where each reviewed conversation stands; follows from verdicts and requests
    "reviews",
    metadata,
    Column("conversation", String, primary_key=True),
    Column("state", String, nullable=False),  # reviewed, asked, agreed, disputed, settled
    Column("updated_at", Instant, nullable=False),
    Index(None, "state", "conversation"),
)

requests = Table(  # for a second, blind verdict
    "requests",
    metadata,
    Column("conversation", String, primary_key=True),
    Column("asked_by", String, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("of", String),  # a reviewer; null: of anybody but the first
)

samples = Table(  # conversations drawn so that what is flagged wrongly, and what is missed, can be estimated
    "samples",
    metadata,
    Column("conversation", String, primary_key=True),
    Column("kind", String, nullable=False),  # flagged, or of the others random, uncertain
    Column("chance", Float, nullable=False),  # with which it was drawn
    Column("day", String, nullable=False),  # on which it began, UTC
    Column("place", Float, nullable=False),  # a random one in the day's list
    Index(None, "day", "place"),
)

draws = Table(  # days that were drawn from: each is once, and what there was to draw from
    "draws",
    metadata,
    Column("day", String, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("flagged", Integer, nullable=False),
    Column("calm", Integer, nullable=False),
)

views = Table(  # saved filters of the list
    "views",
    metadata,
    Column("reviewer", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("query", String, nullable=False),
)
