"""Where events go, how patiently, and how many may listen."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from pipeline.config import Config
from serving.events.signing import SigningConfig
from serving.store.outbox import KINDS, Kind


class WebhookConfig(SigningConfig):
    """A URL that is told of events, signed with `secrets`: the current one first, then those that are on their way out.

    A delivery that fails is tried again after `first_retry_s` seconds, then three times as long each time, up to
    `longest_retry_s`; after `attempts` it is dead. The defaults try for about a day.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    url: str
    kinds: tuple[Kind, ...] = Field(default=KINDS, min_length=1)
    allow_private: bool = False  # the host may be of the operator's own network, and be spoken to without TLS
    connect_timeout_s: float = Field(default=3.0, gt=0, le=60)
    timeout_s: float = Field(default=10.0, gt=0, le=60)  # of one attempt in all
    attempts: int = Field(default=12, ge=1, le=100)
    first_retry_s: float = Field(default=5.0, gt=0)
    longest_retry_s: float = Field(default=21_600.0, gt=0)
    in_flight: int = Field(default=8, ge=1, le=10)  # requests at the same time; a client has ten connections

    @property
    def lease(self) -> timedelta:
        """How long a delivery belongs to who took it: enough to send two in a row and to mark them."""
        return timedelta(seconds=3 * self.timeout_s + 5)


class StreamConfig(Config):
    """Who listens to events over HTTP."""

    streams: int = Field(default=1000, ge=1)
    page: int = Field(default=200, ge=1, le=10_000)  # events read from the store at once
    recent: int = Field(default=1000, ge=1)  # events kept in memory, for all who are up to date
    heartbeat_s: float = Field(default=15.0, gt=0)
    stall_s: float = Field(default=60.0, gt=0)  # a client that takes nothing for so long is let go


class EventsConfig(Config):
    """Everything about events that a person may change."""

    webhooks: tuple[WebhookConfig, ...] = ()
    stream: StreamConfig = StreamConfig()
    poll_s: float = Field(default=1.0, gt=0)  # how soon events of another process are noticed
    drain_s: float = Field(default=5.0, ge=0)  # how long webhooks may still be served at the end
    keep_days: float = Field(default=30.0, gt=0)
    upkeep_s: float = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [webhook.name for webhook in self.webhooks]
        if len(set(names)) < len(names):
            raise ValueError("two webhooks have the same name")
        return self

    def subscribed(self, kind: Kind) -> tuple[str, ...]:
        """The names of the webhooks that are told of a kind of event."""
        return tuple(webhook.name for webhook in self.webhooks if kind in webhook.kinds)
