"""Waiting for something, for so long at most."""

from __future__ import annotations

import asyncio


async def comes(awaited: asyncio.Event, seconds: float) -> bool:
    """Whether it came in time. (`asyncio.wait_for` may lose a cancellation that comes together with it.)"""
    try:
        async with asyncio.timeout(seconds):
            await awaited.wait()
    except TimeoutError:
        return False
    return True
