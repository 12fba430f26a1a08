"""How often one caller may call: a token bucket each, in bounded memory. Knows neither keys nor HTTP.

A bucket holds `burst` tokens and gains `per_second`; it is kept as one number, the time at which it will be full again.
Callers unused the longest are forgotten first: one that was silent for burst / per_second seconds has a full bucket
anyway, so that forgetting it changes nothing. Only if more than `callers` call within that time does one get too much.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from pydantic import Field
from starlette.types import Scope

from pipeline.config import Config

_SOON = 1e-9  # seconds; less than this is rounding
_IPV6_CALLER = 64  # bits: one customer of a network has that many addresses and more


class RateConfig(Config):
    """How often one caller may call."""

    per_second: float = Field(gt=0, allow_inf_nan=False)
    burst: int = Field(ge=1)
    callers: int = Field(ge=1, description="how many are remembered")


class RateLimiter:
    """A token bucket for each caller. Not for use from several threads."""

    def __init__(self, config: RateConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, caller: str) -> float:
        """Take a token: 0 if there was one, else the seconds after which there will be. Nothing is taken then."""
        now, interval = self._clock(), 1 / self._config.per_second
        full_at = max(self._full_at.get(caller, now), now) + interval
        wait = full_at - now - self._config.burst * interval
        if wait > _SOON:
            return wait
        self._remember(caller, full_at)
        return 0.0

    def give_back(self, caller: str) -> None:
        """Undo a `take` that got a token."""
        if caller in self._full_at:
            self._full_at[caller] -= 1 / self._config.per_second

    def _remember(self, caller: str, full_at: float) -> None:
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > self._config.callers:
            self._full_at.popitem(last=False)


def retry_after(seconds: float) -> str:
    """The value of a Retry-After header: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))


def caller_of(scope: Scope) -> str:
    """Who sends a request, by address; of IPv6 the network, since one caller has more addresses than can be counted."""
    client = scope.get("client")
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_CALLER), strict=False))
