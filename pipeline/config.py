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
    where = f"configs/{file}" + "".join(f" › {name}" for name in section)
    try:
        values = yaml.safe_load((folder / file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
    for name in section:
        if not isinstance(values, dict) or name not in values:
            raise ConfigError(f"{where}: no such section")
        values = values[name]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{where}: {key}: {problem['msg']}") from None


class ProfileConfig(Config):
    """Which profile the DVC pipeline runs."""

    profile: str


def current_profile() -> str:
    """The profile named in `configs/profile.yaml`."""
    return load_config(ProfileConfig, "profile.yaml").profile
