"""Marks: how far something has come, so that who starts anew need not begin at the beginning."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from serving.store.schema import marks


def read(connection: Connection, name: str) -> str | None:
    """The mark's value; None where there is none."""
    value: str | None = connection.scalar(select(marks.c.value).where(marks.c.name == name))
    return value


def write(connection: Connection, name: str, value: str) -> None:
    """Set a mark."""
    connection.execute(delete(marks).where(marks.c.name == name))
    connection.execute(insert(marks).values(name=name, value=value))
