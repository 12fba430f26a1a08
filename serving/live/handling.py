"""What people do with conversations: claim, assign, release, resolve, erase. One transaction each, audited.

A change reads what it changes in its own transaction, so two replicas never give one conversation to two agents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from serving.live import lifecycle
from serving.live.conversations import NotThere, Publishing
from serving.live.handy import Handy
from serving.live.judging import Judge
from serving.routing.agents import Agent, Choice, Need, match, skills_wanted
from serving.store import agents, audit, conversations, outbox
from serving.store.records import State
from serving.store.writer import Writer

NEXT_LOOKED_AT = 200  # conversations of the queue, when an agent asks for the next


class UnknownAgent(LookupError):
    """There is no such agent."""


class NobodyFits(ValueError):
    """No agent may take the conversation now; `rejected` says what stood in each one's way."""

    def __init__(self, choice: Choice) -> None:
        super().__init__("no agent may take the conversation now")
        self.rejected = choice.rejected


@dataclass(frozen=True)
class Assigned:
    """A conversation with its agent, and why this one."""

    state: State
    why: tuple[str, ...]


class Handling:
    """What agents and those who lead them do with conversations."""

    def __init__(
        self,
        writer: Writer,
        handy: Handy,
        judge: Callable[[], Judge],
        publishing: Publishing,
        now: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._handy = handy
        self._judge = judge
        self._publishing = publishing
        self._now = now

    async def claim(self, identifier: str, agent: str, actor: str) -> Assigned:
        """An agent takes a conversation, whatever the policy would say; their cap is theirs to pass.

        Raises NotThere, UnknownAgent, lifecycle.NotNow, StoreUnavailable.
        """

        def change(connection: Connection, state: State) -> Assigned:
            agents.one_at_a_time(connection)
            if agent not in {one.agent.id for one in agents.carrying(connection)}:
                raise UnknownAgent(agent)
            return self._give(connection, state, agent, ("claimed",), actor)

        return await self._changing(identifier, change)

    async def assign(self, identifier: str, actor: str, agent: str | None = None) -> Assigned:
        """Give a conversation to the agent who fits best, or to this one if they fit.

        Raises NobodyFits, and as `claim` does.
        """

        def change(connection: Connection, state: State) -> Assigned:
            agents.one_at_a_time(connection)
            choice = self._match(connection, state, agent)
            if choice.agent is None:
                raise NobodyFits(choice)
            return self._give(connection, state, choice.agent, choice.why, actor)

        return await self._changing(identifier, change)

    async def next(self, agent: str, actor: str) -> Assigned | None:
        """Give an agent the hottest waiting conversation that they may take; None where there is none.

        Raises UnknownAgent, StoreUnavailable.
        """

        def change(connection: Connection) -> Assigned | None:
            agents.one_at_a_time(connection)
            for state in conversations.page(connection, conversations.Filter(), NEXT_LOOKED_AT):
                choice = self._match(connection, state, agent)
                if choice.agent is not None:
                    locked = conversations.read_state(connection, state.id, lock=True)
                    if locked is not None and locked.version == state.version:
                        return self._give(connection, locked, choice.agent, choice.why, actor)
            return None

        return await self._run(change, "")

    async def release(self, identifier: str, actor: str) -> State:
        """The agent gives the conversation back. Raises NotThere, lifecycle.NotNow, StoreUnavailable."""
        return await self._simply(identifier, actor, "released", lifecycle.released)

    async def resolve(self, identifier: str, outcome: str | None, actor: str) -> State:
        """The matter is settled. Raises as `release` does."""
        return await self._simply(identifier, actor, "resolved", partial(_resolved, outcome))

    async def erase(self, identifier: str, actor: str) -> None:
        """Erase a conversation from everywhere; that it was erased is kept. Raises NotThere, StoreUnavailable."""

        def change(connection: Connection) -> None:
            if not conversations.erase(connection, identifier):
                raise NotThere(identifier)
            outbox.erase(connection, identifier)
            audit.record(connection, actor, "erased", identifier, {}, self._now())
            self._publishing.append(
                connection, identifier, self._now(), [lifecycle.Event("erased", {"id": identifier})]
            )

        await self._run(change, identifier)
        self._handy.take(identifier)

    async def put_agent(self, agent: Agent, actor: str) -> bool:
        """Add an agent or change one; whether the agent is new."""

        def change(connection: Connection) -> bool:
            new = agents.put(connection, agent, self._now())
            audit.record(connection, actor, "agent_added" if new else "agent_changed", agent.id, {}, self._now())
            return new

        return await self._writer.run(change, f"agent {agent.id}")

    async def remove_agent(self, identifier: str, actor: str) -> None:
        """Take an agent out. Raises UnknownAgent."""

        def change(connection: Connection) -> None:
            if not agents.remove(connection, identifier):
                raise UnknownAgent(identifier)
            audit.record(connection, actor, "agent_removed", identifier, {}, self._now())

        await self._writer.run(change, f"agent {identifier}")
