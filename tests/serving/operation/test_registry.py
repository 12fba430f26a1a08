"""Where the bundle lies: folders, an alias in MLflow's database or on its server, and every way in which that fails."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.bundle import LAYOUT
from pipeline.errors import InputError
from serving.operation.registry import DatabaseSource, FolderSource, ServerSource, Source, SourceUnavailable, source_of

TABLES = """
CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT);
CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT, storage_location TEXT);
CREATE TABLE model_version_tags (key TEXT, value TEXT, name TEXT, version INTEGER);
"""


def fill(folder: Path, text: str = "one") -> Path:
    """Files with a bundle's names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*LAYOUT.hashed, LAYOUT.manifest):
        (folder / name).write_text(text)
    return folder


def logged(folder: Path) -> Path:
    """A logged model as MLflow lays it out, a bundle among its artifacts."""
    fill(folder / "artifacts" / "current")
    described = {"flavors": {"python_function": {"artifacts": {"bundle": {"path": "artifacts/current"}}}}}
    (folder / "MLmodel").write_text(json.dumps(described))
    return folder


@dataclass
class Registry:
    """An MLflow database with versions of one model."""

    file: Path
    versions: dict[int, Path] = field(default_factory=dict)

    def run(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self.file) as connection:
            connection.execute(statement, values)
        connection.close()

    def add(self, version: int, location: str, digest: str | None = None) -> None:
        self.run("INSERT INTO model_versions VALUES ('simmer', ?, 'models:/m-1', ?)", version, location)
        if digest:
            self.run("INSERT INTO model_version_tags VALUES ('bundle', ?, 'simmer', ?)", digest, version)
        self.run("INSERT INTO model_version_tags VALUES ('other', 'x', 'simmer', ?)", version)

    def point(self, alias: str, version: int) -> None:
        self.run("DELETE FROM registered_model_aliases WHERE alias = ?", alias)
        self.run("INSERT INTO registered_model_aliases VALUES (?, ?, 'simmer')", alias, version)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    file = tmp_path / "ml flow?#%.db"
    connection = sqlite3.connect(file)
    connection.executescript(TABLES)
    connection.close()
    return Registry(file)


def champion(registry: Registry) -> DatabaseSource:
    source = source_of("models:/simmer@champion", "sqlite:///mlflow.db")
    assert isinstance(source, DatabaseSource)
    return DatabaseSource(source.name, source.alias, source.url.set(database=str(registry.file)))


@pytest.mark.parametrize("change", [LAYOUT.manifest, LAYOUT.engine_weights, LAYOUT.registration])
def test_a_folders_key_tells_when_something_changed(tmp_path: Path, change: str) -> None:
    source = FolderSource(fill(tmp_path / "b"))
    first = source.find()
    assert first == source.find()
    assert (first.path, first.version, first.digest) == (tmp_path / "b", None, None)
    (tmp_path / "b" / change).write_text("another")
    assert source.find().key != first.key


def test_the_same_files_copied_anew_are_looked_at_again(tmp_path: Path) -> None:
    source = FolderSource(fill(tmp_path / "b"))
    first = source.find().key
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "c").rename(tmp_path / "b")
    assert source.find().key != first


@pytest.mark.parametrize("missing", [".", *LAYOUT.hashed, LAYOUT.manifest])
def test_a_folder_that_is_not_whole_is_unavailable(tmp_path: Path, missing: str) -> None:
    folder = fill(tmp_path / "b")
    if missing == ".":
        shutil.rmtree(folder)
    else:
        (folder / missing).unlink()
    with pytest.raises(SourceUnavailable, match="No such file"):
        FolderSource(folder).find()


def test_an_alias_is_followed_there_and_back(registry: Registry, tmp_path: Path) -> None:
    registry.add(1, logged(tmp_path / "one").as_uri(), "sha256:1")
    registry.add(2, str(logged(tmp_path / "with space")), None)
    registry.point("champion", 1)
    source = champion(registry)
    first = source.find()
    assert (first.version, first.digest) == ("1", "sha256:1")
    assert first.path == tmp_path / "one" / "artifacts" / "current"
    registry.point("challenger", 2)
    assert source.find() == first
    registry.point("champion", 2)
    second = source.find()
    assert (second.version, second.digest) == ("2", None)
    assert second.path.parent.parent == tmp_path / "with space"
    registry.point("champion", 1)
    assert source.find() == first


def test_a_database_is_only_read(registry: Registry, tmp_path: Path) -> None:
    registry.add(1, logged(tmp_path / "one").as_uri())
    registry.point("champion", 1)
    registry.file.chmod(0o444)
    before = registry.file.read_bytes()
    champion(registry).find()
    assert registry.file.read_bytes() == before
    missing = Registry(tmp_path / "missing.db")
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        champion(missing).find()
    assert not missing.file.exists()


