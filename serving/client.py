"""The typed client of the API: `Client` for plain code, `AsyncClient` for asyncio, with the same methods.

    with Client("http://127.0.0.1:8000", key="simmer_…") as client:
        answer = client.post_message("c17", Message(text="Where is my parcel?"))
        for entry in client.queue(queue="senior"): ...

Every call ends within its deadline, in seconds, waits and repeats included; the server is told how long is left, so
that it does not work for nobody. What is safe to repeat is repeated on lost connections, 429 and 503, after waits that
double, are drawn at random and are never shorter than the server asked for. Messages are safe: their id is their
idempotency key and stays the same. What is not safe (assigning to whoever fits, releasing, resolving, taking the next)
is repeated only where it certainly was not done: no connection, or 429. Raises subclasses of contract.ClientError.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import anyio.from_thread
import httpx
import orjson
from pydantic import BaseModel, ValidationError

from pipeline.config import Config
from pipeline.conversation import Conversation
from serving.answers import Answer
from serving.contract import (
    ApiError,
    Assignment,
    BadAnswer,
    Carried,
    DeadlinePassed,
    Event,
    LiveAnswer,
    Message,
    ModelCard,
    NoAnswer,
    RowFailure,
    Summary,
    TooBusy,
    Trajectory,
    Unavailable,
    Waiting,
    api_error,
)
from serving.routing.agents import Agent

Scorable = str | Conversation | Mapping[str, Any]  # a text, or a row of `simmer score`
Scored = Answer | RowFailure
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_SILENCE = 45.0  # seconds without a heartbeat until a stream counts as lost; the server sends one every 15


class Patience(Config):
    """How often and how long a call tries again. Times in seconds."""

    attempts: int = 6
    first_wait: float = 0.1
    longest_wait: float = 5.0

    def wait(self, failures: int, asked: float | None, draw: Callable[[], float]) -> float:
        """Seconds before the next attempt after so many failures: drawn, doubling, never less than was asked for."""
        most = min(self.longest_wait, self.first_wait * 2.0 ** min(failures - 1, 60))
        return (asked or 0.0) + most * (0.5 + 0.5 * draw())


@dataclass(frozen=True)
class _Call:
    """One thing to ask of the API. `safe` to repeat; `gone_is_done` where not finding it after a repeat is success."""

    method: str
    path: str
    body: bytes | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    safe: bool = True
    gone_is_done: bool = False


class AsyncClient:
    """The API for asyncio. To be used as a context manager, or closed with `aclose`."""

    def __init__(
        self,
        address: str,
        key: str | None = None,
        deadline: float = 10.0,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"accept": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        self._address = address.rstrip("/")
        self._deadline = deadline
        self._patience = patience or Patience()
        self._http = httpx.AsyncClient(
            headers=headers,
            transport=transport,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def score(self, given: Scorable, deadline: float | None = None) -> Answer:
        """The answer to a text, or to a conversation's last customer turn. Nothing is kept."""
        return _read(Answer, await self._ask(_Call("POST", "/v1/score", _dumped(_row(given))), deadline))

    async def score_many(
        self,
        given: Iterable[Scorable] | AsyncIterable[Scorable],
        batch: int = 100,
        concurrency: int = 2,
        deadline: float | None = None,
    ) -> AsyncGenerator[Scored, None]:
        """Answers in the order given, one a row; one that cannot be read yields a RowFailure in its place.

        So many rows a request, so many requests at a time, and no more read ahead. The deadline is each request's.
        """
        if batch < 1 or concurrency < 1:
            raise ValueError("batch and concurrency are at least 1")
        under_way: list[asyncio.Task[list[Scored]]] = []
        start = 0
        try:
            async for rows in _batches(given, batch):
                under_way.append(asyncio.create_task(self._score_batch(rows, start, deadline)))
                start += len(rows)
                if len(under_way) == concurrency:
                    for scored in await under_way.pop(0):
                        yield scored
            while under_way:
                for scored in await under_way.pop(0):
                    yield scored
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def put_conversation(
        self, conversation: Conversation | Mapping[str, Any], deadline: float | None = None
    ) -> LiveAnswer:
        """Tell a conversation so far; what is new in it is added. The answer is to its last customer turn."""
        row = _row(conversation)
        call = _Call("PUT", f"/v1/conversations/{_quoted(str(row.pop('id')))}", _dumped(row))
        return _read(LiveAnswer, await self._ask(call, deadline))

    async def post_message(self, conversation: str, message: Message, deadline: float | None = None) -> LiveAnswer:
        """Tell a message; a conversation that is not there begins with it. Safe to call again with the same message."""
        body = message.model_dump_json(exclude_none=True).encode()
        call = _Call("POST", f"/v1/conversations/{_quoted(conversation)}/messages", body)
        return _read(LiveAnswer, await self._ask(call, deadline))

    async def conversation(self, conversation: str, deadline: float | None = None) -> Trajectory:
        """Everything that was said, what is said of it, and what people did with it."""
        return _read(Trajectory, await self._ask(_Call("GET", f"/v1/conversations/{_quoted(conversation)}"), deadline))

    async def queue(
        self, page: int = 50, deadline: float | None = None, **filters: str
    ) -> AsyncGenerator[Waiting, None]:
        """Who waits, hottest first, a page at a time as they are read. Filters: queue, channel, language, signal."""
        query: dict[str, str | int] = {**filters, "limit": page}
        while True:
            found = _json(await self._ask(_Call("GET", "/v1/queue", query=query), deadline))
            for item in _items(found, "items"):
                yield _checked(Waiting, item)
            if not found.get("next"):
                return
            query["cursor"] = str(found["next"])

    async def claim(self, conversation: str, agent: str, deadline: float | None = None) -> Assignment:
        """An agent takes a conversation."""
        return _read(Assignment, await self._ask(_handling(conversation, "claim", True, agent=agent), deadline))

    async def assign(self, conversation: str, agent: str | None = None, deadline: float | None = None) -> Assignment:
        """Give a conversation to this agent, or to whoever fits best. Raises Conflict where nobody fits."""
        call = _handling(conversation, "assign", agent is not None, agent=agent)
        return _read(Assignment, await self._ask(call, deadline))

    async def release(self, conversation: str, deadline: float | None = None) -> Summary:
        """Give a conversation back to the queue."""
        return _read(Summary, await self._ask(_handling(conversation, "release", False), deadline))

    async def resolve(self, conversation: str, outcome: str | None = None, deadline: float | None = None) -> Summary:
        """The matter is settled."""
        return _read(Summary, await self._ask(_handling(conversation, "resolve", False, outcome=outcome), deadline))

    async def erase(self, conversation: str, deadline: float | None = None) -> None:
        """Erase a conversation from everywhere."""
        call = _Call("DELETE", f"/v1/conversations/{_quoted(conversation)}", gone_is_done=True)
        await self._ask(call, deadline)

    async def agents(self, deadline: float | None = None) -> list[Carried]:
        """Every agent with the load at this moment."""
        found = _json(await self._ask(_Call("GET", "/v1/agents"), deadline))
        return [_checked(Carried, item) for item in _items(found, "agents")]

    async def put_agent(self, agent: Agent, deadline: float | None = None) -> Carried:
        """Add an agent, or change one."""
        call = _Call("PUT", f"/v1/agents/{_quoted(agent.id)}", agent.model_dump_json().encode())
        return _read(Carried, await self._ask(call, deadline))

    async def next_conversation(self, agent: str, deadline: float | None = None) -> Assignment | None:
        """Give an agent the hottest conversation that they may take; None where there is none."""
        answer = await self._ask(_Call("POST", f"/v1/agents/{_quoted(agent)}/next", safe=False), deadline)
        return None if answer.status_code == 204 else _read(Assignment, answer)

    async def model(self, deadline: float | None = None) -> ModelCard:
        """Which model speaks, and how good it was on conversations held back from training."""
        return _read(ModelCard, await self._ask(_Call("GET", "/v1/model"), deadline))

    async def ready(self, deadline: float | None = None) -> bool:
        """Whether the service is able to answer just now. Asks once."""
        try:
            async with asyncio.timeout(deadline or self._deadline):
                return (await self._http.get(f"{self._address}/readyz", timeout=None)).status_code == 200
        except (httpx.TransportError, TimeoutError):
            return False

    async def events(self, after: int | None = None, kinds: Sequence[str] | None = None) -> AsyncGenerator[Event, None]:
        """Events as they happen, without end: those after an id, or from now on where none is given.

        A stream that is lost is opened again after the last event that was seen; a refusal other than 429 and 503 is
        raised. Where the server no longer keeps what was missed there is an event of the kind `gap`.
        """
        stream, failures = _Stream(after), 0
        while True:
            try:
                async with aclosing(self._frames(stream, kinds)) as frames:
                    async for event in frames:
                        failures = 0
                        yield event
                asked = None
            except (TooBusy, Unavailable) as error:
                asked = error.retry_after
            except httpx.TransportError:
                asked = None
            failures += 1
            await asyncio.sleep(self._patience.wait(failures, asked, random.random))

    async def _frames(self, stream: _Stream, kinds: Sequence[str] | None) -> AsyncGenerator[Event, None]:
        """The events of one connection."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": stream.last} if stream.last else {})
        query = {"kinds": ",".join(kinds)} if kinds else {}
        timeout = httpx.Timeout(self._deadline, read=_SILENCE)
        where = f"{self._address}/v1/events"
        async with self._http.stream("GET", where, params=query, headers=headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise api_error(response.status_code, await response.aread(), response.headers)
            stream.begin()
            async for line in response.aiter_lines():
                if (event := stream.take(line)) is not None:
                    yield event

    async def _score_batch(self, rows: list[dict[str, Any]], start: int, deadline: float | None) -> list[Scored]:
        body = _dumped({"conversations": rows})
        found = _items(_json(await self._ask(_Call("POST", "/v1/score", body), deadline)), "results")
        if len(found) != len(rows):
            raise BadAnswer(f"{len(found)} answers to {len(rows)} conversations")
        return [_scored(item, start) for item in found]

    async def _ask(self, call: _Call, deadline: float | None) -> httpx.Response:
        """The successful response to a call, tried as often as it may be within its deadline."""
        seconds = self._deadline if deadline is None else deadline
        until, failures = time.monotonic() + seconds, 0
        while True:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    response = await self._send(call, until)
            except TimeoutError:
                raise DeadlinePassed(f"{call.method} {call.path}: no answer within {seconds:g} s") from None
            except httpx.TransportError as error:
                failure: ApiError | NoAnswer = NoAnswer(f"{call.method} {call.path}: {type(error).__name__}")
                again, asked = call.safe or isinstance(error, _UNSENT), None
            else:
                if response.is_success or (response.status_code == 404 and call.gone_is_done and failures):
                    return response
                failure = api_error(response.status_code, response.content, response.headers)
                again = isinstance(failure, TooBusy) or (isinstance(failure, Unavailable) and call.safe)
                asked = failure.retry_after
            failures += 1
            wait = self._patience.wait(failures, asked, random.random)
            if not again or failures >= self._patience.attempts or time.monotonic() + wait >= until:
                raise failure
            await asyncio.sleep(wait)

    async def _send(self, call: _Call, until: float) -> httpx.Response:
        headers = {"x-deadline-ms": str(max(1, int((until - time.monotonic()) * 1000)))}
        if call.body is not None:
            headers["content-type"] = "application/json"
        url = self._address + call.path
        return await self._http.request(
            call.method, url, params=call.query, content=call.body, headers=headers, timeout=None
        )


class _Stream:
    """Server-sent events, line by line, as the HTML standard reads them."""

    def __init__(self, after: int | None) -> None:
        self.last = None if after is None else str(after)
        self.begin()

    def begin(self) -> None:
        """A connection begins; what the one before left unfinished is forgotten."""
        self._id, self._kind = self.last, ""
        self._data: list[str] = []

    def take(self, line: str) -> Event | None:
        """Take a line; the event that it completes. Raises BadAnswer."""
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        return None

    def _complete(self) -> Event | None:
        self.last, data, kind = self._id, "\n".join(self._data), self._kind
        self._data, self._kind = [], ""
        if not data:
            return None
        if kind == "gap":
            return Event(id=int(self.last or 0), kind="gap", conversation="", at=None, body=_loads(data.encode()))
        return _checked(Event, _loads(data.encode()))


class Client:
    """The API for plain code: an AsyncClient on a thread of its own. Safe to share between threads."""

    def __init__(
        self,
        address: str,
        key: str | None = None,
        deadline: float = 10.0,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        self._client = AsyncClient(address, key, deadline, patience, transport)
        self._stack.callback(self._portal.call, self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and end the thread."""
        self._stack.close()

    def score(self, given: Scorable, deadline: float | None = None) -> Answer:
        """As AsyncClient.score."""
        return self._portal.call(self._client.score, given, deadline)

    def score_many(
        self, given: Iterable[Scorable], batch: int = 100, concurrency: int = 2, deadline: float | None = None
    ) -> Iterator[Scored]:
        """As AsyncClient.score_many."""
        return self._each(self._client.score_many(given, batch, concurrency, deadline))

    def put_conversation(
        self, conversation: Conversation | Mapping[str, Any], deadline: float | None = None
    ) -> LiveAnswer:
        """As AsyncClient.put_conversation."""
        answer: LiveAnswer = self._portal.call(self._client.put_conversation, conversation, deadline)
        return answer

    def post_message(self, conversation: str, message: Message, deadline: float | None = None) -> LiveAnswer:
        """As AsyncClient.post_message."""
        return self._portal.call(self._client.post_message, conversation, message, deadline)

    def conversation(self, conversation: str, deadline: float | None = None) -> Trajectory:
        """As AsyncClient.conversation."""
        return self._portal.call(self._client.conversation, conversation, deadline)

    def queue(self, page: int = 50, deadline: float | None = None, **filters: str) -> Iterator[Waiting]:
        """As AsyncClient.queue."""
        return self._each(self._client.queue(page, deadline, **filters))

    def claim(self, conversation: str, agent: str, deadline: float | None = None) -> Assignment:
        """As AsyncClient.claim."""
        return self._portal.call(self._client.claim, conversation, agent, deadline)

    def assign(self, conversation: str, agent: str | None = None, deadline: float | None = None) -> Assignment:
        """As AsyncClient.assign."""
        return self._portal.call(self._client.assign, conversation, agent, deadline)

    def release(self, conversation: str, deadline: float | None = None) -> Summary:
        """As AsyncClient.release."""
        return self._portal.call(self._client.release, conversation, deadline)

    def resolve(self, conversation: str, outcome: str | None = None, deadline: float | None = None) -> Summary:
        """As AsyncClient.resolve."""
        return self._portal.call(self._client.resolve, conversation, outcome, deadline)

    def erase(self, conversation: str, deadline: float | None = None) -> None:
        """As AsyncClient.erase."""
        self._portal.call(self._client.erase, conversation, deadline)

    def agents(self, deadline: float | None = None) -> list[Carried]:
        """As AsyncClient.agents."""
        return self._portal.call(self._client.agents, deadline)

    def put_agent(self, agent: Agent, deadline: float | None = None) -> Carried:
        """As AsyncClient.put_agent."""
        return self._portal.call(self._client.put_agent, agent, deadline)

    def next_conversation(self, agent: str, deadline: float | None = None) -> Assignment | None:
        """As AsyncClient.next_conversation."""
        return self._portal.call(self._client.next_conversation, agent, deadline)

    def model(self, deadline: float | None = None) -> ModelCard:
        """As AsyncClient.model."""
        return self._portal.call(self._client.model, deadline)

    def ready(self, deadline: float | None = None) -> bool:
        """As AsyncClient.ready."""
        return self._portal.call(self._client.ready, deadline)

    def events(self, after: int | None = None, kinds: Sequence[str] | None = None) -> Iterator[Event]:
        """As AsyncClient.events."""
        return self._each(self._client.events(after, kinds))

    def _each(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self._portal.call(source.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.call(source.aclose)


def _handling(conversation: str, what: str, safe: bool, **given: str | None) -> _Call:
    body = orjson.dumps({name: value for name, value in given.items() if value is not None})
    return _Call("POST", f"/v1/conversations/{_quoted(conversation)}/{what}", body, safe=safe)


def _quoted(identifier: str) -> str:
    """An id as one segment of a path; a lone dot or two would be taken for a step in it."""
    return quote(identifier, safe="") if identifier.strip(".") else identifier.replace(".", "%2E")


def _dumped(value: dict[str, Any]) -> bytes:
    """JSON; half an emoji, cut off by whoever sent it, becomes "?" as on the server."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _row(given: Scorable) -> dict[str, Any]:
    if isinstance(given, str):
        return {"id": uuid.uuid4().hex, "text": given}
    if isinstance(given, Conversation):
        return given.model_dump(mode="json", exclude_none=True, exclude={"turns": {"__all__": {"labels"}}})
    return dict(given)


async def _batches(
    given: Iterable[Scorable] | AsyncIterable[Scorable], size: int
) -> AsyncIterator[list[dict[str, Any]]]:
    if not isinstance(given, AsyncIterable):
        rows = iter(given)
        while some := [_row(one) for one in islice(rows, size)]:
            yield some
        return
    batch: list[dict[str, Any]] = []
    async for one in given:
        batch.append(_row(one))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _scored(item: object, start: int) -> Scored:
    if isinstance(item, dict) and "error" in item:
        failure = _checked(RowFailure, item)
        return failure.model_copy(update={"index": start + failure.index})
    return _checked(Answer, item)


def _read(model: type[M], response: httpx.Response) -> M:
    return _checked(model, _json(response))


def _json(response: httpx.Response) -> dict[str, Any]:
    return _loads(response.content)


def _loads(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise BadAnswer("an answer that is no JSON") from None
    if not isinstance(found, dict):
        raise BadAnswer("an answer that is no object")
    return found


def _items(found: dict[str, Any], name: str) -> list[Any]:
    items = found.get(name)
    if not isinstance(items, list):
        raise BadAnswer(f"an answer without {name}")
    return items


def _checked(model: type[M], found: object) -> M:
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise BadAnswer(f"no {model.__name__}: {error.error_count()} fields are not as promised") from None
