"""Reading from the store without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from serving.store.database import Database
from serving.store.faults import StoreUnavailable, reason

T = TypeVar("T")


class Reader:
    """A few threads with connections of their own."""

    def __init__(self, database: Database, threads: int = 4) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="store-reader")

    async def run(self, query: Callable[[Connection], T]) -> T:
        """The query's result. Raises StoreUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._database.reading.begin() as connection:
                return query(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(reason(error)) from None
