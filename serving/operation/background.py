"""Work that must not be felt: a thread that every other thread of the machine goes before."""

from __future__ import annotations

import os
import threading

LOWEST = 19


def yield_to_others() -> None:
    """Let every other thread go before this one, and before those that it starts (Linux)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
