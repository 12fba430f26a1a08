"""Conversations under everything that may befall them: two replicas, restarts, late and repeated messages, another
policy, a clock that jumps. Held against a model that is a dictionary."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.vocabulary import load_vocabulary
from serving.live.bodies import NewConversation, NewMessage, NewTurn
from serving.live.conversations import Contradiction, NotThere, Said
from serving.live.handling import NobodyFits, UnknownAgent
from serving.live.judging import Judge
from serving.live.lifecycle import NotNow
from serving.policy import Policy, load_policy
from serving.routing.agents import Agent
from serving.routing.aging import rank
from serving.store.audit import verify
from serving.store.conversations import Filter, read
from serving.store.database import Database, open_database
from serving.store.outbox import Event, since
from serving.store.records import Record, State
from tests.serving.live.conftest import Clock, World, build

TEXTS = ["hello", "furious", "urgent", "12345", "my lawyer", "soon"]
names = st.sampled_from(["c1", "c2", "c3"])
ids = st.sampled_from([f"m{n}" for n in range(6)])
texts = st.sampled_from(TEXTS)
roles = st.sampled_from(["customer", "customer", "agent", "bot"])
staff = st.sampled_from(["ann", "ben", "nobody"])
replicas = st.sampled_from([0, 1])
ages = st.none() | st.integers(-600, 0)  # minutes before now at which a message says it was written
DEFAULT = Judge(load_policy(load_vocabulary()), load_vocabulary())


def mild() -> Judge:
    """Another policy: nothing is a reason, only the score decides."""
    config = DEFAULT.policy.config
    queues = tuple(queue.model_copy(update={"reasons": ()}) for queue in config.queues)
    return Judge(Policy(config.model_copy(update={"queues": queues}), DEFAULT.vocabulary), DEFAULT.vocabulary)


MILD = mild()


@dataclass
class Known:
    """What the model knows of a conversation: every message that was acknowledged, with its first answer."""

    messages: dict[str, tuple[str, str, datetime | None]] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    status: str = "open"
    agent: str | None = None


class Life(RuleBasedStateMachine):
    """Two replicas over one store, and everything that callers and time do to them."""

    template: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="simmer-life-"))
        self.database: Database = open_database(f"sqlite:///{shutil.copy(self.template, self.folder / 'life.db')}")
        self.runner, self.clock, self.judge = asyncio.Runner(), Clock(), DEFAULT
        self.replicas = [self.replica(), self.replica()]
        self.known: dict[str, Known] = {}
        self.seen, self.before = 0, {}  # type: int, dict[str, State]
        for agent in (Agent(id="ann", languages=frozenset({"en"}), cap=2, tier="senior"), Agent.model_validate(BEN)):
            self.run(lambda world, one=agent: world.live.handling.put_agent(one, "desk"))

    def replica(self) -> World:
        world = build(self.database, lambda: self.judge, clock=self.clock)
        world.scoring.judge = self.judge
        return world

    def run(self, work: Callable[[World], Awaitable[Any]], replica: int = 0) -> Any:
        return self.runner.run(_awaited(work(self.replicas[replica])))

    def stored(self, name: str) -> Record | None:
        with self.database.reading.begin() as connection:
            return read(connection, name)

    # what is said

    @rule(name=names, id=ids, role=roles, text=texts, ago=ages, replica=replicas)
    def say(self, name: str, id: str, role: str, text: str, ago: int | None, replica: int) -> None:
        """A message, which may have been sent before, or contradict one that was."""
        at = None if ago is None else self.clock.time + timedelta(minutes=ago)
        self.take(name, NewMessage(id=id, role=role, text=text, at=at), replica)  # type: ignore[arg-type]

    @precondition(lambda self: any(known.messages for known in self.known.values()))
    @rule(data=st.data(), replica=replicas)
    def say_again(self, data: st.DataObject, replica: int) -> None:
        """A message exactly as it was sent before, to either replica."""
        name = data.draw(st.sampled_from(sorted(name for name, known in self.known.items() if known.messages)))
        id = data.draw(st.sampled_from(sorted(self.known[name].messages)))
        role, text, at = self.known[name].messages[id]
        self.take(name, NewMessage(id=id, role=role, text=text, at=at), replica)  # type: ignore[arg-type]

    def take(self, name: str, new: NewMessage, replica: int) -> None:
        known = self.known.get(name, Known())
        body, version = (new.role, new.text, new.at), self.version(name)
        if new.id in known.messages and known.messages[new.id] != body:
            with pytest.raises(Contradiction):
                self.run(lambda world: world.live.conversations.post(name, new), replica)
            assert self.version(name) == version
            return
        said: Said = self.run(lambda world: world.live.conversations.post(name, new), replica)
        assert said.message.answer is not None
        assert said.replayed == (new.id in known.messages)
        assert self.version(name) == version + (not said.replayed)
        if said.replayed:
            assert said.message.answer == known.answers[new.id]
        self.learn(name, new, said.message.answer)

    def learn(self, name: str, new: NewMessage, answer: Any) -> None:
        known = self.known.setdefault(name, Known())
        fresh = new.id not in known.messages
        known.messages[new.id] = (new.role, new.text, new.at)
        known.answers.setdefault(new.id, answer)
        if fresh and new.role == "customer" and known.status == "resolved" and self.is_open(name, new.id):
            known.status = "open"

    def is_open(self, name: str, id: str) -> bool:
        record = self.stored(name)
        assert record is not None
        place = next(n for n, one in enumerate(record.messages) if one.id == id)
        return not any(one.role == "agent" for one in record.messages[place:])

    @rule(name=names, said=st.lists(st.tuples(ids, roles, texts), min_size=1, max_size=4), replica=replicas)
    def put(self, name: str, said: list[tuple[str, str, str]], replica: int) -> None:
        """A conversation so far, with what may be here already, twice in it, or wrong."""
        known, version = self.known.get(name, Known()), self.version(name)
        body = NewConversation(turns=tuple(NewTurn(id=i, role=r, text=t) for i, r, t in said))  # type: ignore[arg-type]
        expected = dict(known.messages)
        if any(
            expected.setdefault(new.id, (new.role, new.text, None)) != (new.role, new.text, None)
            for new in body.messages()
        ):
            with pytest.raises(Contradiction):
                self.run(lambda world: world.live.conversations.put(name, body), replica)
            assert self.version(name) == version
            return
        done: Said = self.run(lambda world: world.live.conversations.put(name, body), replica)
        assert done.replayed == (expected == known.messages)
        assert self.version(name) == version + (not done.replayed)
        record = self.stored(name)
        assert record is not None
        for new in body.messages():
            kept = record.message(new.id)
            assert kept is not None
            self.learn(name, new, kept.answer)

    @rule(name=names, id=ids, text=texts)
    def say_on_both_at_once(self, name: str, id: str, text: str) -> None:
        """One message to two replicas at a time: one answer, one message."""
        if id in self.known.get(name, Known()).messages:
            return
        new, version = NewMessage(id=id, text=text), self.version(name)

        async def both() -> list[Said]:
            return list(await asyncio.gather(*(r.live.conversations.post(name, new) for r in self.replicas)))

        one, other = self.runner.run(both())
        assert sorted([one.replayed, other.replayed]) == [False, True]
        assert one.message.answer == other.message.answer
        assert self.version(name) == version + 1
        self.learn(name, new, one.message.answer)

    # what people do

    @rule(name=names, agent=staff, replica=replicas)
    def claim(self, name: str, agent: str, replica: int) -> None:
        def work(world: World) -> Awaitable[Any]:
            return world.live.handling.claim(name, agent, "desk")

        known = self.known.get(name)
        if known is None or agent == "nobody":
            with pytest.raises((NotThere, UnknownAgent)):
                self.run(work, replica)
        elif known.status == "resolved" or (known.status == "assigned" and known.agent != agent):
            with pytest.raises(NotNow):
                self.run(work, replica)
        else:
            assert self.run(work, replica).state.agent == agent
            known.status, known.agent = "assigned", agent

    @precondition(lambda self: any(known.status == "open" for known in self.known.values()))
    @rule(data=st.data())
    def claim_on_both_at_once(self, data: st.DataObject) -> None:
        """Two agents want one conversation at a time: one of them gets it."""
        name = data.draw(st.sampled_from(sorted(n for n, known in self.known.items() if known.status == "open")))

        async def both() -> list[Any]:
            wanted = zip(self.replicas, ("ann", "ben"), strict=True)
            claims = (replica.live.handling.claim(name, agent, "desk") for replica, agent in wanted)
            return list(await asyncio.gather(*claims, return_exceptions=True))

        got = [one for one in self.runner.run(both()) if not isinstance(one, NotNow)]
        assert len(got) == 1
        self.known[name].status, self.known[name].agent = "assigned", got[0].state.agent

    @rule(name=names, replica=replicas)
    def assign(self, name: str, replica: int) -> None:
        known = self.known.get(name)
        try:
            given = self.run(lambda world: world.live.handling.assign(name, "desk"), replica).state
        except NotThere:
            assert known is None
        except NobodyFits:
            assert known is not None
        except NotNow:
            assert known is not None
            assert known.status != "open"
        else:
            assert known is not None
            assert known.status == "open" or known.agent == given.agent
            known.status, known.agent = "assigned", given.agent

    @rule(agent=staff, replica=replicas)
    def next(self, agent: str, replica: int) -> None:
        if agent == "nobody":
            with pytest.raises(UnknownAgent):
                self.run(lambda world: world.live.handling.next(agent, "desk"), replica)
            return
        given = self.run(lambda world: world.live.handling.next(agent, "desk"), replica)
        if given is not None:
            known = self.known[given.state.id]
            assert known.status == "open"
            known.status, known.agent = "assigned", agent

    @rule(name=names, replica=replicas)
    def release(self, name: str, replica: int) -> None:
        self.step(name, "assigned", "open", lambda world: world.live.handling.release(name, "desk"), replica)

    @rule(name=names, replica=replicas)
    def resolve(self, name: str, replica: int) -> None:
        known = self.known.get(name)
        needed = "open" if known and known.status == "open" else "assigned"
        self.step(name, needed, "resolved", lambda world: world.live.handling.resolve(name, "done", "desk"), replica)

    def step(self, name: str, needed: str, then: str, work: Callable[[World], Awaitable[Any]], replica: int) -> None:
        known, version = self.known.get(name), self.version(name)
        if known is None:
            with pytest.raises(NotThere):
                self.run(work, replica)
        elif known.status != needed:
            with pytest.raises(NotNow):
                self.run(work, replica)
        else:
            assert self.run(work, replica).version == version + 1
            known.status = then

    @rule(name=names, replica=replicas)
    def erase(self, name: str, replica: int) -> None:
        if name not in self.known:
            with pytest.raises(NotThere):
                self.run(lambda world: world.live.handling.erase(name, "desk"), replica)
            return
        self.run(lambda world: world.live.handling.erase(name, "desk"), replica)
        del self.known[name]
        with self.database.reading.begin() as connection:
            told = [event for event in since(connection, 0, 10_000) if event.conversation == name]
        assert told[-1].kind == "erased"
        assert all(event.body == {"erased": True} for event in told[:-1])

    # what time and operators do

    @rule(minutes=st.sampled_from([-90, -1, 1, 30, 61, 200]))
    def the_clock_moves(self, minutes: float) -> None:
        self.clock.move(minutes=minutes)

    @rule(replica=replicas)
    def age(self, replica: int) -> None:
        self.run(lambda world: world.live.keeper.age(), replica)
        assert self.run(lambda world: world.live.keeper.age(), 1 - replica) == 0

    @rule(replica=replicas)
    def another_policy(self, replica: int) -> None:
        self.judge = MILD if self.judge is DEFAULT else DEFAULT
        for world in self.replicas:
            world.scoring.judge = self.judge
        self.run(lambda world: world.live.keeper.adopt(), replica)

    @rule(replica=replicas)
    def restart(self, replica: int) -> None:
        """Everything in memory is lost; what was acknowledged was committed."""
        self.replicas[replica].stop()
        self.replicas[replica] = self.replica()

    @rule(name=names, limit=st.sampled_from([1, 2]))
    def page_while_something_changes(self, name: str, limit: int) -> None:
        """Who stays where they were is seen once, whatever happens to another between two pages."""
        stay = {state.id for state in self.queue() if state.id != name}
        seen: list[str] = []
        after: tuple[float, str] | None = None
        for number in itertools.count():
            found = self.run(lambda world, a=after: world.live.queue(Filter(), limit, a))[1]
            seen += [state.id for state in found]
            if not found:
                break
            assert found[-1].rank is not None
            after = found[-1].rank, found[-1].id
            if number == 0 and name in self.known:
                self.take(name, NewMessage(id=f"p{self.version(name)}", text="furious and urgent"), 1)
        assert sorted(one for one in seen if one in stay) == sorted(stay)

    # what is always so

    @invariant()
    def every_acknowledged_message_is_there_once(self) -> None:
        for name in ("c1", "c2", "c3"):
            record, known = self.stored(name), self.known.get(name)
            if known is None:
                assert record is None
                continue
            assert record is not None
            kept = {one.id: (one.role, one.text) for one in record.messages}
            assert len(kept) == len(record.messages)
            assert kept == {id: (role, text) for id, (role, text, _) in known.messages.items()}
            assert {one.id: one.answer for one in record.messages} == known.answers
            places = [(one.at, one.sequence) for one in record.messages]
            assert places == sorted(places)

    @invariant()
    def each_stands_where_it_belongs(self) -> None:
        for name, known in self.known.items():
            record = self.stored(name)
            assert record is not None
            state = record.state
            assert (state.status, state.agent) == (known.status, known.agent)
            assert not (state.status == "resolved" and state.waiting_since)
            waits = state.status == "open" and state.waiting_since is not None
            aging = self.judge.policy.config.aging
            assert state.rank == (rank(state.score, state.waiting_since, aging) if waits else None)
            if record.messages[-1].role == "agent":
                assert state.waiting_since is None
            if state.status == "open" and record.messages[-1].role == "customer":
                assert state.waiting_since is not None or state.resolved_at is not None

    @invariant()
    def the_queue_is_in_order(self) -> None:
        found = self.queue()
        assert [state.id for state in found] == [
            state.id for state in sorted(found, key=lambda one: (one.rank or 0.0, one.id), reverse=True)
        ]
        waiting = {name for name in self.known if (r := self.stored(name)) is not None and r.state.rank is not None}
        assert {state.id for state in found} == waiting

    @invariant()
    def the_audit_log_is_whole(self) -> None:
        with self.database.reading.begin() as connection:
            assert verify(connection).broken is None

    @invariant()
    def everything_is_told_once_and_in_order(self) -> None:
        new = self.news()
        assert [event.id for event in new] == sorted({event.id for event in new})
        for name in {*self.before, *self.known}:
            record, old = self.stored(name), self.before.get(name)
            kinds = [event.kind for event in new if event.conversation == name]
            hot, was = record is not None and record.state.hot, old is not None and old.hot
            if "erased" not in kinds:
                assert kinds.count("flagged") == int(hot and not was), (name, kinds)
                assert kinds.count("escalated") <= 1
        self.before = {name: r.state for name in self.known if (r := self.stored(name)) is not None}

    # helpers

    def news(self) -> list[Event]:
        with self.database.reading.begin() as connection:
            found = since(connection, self.seen, 10_000)
        self.seen = found[-1].id if found else self.seen
        return found

    def queue(self) -> list[State]:
        found: list[State] = self.run(lambda world: world.live.queue(Filter(), 100))[1]
        return found

    def version(self, name: str) -> int:
        record = self.stored(name)
        return record.state.version if record else 0

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for world in self.replicas:
                world.stop()
            self.runner.close()
            self.database.close()
            shutil.rmtree(self.folder)


BEN = {"id": "ben", "languages": ["en"], "cap": 1}


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def test_whatever_happens_nothing_is_lost_doubled_or_out_of_order(sqlite_template: Path) -> None:
    class OnThis(Life):
        template = sqlite_template

    bounds = settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(OnThis, settings=bounds)
