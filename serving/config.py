"""How the scorer is served: `configs/serve.yaml`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from pipeline.config import Config, load_config
from serving.batcher import BatcherConfig
from serving.drift.config import DriftConfig
from serving.events.config import EventsConfig
from serving.operation.health import HealthConfig
from serving.operation.models import ReloadConfig
from serving.operation.registry import Source, source_of
from serving.operation.server import ServerConfig
from serving.operation.shadow import ShadowConfig
from serving.operation.tracing import TracingConfig
from serving.review.config import ReviewConfig
from serving.security.limits import ConcurrencyConfig, DeadlineConfig, HeaderConfig
from serving.security.rates import RateConfig
from serving.security.verifier import VerifierConfig


class StoreConfig(Config):
    """Where conversations are kept, and for how long."""

    url: str
    keep_days: float | None = Field(gt=0, description="after the last change; null keeps them")


class LimitsConfig(Config):
    """What one caller may ask of the service."""

    max_body_bytes: int = Field(gt=0)
    max_conversations: int = Field(gt=0, description="in one request")
    max_depth: int = Field(gt=0, description="of nested JSON")
    rate: RateConfig = Field(description="requests of one key, or of one address where keys are off")
    headers: HeaderConfig = HeaderConfig()
    body: DeadlineConfig = DeadlineConfig()
    concurrency: ConcurrencyConfig


class ServeConfig(Config):
    """Which model, where to listen, where to keep, and every bound."""

    model: str = Field(description="folder of a bundle, or models:/NAME@ALIAS")
    registry: str | None = Field(description="of models:/NAME@ALIAS; null takes MLFLOW_TRACKING_URI")
    host: str
    port: int = Field(ge=0, le=65535)
    policy_every_s: float = Field(gt=0, description="how often configs/routing.yaml is looked at")
    store: StoreConfig
    limits: LimitsConfig
    batcher: BatcherConfig = BatcherConfig()
    events: EventsConfig = EventsConfig()
    keys: VerifierConfig = VerifierConfig()
    reload: ReloadConfig = ReloadConfig()
    health: HealthConfig = HealthConfig()
    server: ServerConfig = ServerConfig()
    tracing: TracingConfig = TracingConfig()
    review: ReviewConfig = ReviewConfig()
    drift: DriftConfig = DriftConfig()
    shadow: ShadowConfig | None = Field(default=None, description="a challenger beside the model that serves")


def source_in(config: ServeConfig) -> Source:
    """Where the configuration says the bundle is. Raises InputError."""
    return _source(config.model, config)


def shadow_in(config: ServeConfig) -> Source | None:
    """Where the challenger's bundle is; None where no model is in the shadow. Raises InputError."""
    return _source(config.shadow.model, config) if config.shadow else None


def _source(model: str, config: ServeConfig) -> Source:
    return source_of(model, config.registry or os.environ.get("MLFLOW_TRACKING_URI"))


def served_bundle(config: ServeConfig) -> Path:
    """The folder of the bundle that the configuration names. Raises InputError, SourceUnavailable."""
    return source_in(config).find().path


def load_serve_config() -> ServeConfig:
    """The configuration in `serve.yaml`. Raises ConfigError."""
    return load_config(ServeConfig, "serve.yaml")
