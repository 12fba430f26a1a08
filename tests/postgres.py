"""A throw-away PostgreSQL for tests, and a fresh store on either database for each of them.

Where PostgreSQL is not installed its tests are skipped; in continuous integration they fail.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from serving.store.database import open_database

USER = "simmer"
PATIENCE = 60.0  # seconds for a start or a stop on a busy machine
REQUIRED = ("CI", "SIMMER_REQUIRE_POSTGRES")


def programs() -> Path | None:
    """The folder with PostgreSQL's own programs, the newest where there are several."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    installed = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(installed, key=lambda p: int(p.parent.name), default=None)


def unprivileged() -> str | None:
    """PostgreSQL will not run as root: who runs it then; nobody special otherwise."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Postgres:
    """One server on loopback, with `fsync` on, that can be stopped, crashed and started again."""

    bin: Path
    home: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _guard: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home / "log"

    def create(self) -> None:
        """Make the data folder."""
        user = unprivileged()
        if user:
            shutil.chown(self.home, user)
        command = [self.bin / "initdb", "-D", self.home / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        done = subprocess.run([*command, "--locale=C"], user=user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self, **changed: str) -> None:
        """Start the server, with some settings changed, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "16MB",
            "autovacuum": "off",
            **changed,
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.home / "data", *given],
                user=unprivileged(),
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard = self._guarded(self._process.pid)
        self._wait()

    def _guarded(self, server: int) -> subprocess.Popen[bytes]:
        """Whoever ends these tests, the server does not outlive them: its guard reads a pipe that ends with them."""
        script = f"read _; kill -QUIT {server}"
        return subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/")

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self._process is not None
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends connections in order, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside a transaction; its rows."""
        place = {"host": "127.0.0.1", "port": self.port, "user": USER, "dbname": database}
        with psycopg.connect(**place, autocommit=True, connect_timeout=5) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The server, kept for the whole run."""
    bin = programs()
    if bin is None:
        message = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if any(os.environ.get(name) for name in REQUIRED):
            pytest.fail(message)
        pytest.skip(message)
    home = Path(tempfile.mkdtemp(prefix="simmer-pg-", dir="/tmp"))
    server = Postgres(bin, home)
    try:
        server.create()
        server.start()
        server.execute("CREATE DATABASE simmer TEMPLATE template0")
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """The server, running before a test and after it whatever the test did."""
    yield postgres_server
    if postgres_server._process is None:
        postgres_server.start()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A database of the server with nothing in it: emptied, which is quicker than made anew."""
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'simmer'")
    postgres.execute("ALTER DATABASE simmer RESET ALL")
    postgres.execute("DROP SCHEMA public CASCADE", "simmer")
    postgres.execute("CREATE SCHEMA public", "simmer")
    return postgres.url("simmer")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with nothing in it, to be copied: quicker than migrating anew."""
    file = tmp_path_factory.mktemp("template") / "simmer.db"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite store with nothing in it."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'simmer.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store on each database in turn."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url
