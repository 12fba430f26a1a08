"""GET /v1/shadow and /v1/drift: there when configured and measured, beside answers that stay the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from pipeline.differences import Shadow as Report
from serving.config import ServeConfig, load_serve_config
from serving.drift.config import DriftConfig
from serving.drift.shapes import Drift
from serving.operation.shadow import ShadowConfig
from tests.serving.api.asking import assert_failure
from tests.serving.conftest import Served, serving
from tests.serving.operation.test_shadow import variant


def test_without_a_shadow_there_is_none(served: Served) -> None:
    assert_failure(served.client.get("/v1/shadow"), 404, "not_found", message="serve.yaml names none")


def test_before_drift_was_measured_there_is_none(served: Served) -> None:
    assert_failure(served.client.get("/v1/drift"), 404, "not_found", message="not measured yet")


def test_a_challenger_in_the_shadow(config: ServeConfig, toy: Path, tmp_path: Path) -> None:
    folder = variant(toy, tmp_path / "challenger")
    shadow = ShadowConfig(model=str(folder), share=1.0)
    with serving(config.model_copy(update={"shadow": shadow})) as served:
        client = served.client

        def report() -> Report:
            return Report.model_validate(client.get("/v1/shadow").json())

        until = time.monotonic() + 20
        while report().refused and time.monotonic() < until:
            time.sleep(0.02)
        body = {"id": "m1", "role": "customer", "text": "this is urgent"}
        answer = client.post("/v1/conversations/c1/messages", json=body).json()
        assert answer["urgency"]["level"] == 3
        while report().scored < 1 and time.monotonic() < until:
            time.sleep(0.02)
        found = report()
        assert found.differences.examples[0].id == "c1"
        assert found.differences.examples[0].changed["urgency"][0] == "3"
        assert 'simmer_shadow_messages{outcome="scored"} 1.0' in client.get("/metrics").text


def test_drift_once_it_is_measured(config: ServeConfig, referenced: Path) -> None:
    with serving(config.model_copy(update={"model": str(referenced)})) as served:
        served.client.post("/v1/conversations/c1/messages", json={"id": "m1", "role": "customer", "text": "late"})
        asyncio.run(served.service.drift.check())
        found = Drift.model_validate(served.client.get("/v1/drift").json())
        assert found.window.messages == 1
        assert found.verdict.says == "too_few"
        assert "simmer_drift_checked_at" in served.client.get("/metrics").text


def test_the_projects_configuration_has_no_shadow_and_the_defaults_of_drift() -> None:
    config = load_serve_config()
    assert config.shadow is None
    assert config.drift == DriftConfig()
