"""What a running service said of the challenger in its shadow is read, asked for, and refused where it is another's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import LAYOUT, bundle_digest
from pipeline.differences import Shadow, Tally
from pipeline.errors import InputError
from tests.pipeline.test_differences import answer
from training.shadow import KEY_VARIABLE, check_shadow, shadowed


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Champion and challenger, of which only what names them is there."""
    for name in ("champion", "challenger"):
        (tmp_path / name).mkdir()
        (tmp_path / name / LAYOUT.manifest).write_text(name)
    return tmp_path / "champion", tmp_path / "challenger"


def report(folders: tuple[Path, Path], **more: Any) -> Shadow:
    tally = Tally()
    tally.add(answer("a"), answer("a", queue="senior"))
    champion, challenger = map(bundle_digest, folders)
    told: dict[str, Any] = {
        "champion": champion,
        "challenger": challenger,
        "version": "2",
        "since": datetime(2026, 3, 1, tzinfo=UTC),
        "share": 0.2,
        "offered": 1,
        "scored": 1,
        "dropped": 0,
        "failed": 0,
        "refused": None,
        "failure": None,
        "differences": tally.differences(),
    }
    return Shadow(**(told | more))


def saved(tmp_path: Path, told: Shadow) -> str:
    (tmp_path / "shadow.json").write_text(told.model_dump_json(indent=2))
    return str(tmp_path / "shadow.json")


def test_a_saved_report_is_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = shadowed(saved(tmp_path, report(folders)), *folders)
    assert (found.answers, found.moved) == (1, 1.0)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"challenger": "sha256:other"}, "another challenger, sha256:other"),
        ({"champion": "sha256:other"}, "another champion"),
        ({"challenger": None, "refused": "golden input drifted"}, r"of none \(golden input drifted\)"),
        ({"scored": 0}, "has scored no message there yet"),
    ],
)
def test_a_report_of_others_or_of_nothing_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, more: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        shadowed(saved(tmp_path, report(folders, **more)), *folders)


def test_what_only_looks_like_a_report_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "shadow.json").write_text('{"differences": 3}')
    with pytest.raises(InputError, match="is not what GET /v1/shadow says: champion"):
        shadowed(str(tmp_path / "shadow.json"), *folders)


def test_a_file_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(InputError, match="no such file"):
        check_shadow("nowhere.json")
    check_shadow("http://127.0.0.1:1")


class Service(HTTPServer):
    """Says what it is told to, and remembers the key."""

    said: tuple[int, str] = (200, "{}")
    key: str | None = None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Service)
        self.server.key = self.headers["authorization"]
        status, body = self.server.said if self.path == "/v1/shadow" else (404, "{}")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_running_service_is_asked_with_the_key_of_the_environment(
    folders: tuple[Path, Path], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.said = (200, report(folders).model_dump_json())
    monkeypatch.setenv(KEY_VARIABLE, "simmer_x")
    assert shadowed(f"http://127.0.0.1:{service.server_port}/", *folders).answers == 1
    assert service.key == "Bearer simmer_x"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((404, json.dumps({"error": {"message": "no model is in the shadow"}})), "no model is in the shadow"),
        ((502, "<html>"), "answers with status 502"),
        ((200, "<html>"), "is not what GET /v1/shadow says"),
    ],
)
def test_a_service_that_says_something_else_is_told_of(
    folders: tuple[Path, Path], service: Service, said: tuple[int, str], why: str
) -> None:
    service.said = said
    with pytest.raises(InputError, match=why):
        shadowed(f"http://127.0.0.1:{service.server_port}", *folders)


def test_a_service_that_is_not_there_is_told_of(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="does not answer"):
        shadowed("http://127.0.0.1:9", *folders)
