"""Where the bundle that should serve lies: a folder, or what an alias of MLflow's registry points at.

    models/current              a folder; another bundle may be put in its place
    models:/simmer@champion     an alias in the registry that MLFLOW_TRACKING_URI names: sqlite, postgresql or http(s)

MLflow itself is not imported: its database is read with one query, its server with two requests. The artifacts must lie
in folders that this machine can read. Nothing is ever written.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import httpx
import yaml
from pydantic import BaseModel, ValidationError
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from pipeline.bundle import LAYOUT
from pipeline.errors import InputError

ALIAS = re.compile(r"models:/(?P<name>[^/@:]+)@(?P<alias>[\w-]+)")
ARTIFACT = (
    "bundle"  # what training/register.py calls the bundle among a model's artifacts, and its digest among the tags
)
_TIMEOUT = 5  # seconds for a registry to answer
_QUERY = text(
    "SELECT v.version, COALESCE(v.storage_location, v.source), t.value FROM registered_model_aliases a "
    "JOIN model_versions v ON v.name = a.name AND v.version = a.version "
    "LEFT JOIN model_version_tags t ON t.name = v.name AND t.version = v.version AND t.key = :tag "
    "WHERE a.name = :name AND a.alias = :alias"
)


class SourceUnavailable(RuntimeError):
    """It cannot be said now which bundle should serve; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """A bundle that should serve. `key` changes whenever it may be another one.

    `version` and `digest` are what the registry says; None where there is no registry.
    """

    path: Path
    key: str
    version: str | None = None
    digest: str | None = None


class Source(Protocol):
    """Says which bundle should serve."""

    def find(self) -> Candidate:
        """The bundle that should serve now. May block. Raises SourceUnavailable."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A folder: whatever bundle lies there."""

    path: Path

    def find(self) -> Candidate:
        """The folder. Its key covers the manifest, the registration, and size and time of every file of the bundle."""
        path = self.path.resolve()  # a link that is swapped meanwhile would mix two bundles
        try:
            known = hashlib.sha256((path / LAYOUT.manifest).read_bytes())
            registration = path / LAYOUT.registration
            known.update(registration.read_bytes() if registration.exists() else b"")
            for name in LAYOUT.hashed:
                found = (path / name).stat()
                known.update(f" {found.st_ino} {found.st_size} {found.st_mtime_ns}".encode())
        except OSError as error:
            raise SourceUnavailable(f"{error.filename}: {error.strerror}") from None
        return Candidate(path, known.hexdigest())


@dataclass(frozen=True)
class DatabaseSource:
    """An alias in MLflow's database."""

    name: str
    alias: str
    url: URL

    def find(self) -> Candidate:
        """The version that the alias points at."""
        engine = create_engine(self.url, poolclass=NullPool, **self._options())
        values = {"name": self.name, "alias": self.alias, "tag": ARTIFACT}
        try:
            with engine.connect() as connection:
                rows = connection.execute(_QUERY, values).all()
        except (SQLAlchemyError, sqlite3.Error) as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
            raise SourceUnavailable(f"the registry cannot be read: {reason}") from None
        if len(rows) != 1:
            found = "is in several workspaces" if rows else "does not exist"
            raise SourceUnavailable(f"models:/{self.name}@{self.alias} {found}")
        version, location, digest = rows[0]
        return _candidate(str(version), str(location), digest)

    def _options(self) -> dict[str, Any]:
        if self.url.get_backend_name() == "sqlite":
            file = f"{Path(self.url.database or '').absolute().as_uri()}?mode=ro"
            return {"creator": lambda: sqlite3.connect(file, uri=True, timeout=_TIMEOUT)}
        limits = f"-c default_transaction_read_only=on -c statement_timeout={1000 * _TIMEOUT}"
        return {"connect_args": {"connect_timeout": _TIMEOUT, "options": limits}}


class _Tag(BaseModel):
    key: str
    value: str


class _Version(BaseModel):
    version: str
    tags: list[_Tag] = []


class _Alias(BaseModel):
    model_version: _Version


class _Where(BaseModel):
    artifact_uri: str


B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class ServerSource:
    """An alias on an MLflow server, asked with MLflow's variables for a token, or for a user's name and password."""

    name: str
    alias: str
    address: str

    def find(self) -> Candidate:
        """The version that the alias points at."""
        try:
            with httpx.Client(timeout=_TIMEOUT, **_credentials()) as client:
                alias = self._ask(client, _Alias, "registered-models/alias", name=self.name, alias=self.alias)
                found = alias.model_version
                where = self._ask(
                    client, _Where, "model-versions/get-download-uri", name=self.name, version=found.version
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceUnavailable(f"the registry does not answer: {error or type(error).__name__}") from None
        digest = next((tag.value for tag in found.tags if tag.key == ARTIFACT), None)
        return _candidate(found.version, where.artifact_uri, digest)

    def _ask(self, client: httpx.Client, shape: type[B], what: str, **query: str) -> B:
        response = client.get(f"{self.address.rstrip('/')}/api/2.0/mlflow/{what}", params=query)
        if response.status_code in (400, 404):
            raise SourceUnavailable(f"models:/{self.name}@{self.alias} does not exist")
        if not response.is_success:
            raise SourceUnavailable(f"the registry answers with status {response.status_code}")
        try:
            return shape.model_validate_json(response.content)
        except ValidationError:
            raise SourceUnavailable("the registry's answer is not one of MLflow's") from None


def source_of(model: str, registry: str | None) -> Source:
    """Where `--model` says the bundle is. Raises InputError for what is neither a folder's path nor an alias."""
    if not model.startswith("models:"):
        return FolderSource(Path(model))
    found = ALIAS.fullmatch(model)
    if found is None:
        raise InputError(f"{model}: write models:/NAME@ALIAS, or a folder")
    if not registry:
        raise InputError(f"{model}: say where the registry is, MLFLOW_TRACKING_URI=sqlite:///mlflow.db for example")
    if registry.startswith(("http://", "https://")):
        return ServerSource(found["name"], found["alias"], registry)
    try:
        url = make_url(registry)
        backend = url.get_backend_name()
    except SQLAlchemyError:
        raise InputError("the registry's URI is neither a database's URL nor http(s)") from None
    if backend not in ("sqlite", "postgresql"):
        raise InputError(f"a registry in {backend} cannot be read; sqlite, postgresql and http(s) can")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return DatabaseSource(found["name"], found["alias"], url)


def _candidate(version: str, location: str, digest: str | None) -> Candidate:
    return Candidate(_bundle_in(_folder(location)), f"{version} {location} {digest}", version, digest)


def _folder(location: str) -> Path:
    parts = urlsplit(location)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise SourceUnavailable(f"the bundle lies at {parts.scheme}:, not in a folder of this machine")
    return Path(unquote(parts.path))


def _bundle_in(model: Path) -> Path:
    """The bundle among the artifacts of a logged model: its MLmodel file says where."""
    try:
        described = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
        path = model / str(described["flavors"]["python_function"]["artifacts"][ARTIFACT]["path"])
    except OSError as error:
        raise SourceUnavailable(f"{error.filename}: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise SourceUnavailable(f"{model}/MLmodel does not say where the bundle lies") from None
    if not path.resolve().is_relative_to(model.resolve()):
        raise SourceUnavailable(f"{model}/MLmodel points outside its folder")
    return path


def _credentials() -> dict[str, Any]:
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if token:
        return {"headers": {"authorization": f"Bearer {token}"}}
    return {"auth": (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))} if user else {}
