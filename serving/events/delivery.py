"""One attempt to deliver an event: a signed POST, and what its answer means. Knows nothing of the store.

Success is a status of 2xx, and nothing but the status is believed: redirects are failures, and of the answer's body
only what is needed to use the connection again is read. Errors name what happened, never the URL or a body.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import datetime
from random import Random

import httpx

from serving.events.addresses import AddressRefused, Resolver, check_url, pinned_client, system_resolver
from serving.events.config import WebhookConfig
from serving.events.signing import read_secrets, sign
from serving.store.outbox import Event

GROWTH = 3.0
GONE = 410
ASKS_TO_WAIT = (429, 503)
_MOST_BODY = 2048
_BODY_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to: no error is success; `final` says that trying again is useless."""

    error: str | None = None
    final: bool = False
    wait_s: float = 0.0  # what the target asked for


def check_webhook(config: WebhookConfig) -> None:
    """Raises InputError, one line, for a webhook that cannot work: no secret, or a place it may not go to."""
    try:
        check_url(config.url, _allowed(config))
    except AddressRefused as error:
        raise AddressRefused(f"webhook {config.name}: {error}") from None
    read_secrets(config, os.environ)


def open_client(config: WebhookConfig, resolver: Resolver = system_resolver) -> httpx.AsyncClient:
    """A client of the webhook's own, so that a target that hangs takes no connection from another."""
    client = pinned_client(_allowed(config), config.timeout_s, resolver)
    client.timeout = httpx.Timeout(config.timeout_s, connect=config.connect_timeout_s)
    return client


async def attempt(client: httpx.AsyncClient, config: WebhookConfig, event: Event, now: datetime) -> Outcome:
    """Send an event once, within the webhook's time. Never raises."""
    try:
        async with asyncio.timeout(config.timeout_s):
            response = await client.send(_request(client, config, event, now), stream=True)
        outcome = judge(response)
        await _finish(response)
        return outcome
    except (TimeoutError, httpx.TimeoutException) as error:
        return Outcome(f"no {'connection' if isinstance(error, httpx.ConnectTimeout) else 'answer'} in time")
    except httpx.ConnectError:
        return Outcome("no connection")
    except httpx.TransportError:
        return Outcome("the connection broke, or what came was not HTTP")
    except AddressRefused as error:
        return Outcome(str(error))
    except Exception as error:  # whatever it was, the delivery is tried again and the others go on
        return Outcome(f"could not be sent: {type(error).__name__}")


def judge(response: httpx.Response) -> Outcome:
    """What a status means."""
    status = response.status_code
    if response.is_success:
        return Outcome()
    if response.is_redirect or 300 <= status < 400:
        return Outcome(f"status {status}: redirects are not followed")
    asked = response.headers.get("retry-after", "")
    wait = float(asked) if status in ASKS_TO_WAIT and asked.isascii() and asked.isdigit() and len(asked) < 9 else 0.0
    return Outcome(f"status {status}", status == GONE, wait)


def retry_wait(config: WebhookConfig, attempts: int, asked_s: float, chance: Random) -> float:
    """Seconds until the next attempt after `attempts` failed ones, spread so that many do not come back together."""
    grown: float = min(config.longest_retry_s, config.first_retry_s * GROWTH ** min(attempts - 1, 30))
    return max(grown * chance.uniform(0.75, 1.0), min(asked_s, config.longest_retry_s))


def message_id(event: Event) -> str:
    """The same at every attempt; two stores, or one that was restored, hardly share one."""
    return f"event_{event.id}_{int(event.at.timestamp())}"


def _request(client: httpx.AsyncClient, config: WebhookConfig, event: Event, now: datetime) -> httpx.Request:
    body = event.as_json()
    headers = {
        **sign(read_secrets(config, os.environ), message_id(event), now, body),
        "content-type": "application/json",
        "user-agent": "Simmer",
    }
    return client.build_request("POST", config.url, content=body, headers=headers)


async def _finish(response: httpx.Response) -> None:
    """Read a short answer to its end, so that the connection can be used again; the status is known already."""
    left = _MOST_BODY
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in response.aiter_raw():
                left -= len(part)
                if left <= 0:
                    break
    except (TimeoutError, httpx.TransportError):
        return
    finally:
        await response.aclose()


def _allowed(config: WebhookConfig) -> frozenset[str]:
    """The webhook's own host, where it may be private."""
    try:
        host = httpx.URL(config.url).raw_host.decode("ascii").removesuffix(".")
    except (httpx.InvalidURL, ValueError):
        return frozenset()
    return frozenset({host}) if config.allow_private else frozenset()
