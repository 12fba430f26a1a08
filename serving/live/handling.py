"""What people do with conversations: claim, assign, release, resolve, erase. One transaction each, audited.

A change reads what it changes in its own transaction, so two replicas never give one conversation to two agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection

from serving.live import lifecycle
from serving.live.conversations import NotThere, Publishing
from serving.live.handy import Handy
from serving.live.judging import Judge
from serving.routing.agents import Agent, Choice, Need, match, skills_wanted
from serving.store import agents, audit, conversations, outbox, reviews
from serving.store.agents import Carrying
from serving.store.records import State
from serving.store.writer import Writer

T = TypeVar("T")
Action = Literal["assigned", "released", "resolved"]

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
        erased: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._handy = handy
        self._judge = judge
        self._publishing = publishing
        self._now = now
        self._erased = erased

    async def claim(self, identifier: str, agent: str, actor: str) -> Assigned:
        """An agent takes a conversation, whatever the policy would say; their cap is theirs to pass.

        Raises NotThere, UnknownAgent, lifecycle.NotNow, StoreUnavailable.
        """

        def change(connection: Connection, state: State) -> Assigned:
            agents.one_at_a_time(connection)
            _must_exist(connection, agent)
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
            _must_exist(connection, agent)
            staff = agents.carrying(connection)  # once: the writer is held meanwhile
            for state in conversations.page(connection, conversations.Filter(), NEXT_LOOKED_AT):
                choice = self._choose(staff, state, agent)
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
            reviews.erase(connection, [identifier])
            self._audit(connection, actor, "erased", identifier)
            event = lifecycle.Event("erased", {"id": identifier})
            self._publishing.append(connection, identifier, self._now(), [event])

        await self._run(change, identifier)
        self._erased()

    async def put_agent(self, agent: Agent, actor: str) -> bool:
        """Add an agent or change one; whether the agent is new."""

        def change(connection: Connection) -> bool:
            new = agents.put(connection, agent, self._now())
            audit.record(
                connection,
                actor=actor,
                action="agent_added" if new else "agent_changed",
                subject=agent.id,
                detail={},
                now=self._now(),
            )
            return new

        return await self._writer.run(change, f"agent {agent.id}")

    async def remove_agent(self, identifier: str, actor: str) -> None:
        """Take an agent out. Raises UnknownAgent."""

        def change(connection: Connection) -> None:
            if not agents.remove(connection, identifier):
                raise UnknownAgent(identifier)
            audit.record(
                connection, actor=actor, action="agent_removed", subject=identifier, detail={}, now=self._now()
            )

        await self._writer.run(change, f"agent {identifier}")

    async def _simply(
        self, identifier: str, actor: str, action: Action, step: Callable[[State, datetime, Judge], State]
    ) -> State:
        def change(connection: Connection, state: State) -> State:
            return self._record(connection, state, step(state, self._now(), self._judge()), actor, action, {})

        return await self._changing(identifier, change)

    async def _changing(self, identifier: str, change: Callable[[Connection, State], T]) -> T:
        """Run a change on what stands, read in the transaction that changes it."""

        def operation(connection: Connection) -> T:
            state = conversations.read_state(connection, identifier, lock=True)
            if state is None:
                raise NotThere(identifier)
            return change(connection, state)

        return await self._run(operation, identifier)

    async def _run(self, operation: Callable[[Connection], T], key: str) -> T:
        result = await self._writer.run(operation, key)
        self._handy.take(key)
        self._publishing.notify()
        return result

    def _match(self, connection: Connection, state: State, only: str | None) -> Choice:
        return self._choose(agents.carrying(connection), state, only)

    def _choose(self, staff: Sequence[Carrying], state: State, only: str | None) -> Choice:
        rules = self._judge().policy.config.assignment
        found = [one for one in staff if only is None or one.agent.id == only]
        if only is not None and not found:
            raise UnknownAgent(only)
        need = Need(
            queue=state.queue,
            score=state.score,
            language=state.language,
            channel=state.channel,
            skills=skills_wanted(state.meta, rules),
            previous=state.agent,
            waiting_since=state.waiting_since,
        )
        loads = {one.agent.id: one.load for one in found}
        return match(need, [one.agent for one in found], loads, self._now(), rules)

    def _give(self, connection: Connection, state: State, agent: str, why: tuple[str, ...], actor: str) -> Assigned:
        now, judge = self._now(), self._judge()
        if state.status == "assigned" and state.agent == agent:
            return Assigned(state, ("theirs_already",))
        after = lifecycle.assigned(state, agent, now, judge)
        written = self._record(connection, state, after, actor, "assigned", {"agent": agent, "why": list(why)})
        hard = judge.policy.config.assignment.hard.holds(state.queue, state.score)
        agents.touched(connection, agent, last_assigned_at=now, **({"last_hard_at": now} if hard else {}))
        return Assigned(written, why)

    def _record(
        self, connection: Connection, before: State, after: State, actor: str, action: Action, detail: Mapping[str, Any]
    ) -> State:
        written = conversations.write(connection, after, before.version)
        stood = {"queue": before.queue, "score": before.score}
        audit.record(
            connection, actor=actor, action=action, subject=after.id, detail={**stood, **detail}, now=after.updated_at
        )
        event = lifecycle.Event(action, lifecycle.summary(written))
        self._publishing.append(connection, after.id, after.updated_at, [event])
        return written

    def _audit(
        self, connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        audit.record(connection, actor=actor, action=action, subject=subject, detail=detail or {}, now=self._now())


def _must_exist(connection: Connection, agent: str) -> None:
    if agent not in {one.agent.id for one in agents.carrying(connection)}:
        raise UnknownAgent(agent)


def _resolved(outcome: str | None, state: State, now: datetime, judge: Judge) -> State:
    return lifecycle.resolved(state, outcome, now, judge)
