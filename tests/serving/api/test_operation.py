"""Alive, ready, which model, which policy: what those who run the scorer are told."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from pipeline.engine import Engine
from serving.config import ServeConfig
from serving.operation.health import HealthConfig
from tests.serving.api.asking import assert_failure
from tests.serving.conftest import Served, serving


class Recorded:
    """An engine that counts what it is given, and may spoil what comes out."""

    def __init__(self, engine: Engine, spoil: float = 0.0) -> None:
        self.engine, self.spoil, self.rows = engine, spoil, 0

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        self.rows += len(ids)
        return self.engine.run(ids, segments) + np.float32(self.spoil)


@pytest.fixture
def watched(config: ServeConfig) -> Iterator[Served]:
    """A service that looks after itself only when it is asked, and then always."""
    health = HealthConfig(every_s=3600, fresh_s=0, answer_s=30, timeout_s=30)
    with serving(config.model_copy(update={"health": health})) as served:
        yield served


def spoil(served: Served, by: float) -> Recorded:
    predictor = served.service.models.current.scorer.bundle.predictor
    predictor.engine = Recorded(predictor.engine, by)
    return predictor.engine


def test_it_is_alive(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}


def test_ready_means_that_golden_inputs_were_scored_and_the_store_written_to(watched: Served) -> None:
    engine = spoil(watched, 0.0)
    watched.client.get("/readyz")
    seen = engine.rows
    found = watched.client.get("/readyz").json()
    assert found["status"] == "ready"
    assert {name: check["ok"] for name, check in found["checks"].items()} == {"model": True, "store": True}
    assert engine.rows - seen == len(watched.service.models.current.scorer.bundle.card.golden) > 0


@pytest.mark.parametrize("by", [3.0, float("nan")])
def test_a_spoilt_engine_is_not_ready(watched: Served, by: float) -> None:
    assert watched.client.get("/readyz").status_code == 200
    spoil(watched, by)
    assert_failure(watched.client.get("/readyz"), 503, "unavailable", message="model: ")
    assert watched.client.get("/healthz").status_code == 200


def test_whoever_is_asked_to_end_is_not_ready(watched: Served) -> None:
    watched.client.portal.call(watched.service.drain.begin)  # type: ignore[union-attr]
    assert_failure(watched.client.get("/readyz"), 503, "unavailable", message="draining")


def test_the_model_introduces_itself(served: Served) -> None:
    bundle = served.service.models.current.scorer.bundle
    found = served.client.get("/v1/model").json()
    assert (found["bundle"], found["version"]) == (bundle.digest, bundle.version)
    assert found["languages"] == list(bundle.card.languages)
    assert found["labels"] == {name: list(head.values) for name, head in bundle.card.labels.heads.items()}
    assert found["metrics"] == bundle.card.metrics["test"]
    assert {"profile", "encoder", "slices", "git_revision", "data_hash", "mlflow_run_id"} <= set(found)


def test_the_policy_in_force_is_told(served: Served) -> None:
    found = served.client.get("/v1/policy").json()
    assert (found["digest"], found["refused"]) == (served.service.judge().policy.digest, None)
