"""The desk put together over a service: what pages and their JSON twins are written against.

desk = open_desk(service)
task = asyncio.create_task(desk.sampler.run())     # draws once a day what is looked at besides what was flagged
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.review.conversation import Reading
from serving.review.estimates import Estimates
from serving.review.listing import Listing
from serving.review.sessions import Sessions
from serving.review.trends import Trends
from serving.review.verdicts import Verdicts

if TYPE_CHECKING:
    from serving.service import Service


@dataclass(frozen=True)
class Desk:
    """Everything a page asks."""

    sessions: Sessions
    listing: Listing
    reading: Reading
    verdicts: Verdicts
    estimates: Estimates
    trends: Trends


def open_desk(service: Service) -> Desk:
    """The desk over a service."""
    raise NotImplementedError
