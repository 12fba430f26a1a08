"""MLflow's registry: which version an alias names, the bundle of a version, and every move of an alias.

`@champion` is what serves and `models/current` is its bundle; `@challenger` waits; `@previous` is what
`simmer rollback` goes back to. Whoever moves `@champion` leaves a line in `promotions.jsonl` beside the registry's
file, and a tag on the version. Knows nothing of what a bundle must be good at: see
`training.behaviour` and `training.gate`.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from pipeline.bundle import LAYOUT, BundleRefused, check_manifest, load_bundle
from pipeline.config import ROOT
from pipeline.errors import InputError
from pipeline.stage import BUNDLE, CURRENT, write_json
from training.tracking import connect

NAME = "simmer"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST_TAG = "bundle"
PREVIOUS_TAG = "previous"  # on a version: which one it took the place of
LOG = "promotions.jsonl"
_MISSING = {ErrorCode.Name(code) for code in (INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST)}


class RegistryError(InputError):
    """The registry, or what it holds, is not as it must be; the message says what to do."""


@dataclass(frozen=True)
class Version:
    """A registered bundle: the version's number, the bundle's digest, and the version it took the place of."""

    number: str
    digest: str
    previous: str | None

    def __str__(self) -> str:
        return f"models:/{NAME}/{self.number}"


@dataclass(frozen=True)
class Move:
    """Why an alias moves: `promote`, `first`, `rollback` or `register`; by whom, in whose words, judged how."""

    action: str
    by: str
    why: str
    at: datetime
    verdict: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Registry:
    """The registry and the folder that serves: `current` is a link into `bundles` beside it."""

    client: MlflowClient
    log: Path
    current: Path = CURRENT

    @property
    def bundles(self) -> Path:
        """Where bundles lie that served or were compared, each under its digest."""
        return self.current.parent / "bundles"

    def at(self, alias: str) -> Version | None:
        """The version that an alias names; None where it names none."""
        try:
            return _version(self.client.get_model_version_by_alias(NAME, alias))
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            raise

    def numbered(self, number: str) -> Version:
        """The version of a number. Raises RegistryError."""
        try:
            return _version(self.client.get_model_version(NAME, number))
        except MlflowException as error:
            raise RegistryError(f"models:/{NAME}/{number}: {_line(error)}") from None

    def find(self, digest: str) -> Version | None:
        """The version under which this very bundle is registered, if it is."""
        found = self.client.search_model_versions(f"name = '{NAME}' and tags.{DIGEST_TAG} = '{digest}'")
        return _version(found[0]) if found else None

    def point(self, alias: str, version: Version) -> None:
        """Move an alias that nothing serves by."""
        self.client.set_registered_model_alias(NAME, alias, version.number)

    def bundle(self, version: Version) -> Path:
        """The version's bundle in a folder that stays, its hashes checked. Raises RegistryError."""
        home = self.bundles / version.digest.removeprefix("sha256:")[:16]
        if not _holds(home, version.digest):
            near = next((path for path in (BUNDLE, self.current) if _holds(path, version.digest)), None)
            with self._arriving(home) as folder:
                _copy(near, folder) if near else download(version, folder)
                if not _holds(folder, version.digest):
                    raise RegistryError(f"{version}: its files are not those that were registered")
        write_json(home / LAYOUT.registration, _registration(version))
        return home

    @contextmanager
    def _arriving(self, home: Path) -> Iterator[Path]:
        """A folder that takes the place of `home` once it is whole."""
        self.bundles.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.bundles) as made:
            yield Path(made) / "bundle"
            shutil.rmtree(home, ignore_errors=True)
            (Path(made) / "bundle").rename(home)

    def crown(self, version: Version, expected: Version | None, move: Move) -> None:
        """Make a version the champion: one move of the alias, then its bundle becomes `models/current`.

        `expected` is the champion that the version was judged against. The bundle is loaded first; raises BundleRefused
        where it must not serve, RegistryError where another one became champion meanwhile.
        """
        folder = self.bundle(version)
        load_bundle(folder)
        with self._moving() as write:
            champion = self.at(CHAMPION)
            if _number(champion) != _number(expected):
                raise RegistryError(f"@{CHAMPION} moved meanwhile, to {champion}; nothing was done: compare again")
            if _number(champion) != version.number:
                self._remember(version, version.previous if move.action == "rollback" else _number(champion))
                self.client.set_model_version_tag(NAME, version.number, move.action, _told(move))
                self.client.set_registered_model_alias(NAME, CHAMPION, version.number)
                write(_entry(version, champion, move))
            self._install(folder)

    def install(self, version: Version) -> None:
        """Make `models/current` the version's bundle, for a reader in one step; no alias moves."""
        self._install(self.bundle(version))

    def _remember(self, version: Version, before: str | None) -> None:
        """Note which version a rollback from this one goes back to."""
        if before is None:
            self.client.delete_registered_model_alias(NAME, PREVIOUS)
        else:
            self.client.set_model_version_tag(NAME, version.number, PREVIOUS_TAG, before)
            self.client.set_registered_model_alias(NAME, PREVIOUS, before)

    def _install(self, folder: Path) -> None:
        link = self.current.with_name(f".{self.current.name}.{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(folder.relative_to(self.current.parent))
        before = self.current.resolve()  # whoever still reads the one that served may finish
        if self.current.is_dir() and not self.current.is_symlink():  # put there by hand
            before = self.bundles / "before"
            shutil.rmtree(before, ignore_errors=True)
            self.current.rename(before)
        link.replace(self.current)
        for other in self.bundles.iterdir():
            if other.name not in (folder.name, before.name) and not other.name.startswith("tmp"):
                shutil.rmtree(other, ignore_errors=True)

    @contextmanager
    def _moving(self) -> Iterator[Any]:
        """One mover at a time; gives what appends an entry to the log, on disk before it returns."""
        with self.log.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

            def write(entry: Mapping[str, Any]) -> None:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield write


@contextmanager
def answering() -> Iterator[None]:
    """A registry that cannot be reached or read is a RegistryError."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        raise RegistryError(f"the registry does not answer: {_line(error)}") from None


def open_registry() -> Registry:
    """The registry that MLflow's settings name, SQLite at the project's root by default."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    connect()
    uri = mlflow.get_registry_uri()
    beside = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else ROOT
    return Registry(MlflowClient(), beside / LOG)


def who() -> str:
    """The name of whoever runs this, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return f"user {os.getuid()}"


def download(version: Version, folder: Path) -> None:
    """Fetch a version's bundle from the registry's artifacts. Raises RegistryError."""
    try:
        with tempfile.TemporaryDirectory() as name:
            about = mlflow.artifacts.download_artifacts(f"{version}/MLmodel", dst_path=name)
            flavours = yaml.safe_load(Path(about).read_text(encoding="utf-8"))["flavors"]
            inside = flavours["python_function"]["artifacts"]["bundle"]["path"]
            found = mlflow.artifacts.download_artifacts(f"{version}/{inside}", dst_path=name)
            _copy(Path(found), folder)
    except (MlflowException, OSError, KeyError) as error:
        raise RegistryError(f"{version}: its bundle is gone from the registry's artifacts: {_line(error)}") from None


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for name in (*LAYOUT.hashed, LAYOUT.manifest):
        shutil.copyfile(source / name, target / name)


def _holds(folder: Path, digest: str) -> bool:
    """Whether a whole bundle of this digest lies there."""
    try:
        return check_manifest(folder) == digest
    except (BundleRefused, OSError):
        return False


def _version(found: ModelVersion) -> Version:
    tags = dict(found.tags)
    if DIGEST_TAG not in tags:
        raise RegistryError(f"models:/{NAME}/{found.version} says not which bundle it is: register the bundle again")
    return Version(str(found.version), tags[DIGEST_TAG], tags.get(PREVIOUS_TAG))


def _number(version: Version | None) -> str | None:
    return version.number if version else None


def _registration(version: Version) -> dict[str, str]:
    return {"name": NAME, "version": version.number, "bundle": version.digest}


def _told(move: Move) -> str:
    return f"{move.at.isoformat(timespec='seconds')} by {move.by}" + (f": {move.why}" if move.why else "")


def _entry(version: Version, before: Version | None, move: Move) -> dict[str, Any]:
    return {
        "at": move.at.isoformat(),
        "action": move.action,
        "from": _number(before),
        "to": version.number,
        "bundle": version.digest,
        "by": move.by,
        "why": move.why,
        "verdict": move.verdict,
    }


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
