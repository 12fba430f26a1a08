"""The client: what it asks, what it repeats and what not, how long it waits, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.conversation import Conversation, Turn
from serving import contract
from serving.answers import Answer
from serving.api import agents as agents_api
from serving.api import conversations as conversations_api
from serving.api import operation as operation_api
from serving.api import queue as queue_api
from serving.api import score as score_api
from serving.client import AsyncClient, Client, Patience
from serving.contract import (
    BadAnswer,
    Conflict,
    DeadlinePassed,
    Event,
    Forbidden,
    Invalid,
    Message,
    NoAnswer,
    NotFound,
    RowFailure,
    ServerError,
    TooBusy,
    TooLate,
    Unauthorised,
    Unavailable,
)
from serving.live.bodies import NewMessage
from serving.routing.agents import Agent

QUICK = Patience(attempts=4, first_wait=0.001, longest_wait=0.01)
ADDRESS = "http://simmer.test"
SUMMARY = {
    "id": "c1",
    "status": "open",
    "version": 1,
    "channel": "chat",
    "language": None,
    "agent": None,
    "hot": False,
    "held_out": False,
    "waiting_since": "2026-11-25T10:00:00Z",
    "updated_at": "2026-11-25T10:00:00Z",
    "priority": {"score": 10, "queue": "standard", "reasons": []},
}
ASSIGNMENT = {"conversation": SUMMARY, "why": ["skill"]}


def an_answer(name: str) -> dict[str, Any]:
    answer = Answer.model_validate(
        {
            "id": name,
            "turn": 0,
            "priority": {"score": 10, "queue": "standard", "reasons": []},
            "model": {"version": None, "bundle": "sha256:0"},
        }
    )
    return answer.model_dump()


LIVE = {**an_answer("c1"), "message": "m1", "conversation": SUMMARY}

Reply = httpx.Response | Exception
Handler = Callable[[httpx.Request], Reply]


class Server:
    """Answers as it is told, one reply a request, the last one for ever; remembers what it was asked."""

    def __init__(self, *replies: Reply | Handler) -> None:
        self._replies = list(replies)
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        found = reply(request) if callable(reply) else reply
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.asked]

    def client(self, **options: Any) -> Client:
        given = {"patience": QUICK, **options}
        return Client(ADDRESS, transport=httpx.MockTransport(self), **given)


def ok(body: object = LIVE, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def no(status: int, code: str = "code", **headers: str) -> httpx.Response:
    problem = {"code": code, "message": "why", "field": "text", "request_id": "r1"}
    return httpx.Response(status, json={"error": problem}, headers=headers)


LOST = httpx.ReadError("the connection broke")
REFUSED = httpx.ConnectError("nobody listens")


def test_a_text_a_row_and_a_conversation_are_scored() -> None:
    server = Server(ok(an_answer("a")))
    conversation = Conversation(id="b", turns=(Turn(role="customer", text="hi", labels={"sentiment": "neutral"}),))
    with server.client() as client:
        assert client.score("hello").id == "a"
        client.score({"id": "r", "text": "hello"})
        client.score(conversation)
    text, row, whole = server.bodies
    assert text["text"] == "hello"
    assert text["id"]
    assert row == {"id": "r", "text": "hello"}
    assert whole["turns"] == [{"role": "customer", "text": "hi"}]


def test_the_key_and_the_time_left_are_sent() -> None:
    server = Server(ok())
    with server.client(key="simmer_a_b", deadline=3.0) as client:
        client.post_message("c1", Message(text="hi"))
    headers = server.asked[0].headers
    assert headers["authorization"] == "Bearer simmer_a_b"
    assert 0 < int(headers["x-deadline-ms"]) <= 3000


@pytest.mark.parametrize("trouble", [LOST, REFUSED, no(429), no(503)])
def test_a_message_is_sent_again_with_the_same_id(trouble: Reply) -> None:
    server = Server(trouble, trouble, ok())
    with server.client() as client:
        assert client.post_message("c1", Message(text="hi")).message == "m1"
    assert len(server.asked) == 3
    assert len({request.content for request in server.asked}) == 1
    assert server.bodies[0]["id"]


def test_half_an_emoji_is_no_error() -> None:
    server = Server(ok(an_answer("a")), ok(an_answer("a")), ok())
    with server.client() as client:
        client.score("broken \ud83d")
        client.score({"id": "b", "turns": [{"role": "customer", "text": "broken \ud83d"}]})
        client.post_message("c1", Message(text="broken \ud83d"))
    assert server.bodies[0]["text"] == "broken ?"
    assert server.bodies[1]["turns"][0]["text"] == "broken ?"
    assert server.bodies[2]["text"] == "broken ?"


def test_two_messages_have_two_ids() -> None:
    assert Message(text="hi").id != Message(text="hi").id


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorised),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, Invalid),
        (422, Invalid),
        (500, ServerError),
        (504, TooLate),
    ],
)
def test_a_refusal_is_raised_at_once_and_says_what_the_api_said(status: int, kind: type[contract.ApiError]) -> None:
    server = Server(no(status, "some_code"))
    with server.client() as client, pytest.raises(kind) as raised:
        client.post_message("c1", Message(text="hi"))
    error = raised.value
    assert (error.status, error.code, error.message, error.field) == (status, "some_code", "why", "text")
    assert error.request_id == "r1"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("reply", "kind"), [(no(429), TooBusy), (no(503), Unavailable), (LOST, NoAnswer)])
def test_trouble_without_end_is_raised_after_the_last_attempt(reply: Reply, kind: type[Exception]) -> None:
    server = Server(reply)
    with server.client() as client, pytest.raises(kind):
        client.score("hi")
    assert len(server.asked) == QUICK.attempts


@pytest.mark.parametrize("method", ["release", "resolve", "assign"])
@pytest.mark.parametrize(("reply", "attempts"), [(LOST, 1), (no(503), 1), (REFUSED, 4), (no(429), 4)])
def test_what_may_have_been_done_is_not_asked_twice(method: str, reply: Reply, attempts: int) -> None:
    server = Server(reply)
    with server.client() as client, pytest.raises(contract.ClientError):
        getattr(client, method)("c1")
    assert len(server.asked) == attempts


def test_naming_the_agent_makes_an_assignment_safe_to_repeat() -> None:
    server = Server(LOST, ok(ASSIGNMENT))
    with server.client() as client:
        assert client.assign("c1", "ann").why == ["skill"]
        assert client.claim("c1", "ann").conversation.id == "c1"
    assert server.bodies == [{"agent": "ann"}] * 3


def test_retry_after_is_waited_out() -> None:
    loop_times: list[float] = []

    def note(reply: httpx.Response) -> Handler:
        def noting(_: httpx.Request) -> httpx.Response:
            loop_times.append(asyncio.get_running_loop().time())
            return reply

        return noting

    server = Server(note(no(429, **{"retry-after": "1"})), note(ok()))
    with server.client() as client:
        client.post_message("c1", Message(text="hi"))
    assert loop_times[1] - loop_times[0] >= 1.0


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    server = Server(no(429, **{"retry-after": "30"}))
    with server.client(deadline=0.5) as client, pytest.raises(TooBusy) as raised:
        client.post_message("c1", Message(text="hi"))
    assert raised.value.retry_after == 30
    assert len(server.asked) == 1


def test_a_server_that_hangs_is_left_at_the_deadline() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        return ok()

    with Client(ADDRESS, transport=httpx.MockTransport(hang)) as client, pytest.raises(DeadlinePassed) as raised:
        client.score("hi", deadline=0.05)
    assert isinstance(raised.value, TimeoutError)


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 60)), st.floats(0, 1, exclude_max=True))
def test_a_wait_doubles_is_drawn_and_respects_what_was_asked(failures: int, asked: float | None, draw: float) -> None:
    patience = Patience()
    wait = patience.wait(failures, asked, lambda: draw)
    most = min(patience.longest_wait, patience.first_wait * 2 ** min(failures - 1, 60))
    assert (asked or 0) + most / 2 <= wait <= (asked or 0) + most


def test_erasing_again_what_is_gone_already_is_done() -> None:
    server = Server(LOST, no(404))
    with server.client() as client:
        client.erase("c1")
    with Server(no(404)).client() as client, pytest.raises(NotFound):
        client.erase("c1")


@pytest.mark.parametrize("name", ["a b", "ä", "..", ".", "a?b#c", "50%", "a+b&c=d", "%41"])
def test_an_id_reaches_the_server_as_it_is(name: str) -> None:
    server = Server(ok())
    with server.client() as client:
        client.post_message(name, Message(text="hi"))
    raw = server.asked[0].url.raw_path.decode()
    segments = raw.split("/")
    assert len(segments) == 5
    assert httpx.URL(f"{ADDRESS}/{segments[3]}").path == f"/{name}" or segments[3].replace("%2E", ".") == name


def scoring(request: httpx.Request) -> httpx.Response:
    rows = json.loads(request.content)["conversations"]
    results = [
        {"id": None, "index": index, "error": "no text"} if "text" not in row else an_answer(row["id"])
        for index, row in enumerate(rows)
    ]
    return httpx.Response(200, json={"results": results})


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 9), st.integers(1, 5))
def test_many_are_answered_in_their_order_with_failures_in_place(
    good: list[bool], batch: int, concurrency: int
) -> None:
    server = Server(scoring)
    rows = [{"id": str(index), **({"text": "hi"} if fine else {})} for index, fine in enumerate(good)]

    async def collect() -> list[Answer | RowFailure]:
        async with AsyncClient(ADDRESS, transport=httpx.MockTransport(server)) as client:
            return [scored async for scored in client.score_many(rows, batch, concurrency)]

    found = asyncio.run(collect())
    assert len(found) == len(rows)
    for index, (fine, scored) in enumerate(zip(good, found, strict=True)):
        assert (scored.id == str(index)) if fine else (isinstance(scored, RowFailure) and scored.index == index)
    assert all(len(body["conversations"]) <= batch for body in server.bodies)


def test_many_are_read_no_further_ahead_than_is_under_way() -> None:
    taken = 0

    def rows() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "hi"

    with Server(scoring).client() as client:
        found = client.score_many(rows(), batch=5, concurrency=2)
        for _ in range(7):
            next(found)
        assert taken <= 25
        found.close()  # type: ignore[attr-defined]


def test_a_batch_that_fails_is_raised_and_too_few_answers_are_noticed() -> None:
    with Server(no(401)).client() as client, pytest.raises(Unauthorised):
        list(client.score_many(["a", "b"]))
    with Server(ok({"results": []})).client() as client, pytest.raises(BadAnswer, match="0 answers to 2"):
        list(client.score_many(["a", "b"]))
    with Server(scoring).client() as client, pytest.raises(ValueError, match="at least 1"):
        list(client.score_many(["a"], batch=0))


def test_the_queue_is_read_page_by_page_as_it_is_needed() -> None:
    waiting = {**SUMMARY, "waiting_minutes": 3.0, "rank": 12.5}
    server = Server(ok({"items": [waiting, waiting], "next": "abc"}), ok({"items": [waiting], "next": None}))
    with server.client() as client:
        entries = client.queue(page=2, queue="senior")
        assert next(entries).rank == 12.5
        assert len(server.asked) == 1
        assert len(list(entries)) == 2
    first, second = (dict(request.url.params) for request in server.asked)
    assert first == {"queue": "senior", "limit": "2"}
    assert second == {"queue": "senior", "limit": "2", "cursor": "abc"}


def test_a_conversation_is_put_without_its_id_in_the_body() -> None:
    server = Server(ok(status=201))
    with server.client() as client:
        client.put_conversation({"id": "c 1", "turns": [{"role": "customer", "text": "hi"}]})
    assert server.asked[0].method == "PUT"
    assert server.asked[0].url.raw_path == b"/v1/conversations/c%201"
    assert "id" not in server.bodies[0]


def test_agents_and_their_next_conversation() -> None:
    agent = Agent(id="ann", languages=frozenset({"en"}), cap=3)
    carried = {"agent": agent.model_dump(mode="json"), "open": 1, "last_hard_at": None, "last_assigned_at": None}
    with Server(ok(carried)).client() as client:
        assert client.put_agent(agent).agent == agent
    with Server(ok({"agents": [carried]})).client() as client:
        assert [one.open for one in client.agents()] == [1]
    with Server(ok(ASSIGNMENT), httpx.Response(204)).client() as client:
        assert client.next_conversation("ann") is not None
        assert client.next_conversation("ann") is None


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"id": 5}'])
def test_what_is_not_the_api_is_told_apart(content: bytes) -> None:
    with Server(httpx.Response(200, content=content)).client() as client, pytest.raises(BadAnswer):
        client.score("hi")
    with Server(httpx.Response(502, content=content)).client() as client, pytest.raises(ServerError) as raised:
        client.score("hi")
    assert raised.value.status == 502


def test_ready_asks_once_and_never_raises() -> None:
    for reply, expected in ((ok({}), True), (no(503), False), (REFUSED, False)):
        server = Server(reply)
        with server.client() as client:
            assert client.ready() is expected
        assert len(server.asked) == 1


def frame(number: int, kind: str = "flagged") -> str:
    event = {"id": number, "kind": kind, "conversation": "c1", "at": "2026-11-25T10:00:00Z", "body": {"score": 81}}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(event)}\n\n"


def stream(*frames: str) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content="".join(frames))


def taken(client: Client, count: int, **given: Any) -> list[Event]:
    events = client.events(**given)
    found = [next(events) for _ in range(count)]
    events.close()  # type: ignore[attr-defined]
    return found


def test_events_resume_after_the_last_that_was_seen() -> None:
    server = Server(
        stream("retry: 2000\n\n", frame(4), frame(5), "id: 6\ndata: {half"),
        no(503, **{"retry-after": "0"}),
        LOST,
        stream(frame(6), ": still here\nid: 9\n\n"),
        stream(frame(10)),
    )
    with server.client() as client:
        assert [event.id for event in taken(client, 4, after=3)] == [4, 5, 6, 10]
    assert [request.headers.get("last-event-id") for request in server.asked] == ["3", "5", "5", "5", "9"]


def test_events_from_now_on_ask_for_no_id_and_kinds_are_named() -> None:
    server = Server(stream(frame(1)))
    with server.client() as client:
        taken(client, 1, kinds=["flagged", "resolved"])
    assert "last-event-id" not in server.asked[0].headers
    assert dict(server.asked[0].url.params) == {"kinds": "flagged,resolved"}


def test_a_gap_is_an_event_and_a_refusal_is_raised() -> None:
    gap = 'id: 40\nevent: gap\ndata: {"asked_after": 3, "continues_after": 40}\n\n'
    with Server(stream(gap, frame(41))).client() as client:
        first, second = taken(client, 2, after=3)
    assert (first.kind, first.id, first.body["continues_after"]) == ("gap", 40, 40)
    assert second.id == 41
    with Server(no(403)).client() as client, pytest.raises(Forbidden):
        taken(client, 1)


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncClient) - {"aclose"} == public(Client) - {"close"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (contract.Summary, conversations_api.Summary),
        (contract.Standing, conversations_api.Standing),
        (contract.LiveAnswer, conversations_api.LiveAnswer),
        (contract.LiveTurn, conversations_api.LiveTurn),
        (contract.Happening, conversations_api.Happening),
        (contract.Trajectory, conversations_api.Trajectory),
        (contract.Assignment, conversations_api.Assignment),
        (contract.Waiting, queue_api.Waiting),
        (contract.Carried, agents_api.Carried),
        (contract.RowFailure, score_api.RowProblem),
        (contract.Message, NewMessage),
    ],
)
def test_the_client_knows_every_field_of_the_api(ours: type[BaseModel], theirs: type[BaseModel]) -> None:
    assert set(ours.model_fields) == set(theirs.model_fields)


def test_the_model_card_is_a_part_of_what_the_api_tells() -> None:
    assert set(contract.ModelCard.model_fields) <= set(operation_api.ModelAnswer.model_fields)


def test_rows_may_come_from_an_asynchronous_source() -> None:
    async def rows() -> AsyncIterator[str]:
        for number in range(7):
            yield f"text {number}"

    async def count() -> int:
        async with AsyncClient(ADDRESS, transport=httpx.MockTransport(Server(scoring))) as client:
            return len([scored async for scored in client.score_many(rows(), batch=3)])

    assert asyncio.run(count()) == 7
