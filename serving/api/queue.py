"""GET /v1/queue: who waits, hottest first. Waiting raises a place without end, so that nobody starves."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from datetime import datetime
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from pipeline.conversation import MAX_ID
from serving.api.access import READ, ScopedRoute
from serving.api.conversations import Summary
from serving.api.document import leading_to
from serving.api.failures import KEYED, Failure, failing
from serving.live.bodies import IDENTIFIER, PLAIN
from serving.live.lifecycle import decided, summary
from serving.live.live import Live
from serving.store.conversations import Filter
from serving.store.records import State

NO_CURSOR = "not a cursor that a page of this queue gave"
MOST = 200  # conversations in one page
LONGEST_CURSOR = 1_200  # characters; an id may take 800 bytes
Word = Annotated[str | None, Query(max_length=200, pattern=PLAIN)]


class Waiting(Summary):
    """A conversation in the queue; its priority takes the wait so far into account."""

    waiting_minutes: float
    rank: float


class Page(BaseModel):
    """Some of the queue. `next` is the `cursor` of the next page, null at the end."""

    items: list[Waiting]
    next: str | None


def queue_routes(live: Live) -> APIRouter:
    """Routes over the queue."""
    router = APIRouter(route_class=ScopedRoute, tags=["queue"], responses=failing(*KEYED))

    @router.get(
        "/v1/queue",
        response_model=Page,
        responses=failing(422),
        openapi_extra={**READ, **leading_to("conversation", "assign", "resolve", id="$response.body#/items/0/id")},
    )
    async def queue(
        queue: Word = None,
        channel: Word = None,
        language: Word = None,
        signal: Word = None,
        status: Literal["open"] = "open",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
        cursor: Annotated[str | None, Query(max_length=LONGEST_CURSOR, description="`next` of the page before")] = None,
    ) -> Response:
        """Conversations that wait for a person, hottest first. `signal` is a reason code, such as `churn_threat`."""
        chosen = Filter(status=status, queue=queue, channel=channel, language=language, signal=signal)
        now, found = await live.queue(chosen, limit + 1, _position(cursor))
        items = [waiting(live, state, now) for state in found[:limit]]
        following = _cursor(found[limit - 1]) if len(found) > limit else None
        return Response(orjson.dumps({"items": items, "next": following}), media_type="application/json")

    return router


def waiting(live: Live, state: State, now: datetime) -> dict[str, object]:
    """A conversation of the queue as it is shown at this moment."""
    decision = decided(state, live.judge(), now)
    minutes = (now - state.waiting_since).total_seconds() / 60 if state.waiting_since else 0.0
    priority = {"score": decision.score, "queue": decision.queue, "reasons": list(decision.reasons)}
    return {
        **summary(state),
        "priority": priority,
        "waiting_minutes": round(max(0.0, minutes), 2),
        "rank": state.rank,
    }


def _cursor(state: State) -> str:
    return base64.urlsafe_b64encode(struct.pack(">d", state.rank) + state.id.encode()).decode().rstrip("=")


def _position(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True)
        rank, identifier = struct.unpack(">d", raw[:8])[0], raw[8:].decode()
    except (binascii.Error, struct.error, ValueError):
        raise Failure(422, NO_CURSOR, "cursor") from None
    if not math.isfinite(rank) or len(identifier) > MAX_ID or not re.fullmatch(IDENTIFIER, identifier):
        raise Failure(422, NO_CURSOR, "cursor")
    return rank, identifier
