"""Conversations that live here: read from the store, scored, changed by `lifecycle`, written back, then acknowledged.

Changes of one conversation wait for each other here; those of another replica are met by the version that every write
names. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial, reduce
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from pipeline.conversation import Channel, Conversation, Turn
from serving.answers import Answer
from serving.live import lifecycle
from serving.live.bodies import MOST_META, MOST_TURNS, Heard, NewConversation, NewMessage, heard, kept_text
from serving.live.handy import Handy, Turns
from serving.live.judging import Judge
from serving.scorer import Job
from serving.store import conversations as rows
from serving.store.reader import Reader
from serving.store.records import Message, Record, State
from serving.store.writer import Writer

TRIES = 8  # of a change that another replica's came before
OFFLOADED = 20_000  # characters; redacting as many takes tens of milliseconds
CONTEXT_READ = 32  # turns before a message that its scoring may look at

T = TypeVar("T")


class NotThere(LookupError):
    """There is no such conversation, or no more."""


class Contradiction(ValueError):
    """A message of this id is here already, and says something else."""


class Full(ValueError):
    """The conversation has as many messages, or as much to be said of it, as one may have."""


class Scoring(Protocol):
    """Scores turns, batched with those of others."""

    async def score(self, jobs: Sequence[Job], deadline: float | None = None) -> list[Answer]:
        """One answer a job, in order; `deadline` a reading of `time.monotonic`."""
        ...

    def passed_over(self, identifier: str, turn: int, priority: Mapping[str, Any]) -> dict[str, Any]:
        """What is said of a turn that is not the customer's."""
        ...


class Publishing(Protocol):
    """Where events go, in the transaction of what they tell of."""

    def append(
        self, connection: Connection, conversation: str, at: datetime, events: Sequence[lifecycle.Event]
    ) -> None:
        """Write the events."""
        ...

    def notify(self) -> None:
        """Events were committed."""
        ...


@dataclass(frozen=True)
class Said:
    """What came of a message: the state after it, what is said of it, and whether it had been here before."""

    state: State
    message: Message
    replayed: bool


