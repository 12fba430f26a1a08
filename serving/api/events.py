"""GET /v1/events, a stream of server-sent events; GET /v1/webhooks, and the deliveries that were given up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

import httpx
from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from starlette.responses import Response

from pipeline.conversation import MAX_ID
from serving.api.access import ADMIN, READ, ScopedRoute
from serving.api.failures import KEYED, Failure, failing
from serving.events.config import WebhookConfig
from serving.events.outgoing import Outgoing
from serving.events.stream import EventStream
from serving.live.bodies import IDENTIFIER
from serving.store import deliveries
from serving.store.outbox import KINDS, Kind

LARGEST_ID = 2**63 - 1
Name = Annotated[str, Path(max_length=MAX_ID, pattern=IDENTIFIER)]
RETRY_AFTER_S = 5.0
_CURSOR = re.compile(r"([0-9]{1,18})\.([a-z0-9][a-z0-9_-]{0,63})")


class DeliveryCounts(BaseModel):
    """Deliveries of a webhook, by what became of them."""

    pending: int = 0
    delivered: int = 0
    dead: int = 0


class WebhookState(BaseModel):
    """A webhook without its secrets, and how it fares."""

    name: str
    target: str = Field(description="scheme, host and port; the path may be a secret")
    kinds: list[Kind]
    deliveries: DeliveryCounts
    last_error: str | None = Field(description="of the newest event that could not be delivered so far")


class Webhooks(BaseModel):
    """Every webhook of the configuration."""

    webhooks: list[WebhookState]


class DeadDelivery(BaseModel):
    """A delivery that was given up. It can be tried again."""

    webhook: str
    event: int
    kind: str
    conversation: str
    at: datetime
    attempts: int
    error: str


class DeadDeliveries(BaseModel):
    """A page, newest first; `next` is the cursor of the page after it."""

    items: list[DeadDelivery]
    next: str | None


class Revived(BaseModel):
    """How many deliveries are tried again."""

    retried: int


def event_routes(outgoing: Outgoing) -> APIRouter:
    """Events as a stream, and the state of the webhooks."""
    router = APIRouter(route_class=ScopedRoute, tags=["events"], responses=failing(*KEYED))
    _add_stream(router, outgoing)
    _add_webhooks(router, outgoing)
    return router


def _add_stream(router: APIRouter, outgoing: Outgoing) -> None:
    @router.get(
        "/v1/events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **failing(422)},
        openapi_extra=READ,
    )
    async def events(
        after: Annotated[str, Query(description="`now`, or the id of the last event that was seen")] = "now",
        kinds: Annotated[
            str | None, Query(description=f"of these only, with commas between: {', '.join(KINDS)}")
        ] = None,
        last_event_id: Annotated[str | None, Header(description="as a browser sends it; goes before `after`")] = None,
    ) -> Response:
        """Events as they happen, each with its id; a client that comes back continues after the last it saw.

        A frame `gap` says that events between are no longer kept.
        """
        start = None if after == "now" else _event_id(after, "after")
        if last_event_id and last_event_id.strip():
            start = _event_id(last_event_id.strip(), "last-event-id")
        wanted = None if kinds is None else _kinds(kinds)
        position = await outgoing.feed.locate(start)
        if outgoing.feed.full:
            raise Failure(503, "as many streams are open as may be; try again shortly", retry_after=RETRY_AFTER_S)
        return EventStream(outgoing.feed, position, wanted)


def _add_webhooks(router: APIRouter, outgoing: Outgoing) -> None:
    names = {webhook.name for webhook in outgoing.config.webhooks}

    @router.get("/v1/webhooks", openapi_extra=ADMIN)
    async def webhooks() -> Webhooks:
        """The webhooks of the configuration, and how each fares."""
        return await outgoing.reader.run(partial(_states, outgoing.config.webhooks))

    @router.get("/v1/webhooks/dead", responses=failing(422), openapi_extra=ADMIN)
    async def dead(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    ) -> DeadDeliveries:
        """Deliveries that were given up, newest first."""
        before = None if cursor is None else _cursor(cursor)
        found = await outgoing.reader.run(partial(deliveries.dead_letters, limit=limit + 1, before=before))
        items = [_dead(one) for one in found[:limit]]
        last = f"{items[-1].event}.{items[-1].webhook}" if len(found) > limit else None
        return DeadDeliveries(items=items, next=last)

    async def revive(name: str, number: int | None) -> Revived:
        if name not in names:
            raise Failure(404, "no such webhook", "name")
        count = await outgoing.writer.run(partial(deliveries.revive, webhook=name, number=number))
        if number is not None and not count:
            raise Failure(404, "no such dead delivery", "event")
        outgoing.notify()
        return Revived(retried=count)

    @router.post("/v1/webhooks/{name}/retry", responses=failing(404, 422), openapi_extra=ADMIN)
    async def retry_all(name: Name) -> Revived:
        """Try every dead delivery of a webhook again, from the first attempt on."""
        return await revive(name, None)

    @router.post("/v1/webhooks/{name}/dead/{event}/retry", responses=failing(404, 422), openapi_extra=ADMIN)
    async def retry(name: Name, event: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> Revived:
        """Try one dead delivery again."""
        return await revive(name, event)


def _states(configured: Sequence[WebhookConfig], connection: Connection) -> Webhooks:
    counts = deliveries.counts(connection)
    return Webhooks(
        webhooks=[
            WebhookState(
                name=one.name,
                target=_origin(one.url),
                kinds=list(one.kinds),
                deliveries=DeliveryCounts(**counts.get(one.name, {})),
                last_error=deliveries.last_error(connection, one.name),
            )
            for one in configured
        ]
    )


def _dead(letter: deliveries.DeadLetter) -> DeadDelivery:
    event = letter.delivery.event
    return DeadDelivery(
        webhook=letter.delivery.webhook,
        event=event.id,
        kind=event.kind,
        conversation=event.conversation,
        at=event.at,
        attempts=letter.delivery.attempts,
        error=letter.error,
    )


def _origin(url: str) -> str:
    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _event_id(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LARGEST_ID):
        raise Failure(422, "must be the id of an event: a whole number from 0", field)
    return int(text)


def _kinds(text: str) -> frozenset[str]:
    named = frozenset(part.strip() for part in text.split(","))
    if not named <= set(KINDS):
        raise Failure(422, f"must be some of {', '.join(KINDS)}, with commas between", "kinds")
    return named


def _cursor(text: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise Failure(422, "must be the `next` of another page", "cursor")
    return int(found[1]), found[2]
