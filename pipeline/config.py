"""Typed, frozen configuration: one model per stage, read from a section of a file in `configs/`."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import InputError

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"


class Config(BaseModel):
    """Base of every configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)


class ConfigError(InputError):
    """A configuration file that cannot be used; the message names file, section and key."""


def load_config(model: type[C], file: str, *section: str, folder: Path = CONFIGS) -> C:
    """The named section of a file in `configs/` as its model. Raises ConfigError."""
    try:
        content = (folder / file).read_bytes()
    except OSError as error:
        where = " › ".join((f"configs/{file}", *section))
        raise ConfigError(f"{where}: {error.strerror}") from None
    return parse_config(model, content, f"configs/{file}", *section)


def parse_config(model: type[C], content: bytes, name: str, *section: str) -> C:
    """The named section of a YAML document as its model; `name` is what messages call it. Raises ConfigError."""
    where = " › ".join((name, *section))
    try:
        values = yaml.safe_load(content)
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # a date or a number that is none
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
    for part in section:
        if not isinstance(values, dict) or part not in values:
            raise ConfigError(f"{where}: no such section")
        values = values[part]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        parts = (where, ".".join(map(str, problem["loc"])), problem["msg"])
        raise ConfigError(": ".join(filter(None, parts))) from None


class ProfileConfig(Config):
    """Which profile the DVC pipeline runs."""

    profile: str


def current_profile() -> str:
    """The profile named in `configs/profile.yaml`."""
    return load_config(ProfileConfig, "profile.yaml").profile
