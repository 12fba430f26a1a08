"""The hold-out: which conversations are routed as if there were no model, so that what routing does can be measured.

A conversation is drawn by a keyed hash of its id, so every replica and every replay draws alike, a larger share keeps
those of a smaller one, and another salt draws anew. What came of it is `serving.routing.effect`'s to estimate.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from serving.policy import Decision, RoutingConfig
from serving.routing.rules import HoldOut


@dataclass(frozen=True)
class Place:
    """Where a conversation goes and with which score it is ranked. `drawn`: the hash chose it for the hold-out;
    `held_out`: it is routed so, because no safety rule fired."""

    queue: str
    score: int
    drawn: bool
    held_out: bool


def held_out(conversation_id: str, holdout: HoldOut) -> bool:
    """Whether the conversation is drawn for the hold-out; a share of 0 draws none."""
    if holdout.share == 0:
        return False
    hashed = hmac.digest(holdout.salt.encode(), conversation_id.encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(hashed[:8], "big") < holdout.share * 2**64


def is_exempt(reasons: tuple[str, ...], holdout: HoldOut) -> bool:
    """Whether one of the reasons is a safety rule that a hold-out must not silence."""
    return not set(holdout.never).isdisjoint(reasons)


def place(decision: Decision, conversation_id: str, config: RoutingConfig) -> Place:
    """Where a decided conversation goes: as decided, or held out in the base queue, first come first served."""
    drawn = held_out(conversation_id, config.holdout)
    if drawn and not is_exempt(decision.reasons, config.holdout):
        return Place(config.holdout.queue or config.queues[-1].name, 0, drawn=True, held_out=True)
    return Place(decision.queue, decision.score, drawn, held_out=False)
