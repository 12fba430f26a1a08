"""How long the review desk's pages take, whole, over a store of many conversations: median and 95th percentile.

    python -m benchmarks.desk_pages [--conversations 100000] [--runs 30] [--store sqlite:///FILE]

Each is asked for over the application that serves it, in this process: session, SQL, and the drawing of the page; the
network and the browser come on top. The store is filled as by `benchmarks.desk`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.routing import Mount

from benchmarks.desk import NOW, filled, timed, unexplained
from pipeline.vocabulary import load_vocabulary
from serving.live.judging import Judge
from serving.policy import load_policy
from serving.review import accounts
from serving.review.accounts import Role
from serving.review.config import ReviewConfig
from serving.review.conversation import Reading
from serving.review.desk import Desk
from serving.review.estimates import Estimates
from serving.review.labelling import Labelling
from serving.review.listing import Listing
from serving.review.pages import desk_pages
from serving.review.sessions import Sessions
from serving.review.trends import Trends
from serving.review.verdicts import Verdicts
from serving.store.database import Database
from serving.store.reader import Reader
from serving.store.writer import Writer

PASSWORD = "as long as a password is"
PAGES = {
    "list: hottest first": "conversations",
    "list: to review": "conversations?review=open",
    "list: one queue and channel": "conversations?queue=senior&channel=email",
    "list: disputed": "conversations?of=any&review=disputed",
    "list: drawn": "conversations?of=sampled&review=open",
    "list: a word that is there": "conversations?text=refund",
    "list: a word that is not": "conversations?text=xylophone",
    "conversation": "conversations/c20",
    "team": "team",
    "quality": "quality",
}


def open_pages(database: Database, reader: Reader, writer: Writer) -> Starlette:
    """The desk over a store, with nothing that explains."""
    vocabulary, config = load_vocabulary(), ReviewConfig()
    labelling = Labelling(Judge(load_policy(vocabulary), vocabulary))
    with database.writing.begin() as connection:
        if accounts.find(connection, "bench") is None:
            accounts.create(connection, "bench", "", Role.LEAD, accounts.hashed(PASSWORD), NOW, "benchmark")
    desk = Desk(
        config=config,
        secure=False,
        labelling=lambda: labelling,
        sessions=Sessions(reader, writer, config.sign_in, lambda: NOW),
        listing=Listing(reader, writer, lambda: labelling.judge),
        reading=Reading(reader, lambda: labelling, unexplained, lambda: NOW),
        verdicts=Verdicts(writer, lambda: labelling, config, lambda: NOW),
        estimates=Estimates(reader, lambda: labelling, lambda: NOW),
        trends=Trends(reader, lambda: NOW),
    )
    return Starlette(routes=[Mount("/review", desk_pages(desk))])


async def measure(app: Starlette, runs: int) -> Table:
    """Every page."""
    table = Table("page", "median, ms", "95 %, ms")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/review/", timeout=60) as client:
        await client.post("sign-in", data={"id": "bench", "password": PASSWORD})
        for name, path in PAGES.items():
            median, late = await timed(_asking(client, path), runs)
            table.add_row(name, f"{median:.1f}", f"{late:.1f}")
    return table


def _asking(client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[Any]]:
    async def ask() -> None:
        (await client.get(path)).raise_for_status()

    return ask


def main() -> None:
    """Fill, measure, print."""
    with filled(__doc__) as (database, runs):
        reader, writer = Reader(database), Writer(database)
        writer.start()
        Console().print(asyncio.run(measure(open_pages(database, reader, writer), runs)))
        writer.close()
        reader.close()


if __name__ == "__main__":
    main()
