"""A replay sends what a live system would have known, message by message, and counts what came of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversation import Conversation, Role, Turn
from pipeline.vocabulary import Hot, Labels
from serving.config import ServeConfig
from serving.replay import Entry, Outcome, Replay, interleaved, outcome, replay
from tests.serving.conftest import serving

HOT = Hot(frustration=2, signals=("churn_threat", "abuse"), horizon=3)
CALM: Labels = {"frustration": 0, "signals": ()}
ANGRY: Labels = {"frustration": 3, "signals": ()}
LEAVING: Labels = {"frustration": 1, "signals": ("repeat_contact", "churn_threat")}


class ToApp(httpx.BaseTransport):
    """Hands requests to the API in this process, and keeps their bodies."""

    def __init__(self, app: TestClient) -> None:
        self.app = app
        self.bodies: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read().decode())
        found = self.app.request(request.method, request.url.path, content=request.content)
        return httpx.Response(found.status_code, content=found.content)


@pytest.fixture
def wire(config: ServeConfig) -> Iterator[tuple[httpx.Client, ToApp]]:
    with serving(config) as served:
        yield from wired(ToApp(served.client))


def wired(transport: ToApp) -> Iterator[tuple[httpx.Client, ToApp]]:
    with httpx.Client(transport=transport, base_url="http://scorer") as client:
        yield client, transport


def talk(name: str, *turns: tuple[Role, str]) -> Conversation:
    said = tuple(
        Turn(role=role, text=text, labels=ANGRY if role == "customer" else None, id=f"{name}-{n}")
        for n, (role, text) in enumerate(turns)
    )
    return Conversation(id=name, channel="email", turns=said, meta={"split": "live", "waiting_minutes": 500})


CONVERSATIONS = [
    talk(
        "a", ("customer", "a0 Where is my parcel?"), ("agent", "a1 Let me see."), ("customer", "a2 And?"), ("bot", "a3")
    ),
    talk("b", ("bot", "b0 Hello"), ("customer", "b1 My bill is wrong"), ("customer", "b2 Still there?")),
    talk("c", ("customer", "c0 You useless thieves, I want my money back TODAY or I am gone!!"), ("agent", "c1 Sorry")),
    talk("d", ("agent", "d0 Are you there?")),
]


def test_only_what_had_been_said_is_sent(wire: tuple[httpx.Client, ToApp]) -> None:
    client, transport = wire
    list(replay(CONVERSATIONS, client, seed=1))
    sent: dict[str, list[list[str]]] = defaultdict(list)
    for body in transport.bodies:
        conversation = json.loads(body)
        sent[conversation["id"]].append([turn["text"][:2] for turn in conversation["turns"]])
    assert sent == {"a": [["a0"], ["a0", "a1", "a2"]], "b": [["b0", "b1"], ["b0", "b1", "b2"]], "c": [["c0"]]}


def test_neither_labels_nor_notes_are_sent(wire: tuple[httpx.Client, ToApp]) -> None:
    client, transport = wire
    list(replay(CONVERSATIONS, client, seed=1))
    assert len(transport.bodies) == 5
    for body in transport.bodies:
        assert not any(word in body for word in ("labels", "frustration", "split", "live", "waiting_minutes"))
        assert json.loads(body)["channel"] == "email"


def test_every_state_has_one_answer_more(wire: tuple[httpx.Client, ToApp]) -> None:
    counts = [
        (sum(len(entry.answers) for entry in state.entries.values()), len(state.seconds))
        for state in replay(CONVERSATIONS, wire[0], seed=3)
    ]
    assert counts == [(n, n) for n in range(1, 6)]


def test_the_end_is_what_the_api_says_of_the_last_customer_turn(wire: tuple[httpx.Client, ToApp]) -> None:
    client, _ = wire
    end = list(replay(CONVERSATIONS, client, seed=1))[-1]
    assert set(end.entries) == {"a", "b", "c"}
    found = client.post("/v1/score", json={"id": "a", "channel": "email", "turns": said(CONVERSATIONS[0], 3)}).json()
    assert end.entries["a"].latest == found
    assert [answer["turn"] for answer in end.entries["b"].answers] == [1, 2]


def said(conversation: Conversation, turns: int) -> list[dict[str, str]]:
    return [{"role": turn.role, "text": turn.text} for turn in conversation.turns[:turns]]


@pytest.mark.parametrize("status", [413, 422, 500, 503])
def test_a_refusal_is_raised(status: int) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json={}))
    with httpx.Client(transport=transport, base_url="http://scorer") as client, pytest.raises(httpx.HTTPStatusError):
        list(replay(CONVERSATIONS, client, seed=1))


ROLES: tuple[Role, ...] = ("customer", "agent")


@given(st.lists(st.lists(st.sampled_from(ROLES), min_size=1, max_size=6), max_size=12), st.integers(0, 1000))
def test_every_customer_turn_comes_once_and_in_order(roles: list[list[Role]], seed: int) -> None:
    conversations = [talk(f"c{n}", *((role, "hi") for role in turns)) for n, turns in enumerate(roles)]
    arrived: dict[str, list[int]] = {conversation.id: [] for conversation in conversations}
    for conversation, turn in interleaved(conversations, seed):
        arrived[conversation.id].append(turn)
    assert arrived == {conversation.id: conversation.customer_turns() for conversation in conversations}
    assert interleaved(conversations, seed) == interleaved(conversations, seed)


def test_conversations_overlap() -> None:
    five: list[tuple[Role, str]] = [("customer", "hi")] * 5
    many = [talk(f"c{n}", *five) for n in range(10)]
    arrivals = [conversation.id for conversation, _ in interleaved(many, seed=1)]
    one_after_the_other = [name for n in range(0, 50, 5) for name in [arrivals[n]] * 5]
    assert arrivals != one_after_the_other
    assert arrivals != [conversation.id for conversation, _ in interleaved(many, seed=2)]


def answer(
    score: int, frustration: float | None, queue: str = "standard", boil_over: float | None = 0.0
) -> dict[str, Any]:
    """The parts of an answer that a replay looks at; abstained where there is no frustration."""
    judged = frustration is not None
    return {
        "frustration": {"expected": frustration} if judged else None,
        "boil_over": boil_over if judged else None,
        "priority": {"score": score, "queue": queue, "reasons": []},
        "abstained": None if judged else {"reason": "language", "detail": "fr"},
    }


def entry(name: str, labels: list[Labels], answers: list[dict[str, Any]]) -> Entry:
    turns = tuple(Turn(role="customer", text="hi", labels=given) for given in labels)
    return Entry(Conversation(id=name, turns=turns), answers)


def state(*entries: Entry, seconds: list[float] | None = None) -> Replay:
    return Replay({one.conversation.id: one for one in entries}, seconds or [])


def test_the_queue_stands_hottest_first() -> None:
    """By the latest answer: priority, then frustration; what was not judged has none."""
    queue = state(
        entry("cooled", [CALM, CALM], [answer(99, 3.0), answer(10, 0.1)]),
        entry("mild", [CALM], [answer(50, 0.5)]),
        entry("unjudged", [CALM], [answer(50, None)]),
        entry("angry", [CALM], [answer(50, 2.5)]),
        entry("top", [CALM], [answer(80, 0.0)]),
    )
    assert [e.conversation.id for e in queue.hottest_first()] == ["top", "angry", "mild", "unjudged", "cooled"]


HAND_MADE = state(
    entry(
        "foreseen",
        [CALM, CALM, ANGRY],
        [answer(1, 0, boil_over=0.1), answer(1, 0, boil_over=0.5), answer(9, 3, "senior")],
    ),
    entry("missed", [CALM, LEAVING], [answer(1, 0, boil_over=0.4), answer(1, 1, boil_over=0.9)]),
    entry("false alarm", [CALM, CALM], [answer(1, 0, boil_over=0.6), answer(1, 0, "critical")]),
    entry("quiet", [CALM], [answer(1, None)]),
    entry("hot from the start", [ANGRY, CALM], [answer(9, 3, "critical", 0.9), answer(1, 0, "senior")]),
    seconds=[0.01 * n for n in range(10, 0, -1)],
)


def test_the_figures_of_a_state_made_by_hand() -> None:
    """Three hot messages, two of them sent up; seven calm ones, two sent up. Of four conversations that began calm
    two boiled over, one after an alarm; of the two that stayed calm one was alarmed about."""
    assert outcome(HAND_MADE, HOT, ("critical", "senior"), foresees_at=0.5) == Outcome(
        conversations=5,
        messages=10,
        abstained=1,
        seconds_median=0.06,
        seconds_p95=0.1,
        queues={"senior": 2, "standard": 2, "critical": 1},
        hot=3,
        hot_sent_up=2,
        calm=7,
        calm_sent_up=2,
        boiled_over=2,
        foreseen=1,
        stayed_calm=2,
        false_alarms=1,
    )


def test_a_stricter_alarm_foresees_less() -> None:
    figures = outcome(HAND_MADE, HOT, ("critical", "senior"), foresees_at=0.61)
    assert (figures.foreseen, figures.false_alarms) == (0, 0)


def test_an_alarm_that_comes_with_the_heat_foresees_nothing() -> None:
    late = state(entry("late", [CALM, ANGRY], [answer(1, 0), answer(1, 0, boil_over=1.0)]), seconds=[0.1])
    assert outcome(late, HOT, (), foresees_at=0.5).foreseen == 0


def test_upper_queues_are_what_they_are_said_to_be() -> None:
    figures = outcome(HAND_MADE, HOT, ("critical",), foresees_at=0.5)
    assert (figures.hot_sent_up, figures.calm_sent_up) == (1, 1)


def test_labels_decide_what_is_hot() -> None:
    never = Hot(frustration=4, signals=(), horizon=3)
    figures = outcome(HAND_MADE, never, ("critical", "senior"), foresees_at=0.5)
    assert replace(figures, queues={}, seconds_median=0, seconds_p95=0) == Outcome(
        5, 10, 1, 0, 0, {}, hot=0, hot_sent_up=0, calm=10, calm_sent_up=4, boiled_over=0, foreseen=0, stayed_calm=5,
        false_alarms=4,
    )  # fmt: skip
