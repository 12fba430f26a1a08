"""The whole service: what it keeps over a restart, follows while it runs, and says where it cannot start."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.bundle import BundleRefused, write_manifest
from pipeline.config import CONFIGS, ConfigError
from pipeline.errors import InputError
from serving import service as module
from serving.config import ServeConfig
from serving.operation.models import ReloadConfig
from serving.operation.registry import SourceUnavailable
from serving.policy import PolicyMismatch
from serving.service import open_service
from serving.store.faults import StoreRefused, StoreUnavailable
from tests.serving.conftest import Served, serving

SOON = 0.05  # seconds between two looks
PATIENCE = 20.0


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def say(served: Served, name: str, text: str, identifier: str = "m1") -> Any:
    return served.client.post(f"/v1/conversations/{name}/messages", json={"id": identifier, "text": text})


def test_what_was_acknowledged_is_there_after_a_restart(config: ServeConfig) -> None:
    with serving(config) as served:
        first = say(served, "c1", "I am furious")
        before = served.client.get("/v1/conversations/c1").json()
    with serving(config) as served:
        assert served.client.get("/v1/conversations/c1").json() == before
        again = say(served, "c1", "I am furious")
        assert (again.status_code, again.json()) == (200, first.json())
        assert [one["id"] for one in served.client.get("/v1/queue").json()["items"]] == ["c1"]


def test_another_policy_is_taken_up_and_a_broken_one_is_not(
    config: ServeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copytree(CONFIGS, tmp_path / "configs")) / "routing.yaml"
    monkeypatch.setattr(module, "CONFIGS", file.parent)
    with serving(config.model_copy(update={"policy_every_s": SOON})) as served:
        say(served, "c1", "my lawyer will call")
        first = served.client.get("/v1/policy").json()
        policy = yaml.safe_load(file.read_text(encoding="utf-8"))
        policy["queues"] = [{**queue, "reasons": []} for queue in policy["queues"]]
        file.write_text(yaml.safe_dump(policy, sort_keys=False), encoding="utf-8")
        until(lambda: served.client.get("/v1/policy").json()["digest"] != first["digest"])
        until(lambda: shown(served, "c1")["queue"] != "senior")
        second = served.client.get("/v1/policy").json()
        file.write_text("queues: nonsense\n", encoding="utf-8")
        until(lambda: served.client.get("/v1/policy").json()["refused"] is not None)
        assert served.client.get("/v1/policy").json()["digest"] == second["digest"]
        assert say(served, "c2", "my lawyer will call").status_code == 201
        assert served.client.get("/readyz").status_code == 200


def shown(served: Served, name: str) -> Any:
    return served.client.get(f"/v1/conversations/{name}").json()["conversation"]["priority"]


def test_another_model_is_taken_up_and_old_answers_keep_theirs(config: ServeConfig, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(config.model, tmp_path / "model"))
    followed = config.model_copy(update={"model": str(folder), "reload": ReloadConfig(every_s=SOON, retire_s=1)})
    with serving(followed) as served:
        first = say(served, "c1", "I am furious").json()
        card = folder / "bundle.json"
        card.write_text(card.read_text(encoding="utf-8").replace('"toy"', '"other"'), encoding="utf-8")
        write_manifest(folder)
        until(lambda: served.client.get("/v1/model").json()["bundle"] != first["model"]["bundle"])
        second = say(served, "c1", "my lawyer", "m2").json()
        assert second["model"] != first["model"]
        assert say(served, "c1", "I am furious").json() == first
        (folder / "model.int8.bin").write_bytes(b"spoilt")
        until(lambda: served.client.get("/readyz").json()["model"]["refused"] is not None)
        assert say(served, "c1", "urgent", "m3").json()["model"] == second["model"]


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"model": "no/such/bundle"}, (BundleRefused, SourceUnavailable), "no/such/bundle"),
        ({"model": "models:/simmer@champion", "registry": "sqlite:///no/such.db"}, SourceUnavailable, "registry"),
        ({"store": {"url": "mysql://a/b", "keep_days": None}}, StoreRefused, "mysql"),
        ({"store": {"url": "nonsense", "keep_days": None}}, StoreRefused, "not a database URL"),
        ({"store": {"url": "sqlite:////proc/simmer.db", "keep_days": None}}, (StoreRefused, StoreUnavailable), "proc"),
        ({"store": {"url": "postgresql://x@127.0.0.1:9/y", "keep_days": None}}, StoreUnavailable, "127.0.0.1"),
    ],
)
def test_what_stands_in_the_way_is_said_in_one_line(
    config: ServeConfig, changes: dict[str, Any], error: type[Exception], named: str
) -> None:
    asked = ServeConfig.model_validate({**config.model_dump(), **changes})
    with pytest.raises(error) as stopped:
        open_service(asked)
    assert named in str(stopped.value)
    assert len(str(stopped.value).splitlines()) == 1
    assert isinstance(stopped.value, InputError | ConfigError | BundleRefused | SourceUnavailable | StoreUnavailable)


def streams() -> int:
    return sum(thread.name == "simmer-stream" for thread in threading.enumerate())


def test_a_bundle_that_the_policy_does_not_fit_leaves_no_stream(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PolicyMismatch("the model has no head frustration")

    before = streams()
    monkeypatch.setattr(module, "Policy", refused)
    with pytest.raises(PolicyMismatch):
        open_service(config)
    assert streams() == before
