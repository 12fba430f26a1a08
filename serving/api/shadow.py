"""GET /v1/shadow and /v1/drift: where a challenger would say something else, and whether live messages have moved."""

from __future__ import annotations

from fastapi import APIRouter

from pipeline.differences import Shadow as Report
from serving.api.access import ADMIN, ScopedRoute
from serving.api.failures import KEYED, Failure, failing
from serving.drift.shapes import Drift
from serving.drift.watch import DriftWatch
from serving.operation.shadow import Shadow


def shadow_routes(shadow: Shadow | None, drift: DriftWatch) -> APIRouter:
    """What those ask who consider another model."""
    router = APIRouter(route_class=ScopedRoute, tags=["operation"])

    @router.get("/v1/shadow", name="shadow", responses=failing(404, *KEYED), openapi_extra=ADMIN)
    def in_the_shadow() -> Report:
        """How often the challenger in the shadow would have said something else, with the biggest differences by id."""
        if shadow is None:
            raise Failure(404, "no model is in the shadow: configs/serve.yaml names none")
        return shadow.report()

    @router.get("/v1/drift", name="drift", responses=failing(404, *KEYED), openapi_extra=ADMIN)
    def measured() -> Drift:
        """How far live messages have moved from what the model was made for, as last measured."""
        if drift.latest is None:
            raise Failure(404, "drift was not measured yet, or the model does not say what it was made for")
        return drift.latest

    return router
