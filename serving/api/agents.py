"""Agents over HTTP: who is there, what they may take, what they carry, and their next conversation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import Response

from pipeline.conversation import MAX_ID, Channel
from serving.api.access import ADMIN, READ, SCORE, ScopedRoute
from serving.api.conversations import Assignment, Id, assignment
from serving.api.document import leading_to, request_body
from serving.api.failures import KEYED, SENT, Failure, failing
from serving.api.requests import actor_of, read_model
from serving.live.bodies import PLAIN, Body, Identifier
from serving.live.live import Live
from serving.routing.agents import Agent
from serving.store.agents import Carrying

Skill = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PLAIN)]
Tongue = Annotated[str, StringConstraints(max_length=20, pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$")]


class NewAgent(Body):
    """An agent as they are sent; the id may be left to the address."""

    id: Identifier | None = None
    name: Annotated[str, StringConstraints(max_length=MAX_ID, pattern=PLAIN)] = ""
    tier: Literal["standard", "senior"] = "standard"
    empathy_trained: bool = False
    skills: frozenset[Skill] = Field(default=frozenset(), max_length=100)
    languages: frozenset[Tongue] = Field(min_length=1, max_length=100)
    channels: frozenset[Channel] | None = Field(default=None, description="null takes every channel")
    cap: int = Field(ge=0, le=1_000, description="how many conversations at once, at most")
    online: bool = True


class Carried(BaseModel):
    """An agent with the load at this moment."""

    agent: Agent
    open: int
    last_hard_at: datetime | None
    last_assigned_at: datetime | None


class Agents(BaseModel):
    """Every agent, by id."""

    agents: list[Carried]


def agent_routes(live: Live) -> APIRouter:
    """Routes over agents."""
    router = APIRouter(route_class=ScopedRoute, tags=["agents"], responses=failing(*KEYED))

    @router.get("/v1/agents", openapi_extra=READ)
    async def agents() -> Agents:
        """Every agent with the load at this moment."""
        return Agents(agents=[_carried(one) for one in await live.agents()])

    @router.get("/v1/agents/{id}", responses=failing(404, 422), openapi_extra=READ)
    async def agent(id: Id) -> Carried:
        """One agent."""
        found = next((one for one in await live.agents() if one.agent.id == id), None)
        if found is None:
            raise Failure(404, f"there is no agent {id}")
        return _carried(found)

    @router.put(
        "/v1/agents/{id}",
        responses={201: {"model": Carried}, **failing(*SENT)},
        openapi_extra={
            **ADMIN,
            **request_body(NewAgent),
            **leading_to("agent", "put_agent", "next_conversation", "remove_agent", id="$request.path.id"),
        },
    )
    async def put_agent(request: Request, response: Response, id: Id) -> Carried:
        """Add an agent, or change one."""
        given = await read_model(request, NewAgent)
        if given.id not in (None, id):
            raise Failure(422, "is not the id in the address", "id")
        known = Agent.model_validate({**given.model_dump(), "id": id})
        if await live.handling.put_agent(known, actor_of(request)):
            response.status_code = 201
        return await agent(id)

    _add_more(router, live)
    return router


def _add_more(router: APIRouter, live: Live) -> None:
    @router.delete("/v1/agents/{id}", status_code=204, responses=failing(404, 422), openapi_extra=ADMIN)
    async def remove_agent(request: Request, id: Id) -> Response:
        """Take an agent out; what is with them stays with them until it is released or assigned."""
        await live.handling.remove_agent(id, actor_of(request))
        return Response(status_code=204)

    @router.post(
        "/v1/agents/{id}/next",
        response_model=Assignment,
        responses={204: {"description": "nothing waits that they may take"}, **failing(404, 422)},
        openapi_extra=SCORE,
    )
    async def next_conversation(request: Request, id: Id) -> Response | Assignment:
        """Give the agent the hottest waiting conversation that they may take."""
        given = await live.handling.next(id, actor_of(request))
        if given is None:
            return Response(status_code=204)
        return assignment(given)


def _carried(one: Carrying) -> Carried:
    load = one.load
    return Carried(
        agent=one.agent, open=load.open, last_hard_at=load.last_hard_at, last_assigned_at=load.last_assigned_at
    )
