"""Saved views: filters of the list that a reviewer gave a name."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from serving.review.accounts import Reviewer
from serving.review.chosen import Chosen, FilterInvalid
from serving.store.reader import Reader
from serving.store.schema import views
from serving.store.writer import Writer

MOST = 50  # of one reviewer
LONGEST_NAME = 60


@dataclass(frozen=True)
class View:
    """A saved filter of one reviewer's."""

    name: str
    query: str


class Views:
    """Keeps them."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader, self._writer = reader, writer

    async def of(self, reviewer: Reviewer) -> list[View]:
        """A reviewer's views, by name."""
        query = select(views.c.name, views.c.query).where(views.c.reviewer == reviewer.id).order_by(views.c.name)
        return await self._reader.run(lambda connection: [View(*row) for row in connection.execute(query)])

    async def save(self, reviewer: Reviewer, name: str, chosen: Chosen) -> None:
        """Save a view, in the place of one of its name. Raises FilterInvalid."""
        name = name.strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise FilterInvalid("name", f"is 1 to {LONGEST_NAME} printable characters")

        def operation(connection: Connection) -> None:
            _remove(connection, reviewer.id, name)
            held = select(func.count()).select_from(views).where(views.c.reviewer == reviewer.id)
            if connection.execute(held).scalar_one() >= MOST:
                raise FilterInvalid("name", f"there are {MOST} views already; remove one first")
            connection.execute(insert(views).values(reviewer=reviewer.id, name=name, query=chosen.query()))

        await self._writer.run(operation, f"view {reviewer.id}")

    async def remove(self, reviewer: Reviewer, name: str) -> None:
        """Remove a view, if there is one of this name."""
        await self._writer.run(lambda connection: _remove(connection, reviewer.id, name.strip()), f"view {reviewer.id}")


def _remove(connection: Connection, reviewer: str, name: str) -> None:
    connection.execute(delete(views).where(views.c.reviewer == reviewer, views.c.name == name))
