"""The desk put together over a service: what pages and their JSON twins are written against.

desk = open_desk(service)
task = asyncio.create_task(desk.sampler.run())     # draws once a day what is looked at besides what was flagged
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.review.config import ReviewConfig
from serving.review.conversation import Reading
from serving.review.estimates import Estimates
from serving.review.labelling import Labelling
from serving.review.listing import Listing
from serving.review.sessions import Sessions
from serving.review.trends import Trends
from serving.review.verdicts import Verdicts
from serving.security.keys import loopback_only

if TYPE_CHECKING:
    from serving.service import Service


@dataclass(frozen=True)
class Desk:
    """Everything a page asks."""

    config: ReviewConfig
    secure: bool  # whether cookies go over TLS alone: wherever the service does not listen on loopback
    labelling: Callable[[], Labelling]
    sessions: Sessions
    listing: Listing
    reading: Reading
    verdicts: Verdicts
    estimates: Estimates
    trends: Trends


def open_desk(service: Service) -> Desk:
    """The desk over a service; nothing of it runs yet."""
    reader, writer, config, now = service.reader, service.writer, service.config.review, service.live.now

    def labelling() -> Labelling:
        bundle = service.models.current.scorer.bundle
        return Labelling(service.judge(), bundle.card, bundle.digest)

    return Desk(
        config=config,
        secure=not loopback_only(service.config.host),
        labelling=labelling,
        sessions=Sessions(reader, writer, config.sign_in, now),
        listing=Listing(reader, writer, service.judge),
        reading=Reading(reader, labelling, service.scoring.explain, now),
        verdicts=Verdicts(writer, labelling, config, now),
        estimates=Estimates(reader, labelling, now),
        trends=Trends(reader, now),
    )
