"""Agents over HTTP: who is there, what they may take, what they carry, and their next conversation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from starlette.responses import Response

from pipeline.conversation import MAX_ID
from serving.api.access import ADMIN, READ, SCORE, ScopedRoute
from serving.api.conversations import Assignment, assignment, request_body
from serving.api.failures import ERRORS, Failure
from serving.api.requests import actor_of, read_model
from serving.live.live import Live
from serving.routing.agents import Agent
from serving.store.agents import Carrying

Id = Annotated[str, Path(min_length=1, max_length=MAX_ID, pattern=r"^[^\x00-\x1f\x7f/]+$")]


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
    router = APIRouter(route_class=ScopedRoute, tags=["agents"], responses={503: ERRORS[503]})

    @router.get("/v1/agents", openapi_extra=READ)
    async def agents() -> Agents:
        """Every agent with the load at this moment."""
        return Agents(agents=[_carried(one) for one in await live.agents()])

    @router.get("/v1/agents/{id}", responses={404: ERRORS[404]}, openapi_extra=READ)
    async def agent(id: Id) -> Carried:
        """One agent."""
        found = next((one for one in await live.agents() if one.agent.id == id), None)
        if found is None:
            raise Failure(404, f"there is no agent {id}")
        return _carried(found)

    @router.put("/v1/agents/{id}", openapi_extra={**ADMIN, **request_body(Agent)}, responses={201: {"model": Carried}})
    async def put_agent(request: Request, response: Response, id: Id) -> Carried:
        """Add an agent, or change one."""
        given = await read_model(request, Agent)
        if given.id != id:
            raise Failure(422, "is not the id in the address", "id")
        if await live.handling.put_agent(given, actor_of(request)):
            response.status_code = 201
        return await agent(id)

    @router.delete("/v1/agents/{id}", status_code=204, responses={404: ERRORS[404]}, openapi_extra=ADMIN)
    async def remove_agent(request: Request, id: Id) -> Response:
        """Take an agent out; what is with them stays with them until it is released or assigned."""
        await live.handling.remove_agent(id, actor_of(request))
        return Response(status_code=204)

    _add_next(router, live)
    return router


def _add_next(router: APIRouter, live: Live) -> None:
    @router.post(
        "/v1/agents/{id}/next",
        response_model=Assignment,
        responses={204: {"description": "nothing waits that they may take"}, 404: ERRORS[404]},
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
