"""A small routing service: tells Simmer what customers write, and gives what boils over to the right agent.

    python examples/routing_service.py CONVERSATIONS.jsonl [--address http://127.0.0.1:8000] [--agents AGENTS.json]

The conversations are told side by side, each message after the one before it. Whatever Simmer flags is assigned to the
agent who fits best; where nobody does it stays in the queue, which is shown at the end. Events are followed from an id
onwards, so a service that remembers the last id it has seen misses nothing while it is down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.conversation import Conversation, read_conversations
from serving.client import AsyncClient
from serving.contract import ApiError, Conflict, Event, Message
from serving.routing.agents import Agent

HOT = ("flagged", "escalated")
TEAM = (
    Agent(id="ann", name="Ann", tier="senior", empathy_trained=True, languages=frozenset({"en"}), cap=4),
    Agent(id="ben", name="Ben", tier="senior", languages=frozenset({"en"}), cap=3),
    Agent(id="cid", name="Cid", languages=frozenset({"en"}), cap=6),
)
AT_ONCE = 8  # conversations told side by side
SHOWN = 5  # of the queue, at the end


@dataclass
class RoutingService:
    """What the service knows while it runs."""

    client: AsyncClient
    console: Console
    after: int = 0  # id of the last event that was dealt with
    counts: Counter[str] = field(default_factory=Counter)
    quiet_since: float = 0.0

    async def run(self, conversations: Sequence[Conversation], team: Sequence[Agent], quiet: float) -> None:
        """Tell everything, route what boils over, and end when nothing has happened for so many seconds."""
        for agent in team:
            await self.client.put_agent(agent)
        following = asyncio.create_task(self.follow())
        await self.tell_all(conversations)
        while not following.done() and asyncio.get_running_loop().time() - self.quiet_since < quiet:
            await asyncio.sleep(quiet / 10)
        if following.done():
            following.result()  # it only ends by an error
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await self.show_queue()

    async def tell_all(self, conversations: Sequence[Conversation]) -> None:
        """Tell the conversations, several at a time."""
        room = asyncio.Semaphore(AT_ONCE)

        async def tell(conversation: Conversation) -> None:
            async with room:
                await self.tell(conversation)

        await asyncio.gather(*map(tell, conversations))

    async def tell(self, conversation: Conversation) -> None:
        """Tell one conversation. Message ids come from where it is kept, so that telling it again changes nothing."""
        about = {"channel": conversation.channel, "language": conversation.language}
        for place, turn in enumerate(conversation.turns):
            message = Message(id=turn.id or f"turn-{place}", role=turn.role, text=turn.text, at=turn.at, **about)
            await self.client.post_message(conversation.id, message)
            self.counts["messages told"] += 1
            self.quiet_since = asyncio.get_running_loop().time()

    async def follow(self) -> None:
        """Deal with events as they come."""
        async for event in self.client.events(after=self.after):
            await self.handle(event)
            self.after = event.id
            self.quiet_since = asyncio.get_running_loop().time()

    async def handle(self, event: Event) -> None:
        """Assign what became hot; tell of the rest."""
        self.counts[event.kind] += 1
        self.say(event)
        if event.kind in HOT:
            try:
                given = await self.client.assign(event.conversation)
                self.console.print(f"  given to [bold]{given.conversation.agent}[/] ({', '.join(given.why)})")
            except Conflict as error:
                self.counts["left in the queue"] += 1
                self.console.print(f"  left where it is: {escape(error.message)}")
            except ApiError as error:  # the next event must still be dealt with
                self.console.print(f"  [red]{escape(str(error))}[/]")

    def say(self, event: Event) -> None:
        """One line for an event."""
        style = "bold red" if event.kind in HOT else "dim"
        self.console.print(f"[{style}]{event.id:>5}  {event.kind:<18} {escape(event.conversation)}[/]", highlight=False)

    async def show_queue(self) -> None:
        """Who waits still, hottest first, and what was done."""
        shown = 0
        async for entry in self.client.queue(page=SHOWN):
            where = f"{entry.priority.score:>3} {entry.priority.queue:<9}"
            self.console.print(f"waits: {where} {escape(entry.id)}  {', '.join(entry.priority.reasons)}")
            shown += 1
            if shown == SHOWN:
                break
        self.console.print(", ".join(f"{count} {what}" for what, count in self.counts.items()))


def team_of(path: Path | None) -> Sequence[Agent]:
    """The agents of a JSON file, or three made-up ones."""
    return TEAM if path is None else [Agent.model_validate(row) for row in json.loads(path.read_text("utf-8"))]


async def main() -> None:
    """Run until everything is told and routed."""
    parser = argparse.ArgumentParser(description="Tell conversations, route what boils over.")
    parser.add_argument("conversations", type=Path)
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--agents", type=Path, help='JSON: [{"id", "languages", "cap", "tier", …}]')
    parser.add_argument("--after", type=int, default=0, help="id of the last event that was dealt with")
    parser.add_argument("--quiet", type=float, default=3.0, help="seconds without news after which it ends")
    given = parser.parse_args()
    conversations = list(read_conversations(given.conversations))
    async with AsyncClient(given.address, os.environ.get("SIMMER_KEY"), deadline=30) as client:
        service = RoutingService(client, Console(), given.after)
        await service.run(conversations, team_of(given.agents), given.quiet)


if __name__ == "__main__":
    asyncio.run(main())
