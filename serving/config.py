"""How the scorer is served: `configs/serve.yaml`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipeline.config import Config, load_config


class ServeConfig(Config):
    """Which bundle, where to listen, and what a request may hold."""

    model: Path
    host: str
    port: int = Field(ge=0, le=65535)
    threads: int = Field(ge=1)
    max_body_bytes: int = Field(gt=0)
    max_conversations: int = Field(gt=0)


def load_serve_config() -> ServeConfig:
    """The configuration in `serve.yaml`. Raises ConfigError."""
    return load_config(ServeConfig, "serve.yaml")
