"""Conversations replayed against the HTTP API message by message, and the queue that comes of it.

Knows the API from outside only, as a routing service does.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from pipeline.conversation import Conversation
from pipeline.vocabulary import Hot


@dataclass
class Entry:
    """A conversation in the queue, with the answers to its messages so far."""

    conversation: Conversation
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def latest(self) -> dict[str, Any]:
        return self.answers[-1]

    @property
    def heat(self) -> tuple[int, float]:
        """What the queue is ordered by: priority, then frustration."""
        frustration = self.latest["frustration"]
        return self.latest["priority"]["score"], frustration["expected"] if frustration else 0.0


@dataclass
class Replay:
    """The state of a replay: the queue and how long each answer took, in seconds."""

    entries: dict[str, Entry] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def hottest_first(self) -> list[Entry]:
        """The queue as a team would work it off."""
        return sorted(self.entries.values(), key=lambda entry: entry.heat, reverse=True)


def replay(conversations: Sequence[Conversation], client: httpx.Client, seed: int) -> Iterator[Replay]:
    """Send every customer message with what came before it, conversations interleaved; the state after each answer.

    Raises httpx's errors.
    """
    state = Replay()
    for conversation, turn in interleaved(conversations, seed):
        started = time.perf_counter()
        response = client.post("/v1/score", content=_so_far(conversation, turn))
        state.seconds.append(time.perf_counter() - started)
        response.raise_for_status()
        entry = state.entries.setdefault(conversation.id, Entry(conversation))
        entry.answers.append(response.json())
        yield state


def interleaved(conversations: Sequence[Conversation], seed: int) -> list[tuple[Conversation, int]]:
    """(conversation, customer turn) in an order in which messages of many conversations could have arrived."""
    draw = random.Random(seed)
    arrivals: list[tuple[float, Conversation, int]] = []
    for conversation in conversations:
        at = draw.random()
        for turn in conversation.customer_turns():
            arrivals.append((at, conversation, turn))
            at += 0.02 + 0.2 * draw.random()
    return [(conversation, turn) for _, conversation, turn in sorted(arrivals, key=lambda arrival: arrival[0])]


def _so_far(conversation: Conversation, turn: int) -> str:
    seen = tuple(t.model_copy(update={"labels": None}) for t in conversation.turns[: turn + 1])
    return conversation.model_copy(update={"turns": seen, "meta": {}}).model_dump_json(exclude_none=True)


@dataclass(frozen=True)
class Outcome:
    """What came of a replay, held against the labels that the replayed conversations carry."""

    conversations: int
    messages: int
    abstained: int
    seconds_median: float
    seconds_p95: float
    queues: dict[str, int]
    hot: int
    hot_sent_up: int
    calm: int
    calm_sent_up: int
    boiled_over: int
    foreseen: int
    stayed_calm: int
    false_alarms: int


def outcome(state: Replay, hot: Hot, upper_queues: Sequence[str], foresees_at: float) -> Outcome:
    """Figures of a replay.

    A message is sent up when its answer's queue is one of `upper_queues`. A boil-over of a conversation that began
    calm is foreseen when `boil_over` reached `foresees_at` in an answer before it; where nothing boils over, that is
    a false alarm.
    """
    seconds = sorted(state.seconds)
    entries = list(state.entries.values())
    judged = [pair for entry in entries for pair in zip(_heat(entry.conversation, hot), entry.answers, strict=True)]
    sent_up = [(is_hot, answer["priority"]["queue"] in upper_queues) for is_hot, answer in judged]
    forecasts = [_forecast(entry, hot, foresees_at) for entry in entries if not _heat(entry.conversation, hot)[0]]
    return Outcome(
        conversations=len(entries),
        messages=len(seconds),
        abstained=sum(answer["abstained"] is not None for _, answer in judged),
        seconds_median=seconds[len(seconds) // 2],
        seconds_p95=seconds[int(len(seconds) * 0.95)],
        queues=dict(Counter(entry.latest["priority"]["queue"] for entry in entries)),
        hot=sum(is_hot for is_hot, _ in sent_up),
        hot_sent_up=sum(is_hot and up for is_hot, up in sent_up),
        calm=sum(not is_hot for is_hot, _ in sent_up),
        calm_sent_up=sum(up and not is_hot for is_hot, up in sent_up),
        boiled_over=sum(boils for boils, _ in forecasts),
        foreseen=sum(boils and alarmed for boils, alarmed in forecasts),
        stayed_calm=sum(not boils for boils, _ in forecasts),
        false_alarms=sum(alarmed and not boils for boils, alarmed in forecasts),
    )


def _heat(conversation: Conversation, hot: Hot) -> list[bool]:
    """Whether each customer turn is hot by its labels."""
    return [bool(hot.applies(conversation.turns[turn].labels or {})) for turn in conversation.customer_turns()]


def _forecast(entry: Entry, hot: Hot, foresees_at: float) -> tuple[bool, bool]:
    """Whether the conversation boils over, and whether an answer before that gave the alarm."""
    heat = _heat(entry.conversation, hot)
    before = entry.answers[: heat.index(True)] if any(heat) else entry.answers
    return any(heat), any((answer["boil_over"] or 0.0) >= foresees_at for answer in before)
