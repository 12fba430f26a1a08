"""Who takes a conversation: agents, what they carry, and the match. Pure; the store and the clock are others' business.

An agent must be online, work the channel, speak the language and have room: never otherwise. The queue's qualification,
the skills wanted and the cool-down are demanded too, and dropped step by step, as the policy's `relax` says, only where
nobody fits without. Among those who fit at the earliest step: whom the customer knows, then who carries the least of
what they can, then who was given something longest ago, then by id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field, field_serializer, field_validator

from pipeline.config import Config
from pipeline.conversation import MAX_ID, Channel
from pipeline.language import primary
from serving.routing.rules import Assignment, Demand, Qualification

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Agent(Config):
    """A person who answers customers. `channels` of None means every channel; `cap` is how many at once, at most."""

    id: str = Field(min_length=1, max_length=MAX_ID)
    name: str = Field(default="", max_length=MAX_ID)
    tier: Literal["standard", "senior"] = "standard"
    empathy_trained: bool = False
    skills: frozenset[str] = frozenset()
    languages: frozenset[str] = Field(min_length=1)
    channels: frozenset[Channel] | None = None
    cap: int = Field(ge=0, le=1_000)
    online: bool = True

    @field_validator("skills")
    @classmethod
    def _skills(cls, value: frozenset[str]) -> frozenset[str]:
        return frozenset(map(_skill, value))

    @field_validator("languages")
    @classmethod
    def _languages(cls, value: frozenset[str]) -> frozenset[str]:
        return frozenset(map(primary, value))

    @field_serializer("skills", "languages", "channels")
    def _in_order(self, value: frozenset[str] | None) -> list[str] | None:
        return None if value is None else sorted(value)

    @property
    def qualifications(self) -> set[Qualification]:
        """What makes the agent fit for queues that demand it."""
        held: dict[Qualification, bool] = {"senior": self.tier == "senior", "empathy_trained": self.empathy_trained}
        return {name for name, has in held.items() if has}


@dataclass(frozen=True)
class Load:
    """What an agent carries: open conversations, and when the last hard one and the last of all came or ended."""

    open: int = 0
    last_hard_at: datetime | None = None
    last_assigned_at: datetime | None = None


@dataclass(frozen=True)
class Need:
    """What a conversation asks for: its place, and who is wanted. `previous` is the agent whom the customer knows."""

    queue: str
    score: int = 0
    language: str | None = None
    channel: Channel | None = None
    skills: frozenset[str] = frozenset()
    previous: str | None = None
    waiting_since: datetime | None = None


@dataclass(frozen=True)
class Choice:
    """The agent, None where nobody fits; why, as codes; and of every other agent what stood in the way."""

    agent: str | None
    why: tuple[str, ...]
    rejected: Mapping[str, str] = field(default_factory=dict)


NOTHING = Load()


def skills_wanted(meta: Mapping[str, object], rules: Assignment) -> frozenset[str]:
    """The skills that a conversation's `meta` names under the policy's keys; several are parted by commas."""
    named = (meta[key] for key in rules.skills_from if isinstance(meta.get(key), str))
    return frozenset(skill for value in named for part in str(value).split(",") if (skill := _skill(part)))


def match(need: Need, agents: Collection[Agent], loads: Mapping[str, Load], now: datetime, rules: Assignment) -> Choice:
    """Who takes the conversation at `now`; an agent without a load carries nothing."""
    rejected: dict[str, str] = {}
    for dropped in _steps(need, now, rules):
        obstacles = {a.id: list(_obstacles(a, loads.get(a.id, NOTHING), need, now, rules)) for a in agents}
        standing = {name: [o for o in found if o not in dropped] for name, found in obstacles.items()}
        rejected = {name: found[0] for name, found in standing.items() if found}
        fitting = [agent for agent in agents if not standing[agent.id]]
        if fitting:
            chosen = min(fitting, key=lambda agent: _preference(agent, loads, need, rules))
            others = {agent.id: "outranked" for agent in fitting if agent.id != chosen.id}
            return Choice(chosen.id, _why(chosen, obstacles[chosen.id], need, rules), rejected | others)
    return Choice(None, ("nobody_fits",), rejected)


def _steps(need: Need, now: datetime, rules: Assignment) -> Iterator[set[Demand]]:
    """The demands that may be dropped, none at first, more with each step that the wait has reached."""
    dropped: set[Demand] = set()
    yield set(dropped)
    waited = now - need.waiting_since if need.waiting_since else timedelta(0)
    hard = rules.hard.holds(need.queue, need.score)
    for step in rules.relax:
        if waited >= timedelta(minutes=step.after_minutes) and (hard or not step.only_hard):
            dropped |= set(step.drop)
            yield set(dropped)


def _obstacles(agent: Agent, load: Load, need: Need, now: datetime, rules: Assignment) -> Iterator[str]:
    """What stands between the agent and the conversation; what is never dropped comes first."""
    language = need.language or rules.language
    if not agent.online:
        yield "offline"
    if need.channel is not None and agent.channels is not None and need.channel not in agent.channels:
        yield "channel"
    if language is not None and primary(language) not in agent.languages:
        yield "language"
    if load.open >= agent.cap:
        yield "full"
    if need.queue in rules.qualified and agent.qualifications.isdisjoint(rules.qualified[need.queue]):
        yield "tier"
    if not {_skill(skill) for skill in need.skills} <= agent.skills:
        yield "skills"
    if _is_cooling(load, need, now, rules):
        yield "cooldown"


def _is_cooling(load: Load, need: Need, now: datetime, rules: Assignment) -> bool:
    if load.last_hard_at is None:
        return False
    spared = rules.cooldown.spares == "all" or rules.hard.holds(need.queue, need.score)
    # by distance: where a clock went back, a time in the future must not spare an agent for ever
    return spared and abs(now - load.last_hard_at) < timedelta(minutes=rules.cooldown.minutes)


def _preference(
    agent: Agent, loads: Mapping[str, Load], need: Need, rules: Assignment
) -> tuple[bool, float, datetime, str]:
    load = loads.get(agent.id, NOTHING)
    unknown = not (rules.sticky and agent.id == need.previous)
    return unknown, load.open / agent.cap, load.last_assigned_at or _LONG_AGO, agent.id


def _why(agent: Agent, overlooked: Iterable[str], need: Need, rules: Assignment) -> tuple[str, ...]:
    known = rules.sticky and agent.id == need.previous
    return "previous_agent" if known else "least_loaded", *(f"relaxed_{name}" for name in overlooked)


def _skill(name: str) -> str:
    return name.strip().casefold()
