"""Reviewers: who may sign in to the desk, and what each may do. Knows nothing of sessions and HTTP.

Every function takes a connection and leaves the transaction to the caller. All may be run again after a rollback.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.errors import InputError


class Role(StrEnum):
    """What a reviewer may do: a lead may also ask for second verdicts and settle disputes, an admin may all."""

    REVIEWER = "reviewer"
    LEAD = "lead"
    ADMIN = "admin"


class AccountInvalid(InputError):
    """An account that cannot be made or changed as asked; the message says why."""


@dataclass(frozen=True)
class Reviewer:
    """Somebody who reviews. Times are UTC."""

    id: str
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None

    @property
    def leads(self) -> bool:
        """Whether they may ask for second verdicts and settle disputes."""
        return self.role in (Role.LEAD, Role.ADMIN)

    @property
    def actor(self) -> str:
        """How the audit log names them."""
        return f"reviewer {self.id}"
