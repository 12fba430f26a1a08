"""GET /v1/model, /healthz, /readyz: which model speaks, whether the process lives, whether the model is able."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from serving.api.access import READ, ScopedRoute
from serving.api.failures import KEYED, Failure, failing
from serving.operation.health import CheckResult
from serving.operation.models import ModelStatus
from serving.routing.watch import PolicyStatus
from serving.service import Service


class ModelAnswer(BaseModel):
    """Which model speaks and what was measured of it."""

    version: str | None
    bundle: str
    profile: str
    encoder: str
    languages: list[str]
    labels: dict[str, list[str]] = Field(description="every head's values, in output order")
    metrics: dict[str, Any] = Field(description="on held-back conversations, with 95 % intervals")
    slices: dict[str, Any]
    git_revision: str
    data_hash: str
    mlflow_run_id: str


class Readiness(BaseModel):
    """Ready, with what was checked and what is known of the model's reloading."""

    status: str
    checks: dict[str, CheckResult]
    model: ModelStatus


def operation_routes(service: Service) -> APIRouter:
    """What those who run the scorer ask it."""
    router = APIRouter(route_class=ScopedRoute, tags=["operation"])

    @router.get("/v1/model", responses=failing(*KEYED), openapi_extra=READ)
    def model() -> ModelAnswer:
        """Which model speaks, and how good it was on conversations held back from training."""
        bundle = service.models.current.scorer.bundle
        card = bundle.card
        return ModelAnswer(
            version=bundle.version,
            bundle=bundle.digest,
            profile=card.profile,
            encoder=card.encoder,
            languages=list(card.languages),
            labels={name: list(head.values) for name, head in card.labels.heads.items()},
            metrics=card.metrics["test"],
            slices=card.slices,
            git_revision=card.git_revision,
            data_hash=card.data_hash,
            mlflow_run_id=card.mlflow_run_id,
        )

    @router.get("/v1/policy", responses=failing(*KEYED), openapi_extra=READ)
    def policy() -> PolicyStatus:
        """Which policy decides, since when, and why the file as it now is was refused, if it was."""
        return service.watch.status()

    _add_health(router, service)
    return router


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @router.get("/readyz", responses=failing(503))
    async def readyz() -> Readiness:
        """The model is able: golden inputs were scored a moment ago as at export, and the store can be written to."""
        report = await service.health.ask()
        if not report.ready:
            raise Failure(503, report.reason or "not ready")
        return Readiness(status="ready", checks=report.checks, model=service.models.status())
