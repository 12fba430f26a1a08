"""Store URLs: `sqlite:///simmer.db` or `postgresql://user@host/name`. Never repeats a password."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from serving.store.faults import StoreRefused

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_EXAMPLES = "try sqlite:///simmer.db or postgresql://user@host/name"


def parse(text: str) -> URL:
    """The URL of a store, with the driver that is used for it. Raises StoreRefused."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreRefused(f"store: not a database URL; {_EXAMPLES}") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise StoreRefused(f"store: {url.drivername} is not supported; {_EXAMPLES}")
    url = url.set(drivername=driver)
    return _file(url) if is_sqlite(url) else _server(url)


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def shown(url: URL) -> str:
    """The URL without its password and its options, to be printed."""
    return url.set(query={}).render_as_string(hide_password=True)


def _file(url: URL) -> URL:
    if url.host:
        raise StoreRefused(f"store: sqlite:// takes no host; write sqlite:///{url.host} for a file of this folder")
    if url.query:
        raise StoreRefused("store: a sqlite URL takes no options")
    if url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
        raise StoreRefused("store: a database in memory would lose what was acknowledged; name a file")
    return url.set(database=str(Path(str(url.database)).expanduser()))


def _server(url: URL) -> URL:
    if "@" in f"{url.host}{url.database}":
        raise StoreRefused("store: write @ as %40 in a user name or password")
    if not url.database:
        raise StoreRefused("store: the URL names no database; write postgresql://user@host/name")
    return url
