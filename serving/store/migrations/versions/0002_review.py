"""The review desk: reviewers and their sessions, verdicts, requests for a second one, samples, saved views."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from serving.store import schema

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_REFUSED = "verdicts are append-only"
_KEPT = (
    *("id", "conversation", "message", "reviewer", "at", "round", "labels", "agrees", "routing_right"),
    *("seconds", "said", "model", "sample", "form", "place"),
)
_AS_IT_WAS = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in _KEPT)

# erasing a conversation takes the notes away; nothing else of a verdict ever changes
APPEND_ONLY = {
    "sqlite": [
        "CREATE TRIGGER verdicts_no_update BEFORE UPDATE ON verdicts "
        f"WHEN NOT (NEW.note IS NULL AND {_AS_IT_WAS}) BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
        f"CREATE TRIGGER verdicts_no_delete BEFORE DELETE ON verdicts BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
        "CREATE TRIGGER verdicts_no_replace BEFORE INSERT ON verdicts "
        "WHEN EXISTS (SELECT 1 FROM verdicts WHERE id = NEW.id "
        "OR (reviewer = NEW.reviewer AND form = NEW.form AND place = NEW.place)) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION verdicts_are_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF TG_OP = 'UPDATE' THEN IF NEW.note IS NULL "
        "AND to_jsonb(NEW) - 'note' = to_jsonb(OLD) - 'note' THEN RETURN NEW; END IF; END IF; "
        f"RAISE EXCEPTION '{_REFUSED}'; END $$",
        "CREATE TRIGGER verdicts_no_change BEFORE UPDATE OR DELETE ON verdicts "
        "FOR EACH ROW EXECUTE FUNCTION verdicts_are_append_only()",
        "CREATE TRIGGER verdicts_no_truncate BEFORE TRUNCATE ON verdicts "
        "FOR EACH STATEMENT EXECUTE FUNCTION verdicts_are_append_only()",
    ],
}


def upgrade() -> None:
    _extend_conversations()
    op.create_table(
        "requests",
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", schema.Instant(), nullable=False),
        sa.Column("of", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("conversation", name=op.f("pk_requests")),
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
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("place", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("conversation", name=op.f("pk_samples")),
    )
    with op.batch_alter_table("samples", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_samples_day_place"), ["day", "place"], unique=False)

    op.create_table(
        "draws",
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("at", schema.Instant(), nullable=False),
        sa.Column("flagged", sa.Integer(), nullable=False),
        sa.Column("calm", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_draws")),
    )
    op.create_table(
        "reviews",
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("updated_at", schema.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("conversation", name=op.f("pk_reviews")),
    )
    with op.batch_alter_table("reviews", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_reviews_state_conversation"), ["state", "conversation"], unique=False)

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
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_verdicts_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_verdicts_conversation_message"), ["conversation", "message"], unique=False)
        batch_op.create_index(batch_op.f("ix_verdicts_reviewer_form_place"), ["reviewer", "form", "place"], unique=True)

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

    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def _extend_conversations() -> None:
    op.add_column("conversations", sa.Column("peak", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("conversations", sa.Column("heat", sa.Float(), nullable=False, server_default="0"))
    op.add_column("conversations", sa.Column("fired", schema.Document(), nullable=False, server_default="[]"))
    op.add_column("conversations", sa.Column("model", sa.String(), nullable=True))
    op.add_column("conversations", sa.Column("foreseen_at", schema.Instant(), nullable=True))
    op.add_column("conversations", sa.Column("hot_turn", sa.Integer(), nullable=True))
    op.execute("UPDATE conversations SET peak = score, fired = reasons")  # the best that is still known
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        flagged = sa.text("first_hot_at IS NOT NULL")
        batch_op.create_index(
            "ix_conversations_flagged", schema.FLAGGED, sqlite_where=flagged, postgresql_where=flagged
        )
        batch_op.create_index("ix_conversations_began", schema.BEGAN)


def downgrade() -> None:
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_reviewer"))

    op.drop_table("sessions")
    op.drop_table("views")
    with op.batch_alter_table("verdicts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_verdicts_reviewer_form_place"))
        batch_op.drop_index(batch_op.f("ix_verdicts_conversation_message"))
        batch_op.drop_index(batch_op.f("ix_verdicts_at"))

    op.drop_table("verdicts")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION verdicts_are_append_only")
    op.drop_table("reviews")
    op.drop_table("draws")
    op.drop_table("samples")
    op.drop_table("reviewers")
    op.drop_table("requests")
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        batch_op.drop_index("ix_conversations_began")
        batch_op.drop_index("ix_conversations_flagged")
        for name in ("peak", "heat", "fired", "model", "foreseen_at", "hot_turn"):
            batch_op.drop_column(name)
