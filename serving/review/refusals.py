"""What somebody at the desk is told of an error that is expected to happen, in words and as an HTTP status.

The wording is for people who read pages; the API says the same of its own requests in `serving.api.failures`. Nothing
of the API is imported here, since the API is what the desk is mounted on.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.batcher import DeadlinePassed, Overloaded
from serving.live.conversations import NotThere
from serving.review.listing import FilterInvalid
from serving.review.sessions import Forged, WrongPassword
from serving.review.verdicts import Gone, NotAllowed, VerdictInvalid
from serving.security.rates import retry_after
from serving.security.verifier import TooManyAttempts
from serving.store.conversations import Stale
from serving.store.faults import StoreBusy, StoreUnavailable


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served."""

    status: int
    message: str
    field: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


def refusal_of(error: Exception) -> Refusal:
    """The refusal for an error; 500 for one of ours."""
    match error:
        case WrongPassword():
            return Refusal(401, "No reviewer has this name and password.")
        case Forged():
            return Refusal(403, "This form was made for another session. Reload the page and send it again.")
        case NotAllowed():
            return Refusal(403, str(error))
        case NotThere():
            return Refusal(404, "There is no such conversation, or it has been erased.")
        case Gone():
            return Refusal(410, "This conversation has been erased. Nothing can be kept of a verdict on it.")
        case FilterInvalid() | VerdictInvalid():
            return Refusal(422, str(error), error.field)
        case TooManyAttempts():
            return _later(429, f"Too many attempts. Try again in {retry_after(error.wait)} seconds.", error.wait)
        case Overloaded() | StoreBusy():
            return _later(429, "The desk is busy. Try again in a moment.", 1)
        case DeadlinePassed():
            return Refusal(504, "That took too long. Try again in a moment.")
        case StoreUnavailable() | Stale():
            return _later(503, "The store cannot be reached now. Nothing was saved; try again.", 1)
    return Refusal(500, "An error of ours. Quote the request's number when reporting it.")


def _later(status: int, message: str, seconds: float) -> Refusal:
    return Refusal(status, message, headers=(("retry-after", retry_after(seconds)),))