class Conversations:
    """What is said in conversations, as this replica takes it in."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        scoring: Callable[[], Scoring],
        judge: Callable[[], Judge],
        publishing: Publishing,
        now: Callable[[], datetime],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._scoring = scoring
        self._judge = judge
        self._publishing = publishing
        self._now = now
        self._turns = Turns()
        self.handy = Handy()

    async def post(self, identifier: str, new: NewMessage, deadline: float | None = None) -> Said:
        """Take one message into a conversation, which begins with it if there is none.

        Raises Contradiction, Full, StoreUnavailable, and what the scoring raises.
        """

        given = await _heard([new])

        async def attempt(record: Record | None) -> Said:
            if record and record.message(new.id):
                record = await self._read(identifier)  # what stands now, if it was not erased: the store knows
            known = record.message(new.id) if record else None
            if record and known:
                _must_be(known, given[0])
                return Said(record.state, known, replayed=True)
            record = record or self._begin(identifier, new.channel, new.language, new.meta)
            taken = await self._take(record, record.state, self._missing(record, given), deadline)
            return Said(taken.state, _found(taken, new.id), replayed=False)

        return await self._changing(identifier, attempt)

    async def put(self, identifier: str, new: NewConversation, deadline: float | None = None) -> Said:
        """Take a conversation so far: what is new in it is added, what is here already must be the same.

        Messages that are here and not in it stay: nothing that was acknowledged is lost. Raises as `post` does.
        """

        given = await _heard(new.messages())

        async def attempt(record: Record | None) -> Said:
            if record:
                record = await self._read(identifier)  # there may be nothing to write, and so nothing to find it stale
            record = record or self._begin(identifier, new.channel, new.language, new.meta)
            missing, state = self._missing(record, given), _described(record.state, new)
            changed = bool(missing) or state != record.state
            if changed:
                record = await self._take(record, state, missing, deadline)
            return Said(record.state, lifecycle.latest(record.messages), replayed=not changed)

        return await self._changing(identifier, attempt)

    async def _changing(self, identifier: str, attempt: Callable[[Record | None], Awaitable[T]]) -> T:
        """Try a change on what stands until nobody else's came in between."""
        async with self._turns.of(identifier):
            for _ in range(TRIES - 1):
                try:
                    return await self._attempt(identifier, attempt)
                except rows.Stale:
                    continue
            return await self._attempt(identifier, attempt)

    async def _attempt(self, identifier: str, attempt: Callable[[Record | None], Awaitable[T]]) -> T:
        record = self.handy.take(identifier)  # out, so that a failure leaves nothing of doubtful standing
        return await attempt(record or await self._read(identifier))

    async def _read(self, identifier: str) -> Record | None:
        return await self._reader.run(lambda connection: rows.read(connection, identifier))

    def _begin(self, identifier: str, channel: Channel | None, language: str | None, meta: Mapping[str, Any]) -> Record:
        return Record(lifecycle.begin(identifier, channel or "chat", language, _kept_meta(meta), self._now()), ())

    def _missing(self, record: Record, given: Sequence[Heard]) -> list[Message]:
        """Those of the given messages that are not here yet. Raises Contradiction."""
        known = {message.id: message for message in record.messages}
        missing: list[Message] = []
        now = self._now()
        newest = record.messages[-1].at if record.messages else now  # where the clock went back, the order must not
        came = lifecycle.arriving(record.state, now)
        for one, at in zip(given, lifecycle.dated([one.at for one in given], max(now, newest)), strict=True):
            if one.id in known:
                _must_be(known[one.id], one)
                continue
            message = Message(one.id, len(known), at, came, one.role, one.text, one.digest)
            known[one.id] = message
            missing.append(message)
        return missing

    async def _take(self, record: Record, state: State, new: Sequence[Message], deadline: float | None) -> Record:
        """The conversation with new messages in it, scored, and committed with its events."""
        if len(record.messages) + len(new) > MOST_TURNS:
            raise Full(f"a conversation has at most {MOST_TURNS:,} messages")
        messages = reduce(lifecycle.insert, new, record.messages)
        fresh = {message.id for message in new}
        messages = await self._scored(state, messages, fresh, deadline)
        now, judge = self._now(), self._judge()
        after = lifecycle.said(Record(state, messages), judge, now)
        messages = self._told(messages, after, fresh)
        events = tuple(lifecycle.heard(record.state, replace(after, version=after.version + 1), judge))
        write = partial(self._write, record, Record(after, messages), events, now)
        taken = Record(await self._writer.run(write, after.id), messages)
        if events:
            self._publishing.notify()
        self.handy.put(taken)
        return taken

    async def _scored(
        self, state: State, messages: Sequence[Message], fresh: set[str], deadline: float | None
    ) -> tuple[Message, ...]:
        """The messages with answers to the fresh ones, and to the customer's latest if a fresh one came before it."""
        wanted = lifecycle.to_score(messages, fresh, CONTEXT_READ)
        jobs = [job_of(state, messages, index) for index in wanted]
        answers = await self._scoring().score(jobs, deadline) if jobs else []
        pairs = zip(wanted, answers, strict=True)
        found = {index: answer.model_dump(mode="json") | {"turn": index} for index, answer in pairs}
        return tuple(
            _answered(message, found[index], message.id in fresh) if index in found else message
            for index, message in enumerate(messages)
        )

    def _told(self, messages: Sequence[Message], after: State, fresh: set[str]) -> tuple[Message, ...]:
        """The messages with what is answered of the fresh ones, which is what they will always be answered with."""
        told, shown = [], lifecycle.summary(replace(after, version=after.version + 1))
        for index, message in enumerate(messages):
            if message.id in fresh:
                answer = message.answer or self._scoring().passed_over(after.id, index, shown["priority"])
                routed = {"priority": shown["priority"]} if after.held_out else {}
                message = replace(message, answer=answer | routed | {"message": message.id, "conversation": shown})
            told.append(message)
        return tuple(told)

    def _write(
        self, before: Record, after: Record, events: Sequence[lifecycle.Event], now: datetime, connection: Connection
    ) -> State:
        known = {message.id: message.revised for message in before.messages}
        changed = {m.id: m.revised for m in after.messages if m.id in known and m.revised and m.revised != known[m.id]}
        written = rows.write(connection, after.state, before.state.version)
        rows.add_messages(connection, written.id, [message for message in after.messages if message.id not in known])
        rows.revise(connection, written.id, changed)
        if events:
            self._publishing.append(connection, written.id, now, events)
        return written


def _found(record: Record, identifier: str) -> Message:
    found = record.message(identifier)
    assert found is not None
    return found


async def _heard(new: Sequence[NewMessage]) -> list[Heard]:
    """The messages as they may be kept; long ones are read beside the event loop, which has others to serve."""
    if sum(len(one.text) for one in new) < OFFLOADED:
        return [heard(one) for one in new]
    return await asyncio.to_thread(lambda: [heard(one) for one in new])


def _must_be(known: Message, given: Heard) -> None:
    if known.digest != given.digest:
        raise Contradiction(f"message {given.id} is here already and says something else")


def _described(state: State, new: NewConversation) -> State:
    """The state with what is said of the whole conversation. Raises Full."""
    meta = {**state.meta, **_kept_meta(new.meta)}
    if len(meta) > MOST_META:
        raise Full(f"the meta of a conversation has at most {MOST_META} keys")
    return replace(state, channel=new.channel or state.channel, language=new.language or state.language, meta=meta)


def _answered(message: Message, answer: dict[str, Any], fresh: bool) -> Message:
    if fresh:
        return replace(message, answer=answer)
    return message if answer == message.standing else replace(message, revised=answer)


def job_of(state: State, messages: Sequence[Message], index: int) -> Job:
    """The message with the turns before it that its scoring may look at."""
    seen = messages[max(0, index - CONTEXT_READ) : index + 1]
    turns = tuple(Turn.model_construct(role=one.role, text=one.text) for one in seen)
    conversation = Conversation.model_construct(
        id=state.id, channel=state.channel, language=state.language, turns=turns, meta={}
    )
    return Job(conversation, len(turns) - 1)


def _kept_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {key: kept_text(value) if isinstance(value, str) else value for key, value in meta.items()}
