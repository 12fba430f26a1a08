"""Agents in the store, and what each of them carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from serving.routing.agents import Agent, Load
from serving.store import conversations
from serving.store.schema import agents

_ASSIGNING = 7_270_003  # PostgreSQL advisory lock: no two replicas assign at once, or a cap could be passed


@dataclass(frozen=True)
class Carrying:
    """An agent with the load at this moment."""

    agent: Agent
    load: Load


def one_at_a_time(connection: Connection) -> None:
    """Until the transaction ends nobody else assigns. On SQLite writing is one at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ASSIGNING})")


def put(connection: Connection, agent: Agent, now: datetime) -> bool:
    """Add an agent or change one; whether the agent is new."""
    values = {**agent.model_dump(mode="json"), "updated_at": now}
    changed = connection.execute(update(agents).where(agents.c.id == agent.id).values(values))
    if changed.rowcount:
        return False
    connection.execute(insert(agents).values(values))
    return True


def remove(connection: Connection, identifier: str) -> bool:
    """Take an agent out; whether there was one. Conversations keep whom they were with."""
    return connection.execute(delete(agents).where(agents.c.id == identifier)).rowcount == 1


def carrying(connection: Connection) -> list[Carrying]:
    """Every agent with the load, by id."""
    loads = conversations.loads(connection)
    rows = connection.execute(select(agents).order_by(agents.c.id)).mappings()
    return [Carrying(_agent(row), _load(row, loads)) for row in rows]


def touched(connection: Connection, identifier: str, **times: datetime) -> None:
    """Note when the agent last was given something (`last_assigned_at`) or something hard (`last_hard_at`)."""
    connection.execute(update(agents).where(agents.c.id == identifier).values(times))


def _load(row: RowMapping, loads: Mapping[str, int]) -> Load:
    return Load(loads.get(row["id"], 0), row["last_hard_at"], row["last_assigned_at"])


def _agent(row: RowMapping) -> Agent:
    return Agent.model_validate({name: row[name] for name in Agent.model_fields})
