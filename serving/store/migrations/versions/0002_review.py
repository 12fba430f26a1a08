"""The review desk: reviewers and their sessions, verdicts, requests for a second one, samples, saved views."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from serving.store import schema

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", schema.Instant(), nullable=False),
        sa.Column("of", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("conversation", "message", name=op.f("pk_requests")),
    )
    op.create_table(
        "reviewers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("disabled_at", schema.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviewers")),
    )
    op.create_table(
        "samples",
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("chance", sa.Float(), nullable=False),
        sa.Column("drawn_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("conversation", name=op.f("pk_samples")),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", schema.Serial, autoincrement=True, nullable=False),
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("at", schema.Instant(), nullable=False),
        sa.Column("round", sa.String(), nullable=False),
        sa.Column("labels", schema.Document(), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("routing_right", sa.Boolean(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("said", schema.Document(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("sample", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_verdicts_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_verdicts_conversation_message"), ["conversation", "message"], unique=False)
        batch_op.create_index(batch_op.f("ix_verdicts_reviewer_at"), ["reviewer", "at"], unique=False)

    op.create_table(
        "views",
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("reviewer", "name", name=op.f("pk_views")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("csrf", sa.String(), nullable=False),
        sa.Column("created_at", schema.Instant(), nullable=False),
        sa.Column("expires_at", schema.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.id"], name=op.f("fk_sessions_reviewer"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_reviewer"), ["reviewer"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_reviewer"))

    op.drop_table("sessions")
    op.drop_table("views")
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_verdicts_reviewer_at"))
        batch_op.drop_index(batch_op.f("ix_verdicts_conversation_message"))
        batch_op.drop_index(batch_op.f("ix_verdicts_at"))

    op.drop_table("verdicts")
    op.drop_table("samples")
    op.drop_table("reviewers")
    op.drop_table("requests")
