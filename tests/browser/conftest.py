"""A real desk over a real store, served in a thread, and a browser that looks at it. Models are stood in for by words.

Chromium is Debian's; where there is none these tests are skipped, except in continuous integration, which installs it.
What the pages looked like is left under build/screenshots.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from pipeline.vocabulary import Labels, load_vocabulary
from serving.explain import Explanation, Unit
from serving.live.bodies import NewMessage
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
from serving.scorer import Job
from serving.security.keys import hasher
from serving.store import reviews
from serving.store.database import open_database
from serving.store.reader import Reader
from serving.store.writer import Writer
from tests.conftest import ROOT
from tests.serving.live.conftest import World, build

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
SHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "tests" / "browser" / "vendor" / "axe.min.js"
PASSWORD = "correct horse battery"
PEOPLE = {"rita": Role.REVIEWER, "sam": Role.REVIEWER, "lena": Role.LEAD}


@dataclass
class Served:
    """The desk at work: its address, and the store behind it."""

    url: str
    world: World
    loop: asyncio.AbstractEventLoop
    store: str
    said: dict[str, int] = field(default_factory=dict)

    def say(self, conversation: str, *texts: str, channel: str = "chat") -> None:
        """The customer says something, an agent answers in between."""
        self._await(self._say(conversation, texts, channel))

    def _await(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run in the server's loop: the browser's driver has the one of this thread."""
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _say(self, conversation: str, texts: tuple[str, ...], channel: Any) -> None:
        for text in texts:
            role = "agent" if text.startswith("agent: ") else "customer"
            place = self.said[conversation] = self.said.get(conversation, -1) + 1
            new = NewMessage(id=f"m{place}", role=role, text=text.removeprefix("agent: "), channel=channel)  # type: ignore[arg-type]
            await self.world.live.conversations.post(conversation, new)
            self.world.clock.move(minutes=1)

    def verdicts(self, conversation: str) -> list[reviews.Verdict]:
        """What the store has of a conversation's verdicts, oldest first."""
        with self.world.database.reading.begin() as connection:
            return list(reviews.of(connection, conversation))

    def labels(self, conversation: str, message: str) -> list[Labels]:
        """The labels given to a message, oldest first."""
        return [v.labels for v in self.verdicts(conversation) if v.message == message]

    def erase(self, conversation: str) -> None:
        """The conversation is erased from everywhere."""
        self._await(self.world.live.handling.erase(conversation, "test"))

    def end_sessions(self) -> None:
        """Every session ends, as after a night."""
        self.world.clock.move(hours=13)


async def explain(job: Job) -> Explanation:
    """Every `furious` raises frustration."""
    words = job.conversation.turns[job.turn or 0].text.split()
    units = [Unit(text=word, start=0, end=len(word), turn=None) for word in words]
    deltas = [1.5 if word == "furious" else 0.0 for word in words]
    return Explanation(text=" ".join(words), units=units, heads={"frustration": deltas}, rules=[])


def furnish(world: World, judge: Judge) -> Desk:
    """The desk over a store, its reviewers made."""
    database, clock = world.database, world.clock
    reader, writer = Reader(database, 2), Writer(database)
    writer.start()
    with database.writing.begin() as connection:
        for name, role in PEOPLE.items():
            accounts.create(connection, name, name.capitalize(), role, hasher().hash(PASSWORD), clock(), "test")

    def labelling() -> Labelling:
        return Labelling(judge)

    config = ReviewConfig(second_share=0)
    return Desk(
        config=config,
        secure=False,
        labelling=labelling,
        sessions=Sessions(reader, writer, config.sign_in, clock),
        listing=Listing(reader, writer, lambda: judge),
        reading=Reading(reader, labelling, explain, clock),
        verdicts=Verdicts(writer, labelling, config, clock),
        estimates=Estimates(reader, labelling, clock),
        trends=Trends(reader, clock),
    )


@pytest.fixture(scope="session")
def judge() -> Judge:
    vocabulary = load_vocabulary()
    return Judge(load_policy(vocabulary), vocabulary)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, judge: Judge) -> Iterator[Served]:
    """One server for a file of tests; each test talks of conversations of its own."""
    store = f"sqlite:///{tmp_path_factory.mktemp('desk')}/simmer.db"
    database = open_database(store)
    world = build(database, judge)
    app = Starlette(routes=[Mount("/review", desk_pages(furnish(world, judge)))])
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", log_level="warning", lifespan="off"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served(f"http://127.0.0.1:{port}/review", world, loop, store)
    server.should_exit = True
    thread.join()
    loop.close()
    database.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one file of tests: its driver runs an event loop that others would stumble over."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
