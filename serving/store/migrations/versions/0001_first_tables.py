"""Conversations with their messages, agents, events with their deliveries, the audit log, API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from serving.store import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_REFUSED = "the audit log is append-only"

APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
        f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
        # INSERT OR REPLACE deletes without asking the trigger above
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit "
        "WHEN EXISTS (SELECT 1 FROM audit WHERE sequence = NEW.sequence) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ],
}


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("empathy_trained", sa.Boolean(), nullable=False),
        sa.Column("skills", schema.Document(), nullable=False),
        sa.Column("languages", schema.Document(), nullable=False),
        sa.Column("channels", schema.Document(), nullable=True),
        sa.Column("cap", sa.Integer(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("last_hard_at", schema.Instant(), nullable=True),
        sa.Column("last_assigned_at", schema.Instant(), nullable=True),
        sa.Column("updated_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("expires_at", schema.Instant(), nullable=True),
        sa.Column("rotated_at", schema.Instant(), nullable=True),
        sa.Column("revoked_at", schema.Instant(), nullable=True),
        sa.Column("previous_hash", sa.String(), nullable=True),
        sa.Column("previous_until", schema.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "audit",
        sa.Column("sequence", schema.Serial, autoincrement=False, nullable=False),
        sa.Column("at", schema.Instant(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", schema.Document(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_subject_sequence"), ["subject", "sequence"], unique=False)

    op.create_table(
        "marks",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_marks")),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=True),
        sa.Column("meta", schema.Document(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=True),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("updated_at", schema.Instant(), nullable=False),
        sa.Column("waiting_since", schema.Instant(), nullable=True),
        sa.Column("ages_at", schema.Instant(), nullable=True),
        sa.Column("assigned_at", schema.Instant(), nullable=True),
        sa.Column("resolved_at", schema.Instant(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("first_hot_at", schema.Instant(), nullable=True),
        sa.Column("first_answer_at", schema.Instant(), nullable=True),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("reasons", schema.Document(), nullable=False),
        sa.Column("strengths", schema.Document(), nullable=True),
        sa.Column("rank", sa.Float(), nullable=True),
        sa.Column("hot", sa.Boolean(), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("latest", schema.Document(), nullable=True),
        sa.Column("latest_message", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
    )
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_conversations_agent_status"), ["agent", "status"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_conversations_status_queue_waiting_since"),
            ["status", "queue", "waiting_since"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_conversations_status_rank_id"), ["status", "rank", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_conversations_ages_at"), ["ages_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_conversations_updated_at"), ["updated_at"], unique=False)

    op.create_table(
        "events",
        sa.Column("id", schema.Serial, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("at", schema.Instant(), nullable=False),
        sa.Column("body", schema.Document(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_conversation"), ["conversation"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("event", schema.Serial, nullable=False),
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", schema.Instant(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["event"], ["events.id"], name=op.f("fk_deliveries_event"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event", "webhook", name=op.f("pk_deliveries")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_deliveries_status_webhook_due_at_event"),
            ["status", "webhook", "due_at", "event"],
            unique=False,
        )

    op.create_table(
        "messages",
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", schema.Instant(), nullable=False),
        sa.Column("received_at", schema.Instant(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("answer", schema.Document(), nullable=True),
        sa.Column("revised", schema.Document(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation"], ["conversations.id"], name=op.f("fk_messages_conversation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("conversation", "id", name=op.f("pk_messages")),
    )
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("marks")
    op.drop_table("messages")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deliveries_status_webhook_due_at_event"))

    op.drop_table("deliveries")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_conversation"))

    op.drop_table("events")
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_conversations_updated_at"))
        batch_op.drop_index(batch_op.f("ix_conversations_ages_at"))
        batch_op.drop_index(batch_op.f("ix_conversations_status_rank_id"))
        batch_op.drop_index(batch_op.f("ix_conversations_status_queue_waiting_since"))
        batch_op.drop_index(batch_op.f("ix_conversations_agent_status"))

    op.drop_table("conversations")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_subject_sequence"))

    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_is_append_only")
    op.drop_table("api_keys")
    op.drop_table("agents")
