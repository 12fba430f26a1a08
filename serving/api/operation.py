"""GET /v1/model, /healthz, /readyz: which model speaks, whether the process lives, whether the model is able."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.bundle import BundleRefused
from serving.api.failures import ERRORS, Failure
from serving.scorer import Scorer


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


def operation_routes(scorer: Scorer) -> APIRouter:
    """What those who run the scorer ask it."""
    router = APIRouter()

    @router.get("/v1/model")
    def model() -> ModelAnswer:
        """Which model speaks, and how good it was on conversations held back from training."""
        card = scorer.bundle.card
        return ModelAnswer(
            version=scorer.bundle.version,
            bundle=scorer.bundle.digest,
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

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @router.get("/readyz", responses={503: ERRORS[503]})
    def readyz() -> dict[str, str]:
        """The model is able: its golden inputs were scored just now and came out as they did at export."""
        try:
            scorer.ready()
        except BundleRefused as error:
            raise Failure(503, str(error)) from None
        return {"status": "ready"}

    return router
