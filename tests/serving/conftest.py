"""A whole service for tests: over a bundle made in a moment, or over the trained one where the model matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.api import create_app
from serving.config import ServeConfig, load_serve_config
from serving.service import Service, open_service
from tests.serving.drift.referenced import with_reference
from tests.serving.toy import make_bundle, toy_config

HERE = "http://127.0.0.1"  # where keys are off, only what is addressed to this machine is let in


@dataclass(frozen=True)
class Served:
    """A running service and a client of it."""

    service: Service
    client: TestClient


@contextmanager
def serving(config: ServeConfig, **options: Any) -> Iterator[Served]:
    """A service that runs while the block does."""
    service = open_service(config)
    with TestClient(create_app(service), base_url=HERE, **options) as client:
        yield Served(service, client)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle that hears certain words."""
    return make_bundle(tmp_path_factory.mktemp("toy") / "bundle")


@pytest.fixture(scope="session")
def referenced(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, with what it was made for in its card."""
    return with_reference(toy, tmp_path_factory.mktemp("referenced") / "bundle")


@pytest.fixture
def config(toy: Path, tmp_path: Path) -> ServeConfig:
    """A configuration of the toy over a store of its own."""
    return toy_config(toy, tmp_path)


@pytest.fixture(scope="module")
def served(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The toy served; tests of a file share it and keep to conversations of their own."""
    with serving(toy_config(toy, tmp_path_factory.mktemp("store"))) as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Served) -> TestClient:
    return served.client


@pytest.fixture(scope="module")
def service(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The trained bundle over a store of its own, not started yet: a TestClient of its app starts and stops it."""
    config = load_serve_config()
    store = config.store.model_copy(update={"url": f"sqlite:///{tmp_path_factory.mktemp('store') / 'simmer.db'}"})
    return open_service(config.model_copy(update={"model": str(bundle_path), "store": store}))