def test_what_a_database_may_lack(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="does not exist"):
        champion(registry).find()
    registry.file.write_bytes(b"not a database" * 100)
    with pytest.raises(SourceUnavailable, match="not a database"):
        champion(registry).find()


def test_a_database_of_something_else(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(SourceUnavailable, match="no such table"):
        champion(Registry(tmp_path / "other.db")).find()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://bucket/model", "s3:"),
        ("mlflow-artifacts:/0/m", "mlflow-artifacts:"),
        ("file://elsewhere/model", "not in a folder"),
        ("/nowhere/at/all", "No such file"),
    ],
)
def test_artifacts_out_of_reach(registry: Registry, location: str, message: str) -> None:
    registry.add(1, location)
    registry.point("champion", 1)
    with pytest.raises(SourceUnavailable, match=message):
        champion(registry).find()


@pytest.mark.parametrize(
    "described",
    [
        "",
        "[]",
        "{",
        "flavors: {sklearn: {}}",
        "flavors: {python_function: {artifacts: {bundle: {path: ../../etc}}}}",
        "flavors: {python_function: {artifacts: {bundle: {path: /etc}}}}",
        "flavors: {python_function: {artifacts: [1]}}",
        "\xff\xfe",
    ],
)
def test_an_mlmodel_file_that_says_nothing_useful(registry: Registry, tmp_path: Path, described: str) -> None:
    (logged(tmp_path / "one") / "MLmodel").write_bytes(described.encode("latin-1"))
    registry.add(1, (tmp_path / "one").as_uri())
    registry.point("champion", 1)
    with pytest.raises(SourceUnavailable, match="MLmodel"):
        champion(registry).find()


class Answers(BaseHTTPRequestHandler):
    """An MLflow server with one alias."""

    answers: dict[str, tuple[int, Any]]
    asked: list[tuple[str, dict[str, list[str]], str | None]]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.asked.append((parts.path, parse_qs(parts.query), self.headers["authorization"]))
        status, answer = self.answers.get(parts.path.removeprefix("/api/2.0/mlflow/"), (404, {}))
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Mlflow:
    answers: dict[str, tuple[int, Any]]
    asked: list[tuple[str, dict[str, list[str]], str | None]]
    source: Source


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[Mlflow]:
    version = {"name": "simmer", "version": "7", "tags": [{"key": "bundle", "value": "sha256:7"}]}
    answers: dict[str, tuple[int, Any]] = {
        "registered-models/alias": (200, {"model_version": version}),
        "model-versions/get-download-uri": (200, {"artifact_uri": logged(tmp_path / "seven").as_uri()}),
    }
    handler = type("Handler", (Answers,), {"answers": answers, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        source = source_of("models:/simmer@champion", f"http://127.0.0.1:{server.server_port}/")
        yield Mlflow(answers, handler.asked, source)  # type: ignore[attr-defined]
        server.shutdown()


def test_an_alias_on_a_server(mlflow: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    found = mlflow.source.find()
    assert (found.version, found.digest) == ("7", "sha256:7")
    assert found.path == tmp_path / "seven" / "artifacts" / "current"
    assert [query for _, query, _ in mlflow.asked] == [
        {"name": ["simmer"], "alias": ["champion"]},
        {"name": ["simmer"], "version": ["7"]},
    ]
    assert {authorization for *_, authorization in mlflow.asked} == {"Bearer t0ken"}


@pytest.mark.parametrize(
    "answer", [(400, {}), (404, {}), (401, {}), (500, {}), (302, {}), (200, b"<html>"), (200, []), (200, {"a": 1})]
)
@pytest.mark.parametrize("what", ["registered-models/alias", "model-versions/get-download-uri"])
def test_a_server_that_answers_oddly(mlflow: Mlflow, what: str, answer: tuple[int, Any]) -> None:
    mlflow.answers[what] = answer
    with pytest.raises(SourceUnavailable):
        mlflow.source.find()


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(SourceUnavailable, match="does not answer"):
        ServerSource("simmer", "champion", "http://127.0.0.1:9").find()


@pytest.mark.parametrize(
    ("model", "registry"),
    [
        ("models:/simmer", "sqlite:///mlflow.db"),
        ("models:/simmer/3", "sqlite:///mlflow.db"),
        ("models:simmer@champion", "sqlite:///mlflow.db"),
        ("models:/simmer@champion", None),
        ("models:/simmer@champion", ""),
        ("models:/simmer@champion", "no url"),
        ("models:/simmer@champion", "nonsense://x"),
        ("models:/simmer@champion", "mysql://u:secret@host/db"),
    ],
)
def test_what_is_neither_folder_nor_alias_is_an_error(model: str, registry: str | None) -> None:
    with pytest.raises(InputError) as caught:
        source_of(model, registry)
    assert "secret" not in str(caught.value)


def test_anything_else_is_a_folder() -> None:
    assert source_of("models/current", None) == FolderSource(Path("models/current"))
