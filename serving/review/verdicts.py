"""Verdicts: given, undone by a newer one, asked for a second time, settled. Append-only.

    form = parse_form(fields, labelling.heads())                   # VerdictInvalid, with `field`
    saved = await verdicts.save(conversation, form, reviewer)      # Gone, VerdictInvalid, NotAllowed

A verdict's first reviewer, and a second, see nothing of each other's before they have given their own. Where they
differ, a lead who is neither of them settles it, or an admin. A form is kept whole or not at all, and once, however
often it is sent. When a conversation is erased its notes go; the labels stay, so that what was estimated stays true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from pipeline.vocabulary import LabelError, Labels
from serving.live.bodies import kept_text
from serving.review import accounts
from serving.review.accounts import Reviewer
from serving.review.config import ReviewConfig
from serving.review.forms import LONGEST_NOTE, LONGEST_REVIEW, TurnVerdict, VerdictForm, VerdictInvalid, parse_form
from serving.review.labelling import Labelling
from serving.review.standing import ADJUDICATION, Standing, standing
from serving.store import audit, conversations, reviews
from serving.store.records import Message, State
from serving.store.reviews import Request
from serving.store.writer import Writer

__all__ = ["Gone", "NotAllowed", "Saved", "TurnVerdict", "VerdictForm", "VerdictInvalid", "Verdicts", "parse_form"]

POLICY = "policy"  # who asked, where the configuration did


class Gone(LookupError):
    """The conversation was erased, or never was: nothing can be kept of a verdict on it."""


class NotAllowed(PermissionError):
    """This reviewer may not do this; the message says why."""


@dataclass(frozen=True)
class Saved:
    """What came of a form."""

    round: str  # first, second, adjudication
    review: str  # the conversation's: reviewed, asked, agreed, disputed, settled
    verdicts: int  # how many were kept
    replayed: bool  # the form had been sent before, and counted then


class Verdicts:
    """Takes verdicts in."""

    def __init__(
        self, writer: Writer, labelling: Callable[[], Labelling], config: ReviewConfig, now: Callable[[], datetime]
    ) -> None:
        self._writer, self._labelling, self._config, self._now = writer, labelling, config, now

    async def save(self, conversation: str, form: VerdictForm, reviewer: Reviewer) -> Saved:
        """Keep a verdict. Raises Gone, VerdictInvalid, NotAllowed, StoreUnavailable."""
        if not form.turns and not form.on_the_whole:
            raise VerdictInvalid("", "the verdict says nothing: agree, correct a label, or say something of the whole")
        labelling, now = self._labelling(), self._now()
        return await self._writer.run(
            lambda connection: self._save(connection, conversation, form, reviewer, labelling, now), conversation
        )

    async def ask(self, conversation: str, reviewer: Reviewer, of: str | None = None) -> None:
        """Ask for a second, blind verdict, of anybody or of one reviewer. Raises Gone, NotAllowed, VerdictInvalid."""
        if not reviewer.leads:
            raise NotAllowed("only a lead asks for a second verdict")
        now = self._now()

        def operation(connection: Connection) -> None:
            _state_of(connection, conversation)
            stands = _standing(connection, conversation)
            _check_askable(connection, stands, of)
            reviews.put_request(connection, Request(conversation, reviewer.id, now, of))
            reviews.put_state(connection, conversation, _standing(connection, conversation).state, now)
            _record(connection, reviewer, "second_verdict_asked", conversation, now, {"of": of})

        await self._writer.run(operation, conversation)

    def _save(
        self,
        connection: Connection,
        conversation: str,
        form: VerdictForm,
        reviewer: Reviewer,
        labelling: Labelling,
        now: datetime,
    ) -> Saved:
        state = _state_of(connection, conversation)
        before = reviews.of_form(connection, reviewer.id, form.token)
        if before:
            return _again(connection, conversation, before)
        stands = _standing(connection, conversation)
        if form.adjudicates:
            _check_adjudicator(stands, reviewer)
        round_ = ADJUDICATION if form.adjudicates else stands.round_of(reviewer.id)
        rows = _rows(connection, state, form, labelling)
        common = {"conversation": conversation, "reviewer": reviewer.id, "at": now, "round": round_}
        common |= {"form": form.token, "sample": reviews.sample(connection, conversation)}
        reviews.add(connection, [{**row, **common, "place": place} for place, row in enumerate(rows)])
        if not stands.reviewers and not form.adjudicates and _drawn(conversation, self._config.second_share):
            reviews.put_request(connection, Request(conversation, POLICY, now, None))
        after = _standing(connection, conversation).state
        reviews.put_state(connection, conversation, after, now)
        detail = {"round": round_, "verdicts": len(rows), "agrees": sum(row["agrees"] for row in rows), "state": after}
        _record(connection, reviewer, "settled" if form.adjudicates else "reviewed", conversation, now, detail)
        return Saved(round_, after, len(rows), replayed=False)


def _state_of(connection: Connection, conversation: str) -> State:
    """The conversation, locked, so that what two reviewers say at once is put together one after the other."""
    state = conversations.read_state(connection, conversation, lock=True)
    if state is None:
        raise Gone("the conversation was erased, or never was; nothing of the verdict was kept")
    return state


def _standing(connection: Connection, conversation: str) -> Standing:
    return standing(reviews.of(connection, conversation), reviews.request(connection, conversation))


def _again(connection: Connection, conversation: str, before: list[reviews.Verdict]) -> Saved:
    if before[0].conversation != conversation:
        raise VerdictInvalid("token", "belongs to a form that was sent for another conversation")
    state = reviews.state(connection, conversation) or "open"
    return Saved(before[0].round, state, len(before), replayed=True)


def _check_askable(connection: Connection, stands: Standing, of: str | None) -> None:
    if not stands.reviewers:
        raise NotAllowed("nobody has given a first verdict yet")
    if stands.state == "disputed":
        raise NotAllowed("two verdicts differ already; it is for somebody to settle")
    if of is None:
        if len(stands.reviewers) > 1:
            raise NotAllowed("a second verdict was given already; name whose verdict is wanted")
        return
    account = accounts.find(connection, of)
    if account is None or account.reviewer.disabled_at is not None:
        raise VerdictInvalid("of", f"there is no reviewer {of} who can be asked")
    if of in stands.reviewers:
        raise VerdictInvalid("of", f"{of} has given a verdict already")


def _check_adjudicator(stands: Standing, reviewer: Reviewer) -> None:
    if not reviewer.leads:
        raise NotAllowed("only a lead settles what two reviewers see differently")
    if not stands.disputed and not stands.settled:
        raise NotAllowed("there is nothing to settle")
    if reviewer.id in stands.reviewers and reviewer.role is not accounts.Role.ADMIN:
        raise NotAllowed("who gave one of the verdicts does not settle between them")


def _rows(connection: Connection, state: State, form: VerdictForm, labelling: Labelling) -> list[dict[str, Any]]:
    """The verdicts of a form without what they have in common; the time it took stands with the first alone."""
    names = [turn.message for turn in form.turns]
    if len(set(names)) < len(names):
        raise VerdictInvalid("turns", "a message is judged twice in one form")
    messages = conversations.some_messages(connection, state.id, names)
    rows = [_whole(state, form)] if form.on_the_whole else []
    rows += [_turn(place, turn, messages.get(turn.message), labelling) for place, turn in enumerate(form.turns)]
    for row in rows[:1]:
        row["seconds"] = None if form.seconds is None else min(form.seconds, LONGEST_REVIEW)
    return [{"seconds": None, **row} for row in rows]


def _whole(state: State, form: VerdictForm) -> dict[str, Any]:
    flagged = state.first_hot_at is not None
    note = kept_text(form.note or "")[:LONGEST_NOTE] or None
    return {
        "message": None,
        "labels": {} if form.hot is None else {"hot": form.hot},
        "agrees": form.hot is not None and form.hot == flagged,
        "routing_right": form.routing_right,
        "note": note,
        "said": {"hot": flagged},
        "model": state.model,
    }


def _turn(place: int, turn: TurnVerdict, message: Message | None, labelling: Labelling) -> dict[str, Any]:
    if message is None:
        raise VerdictInvalid(f"turns.{place}.message", f"there is no message {turn.message} in the conversation")
    if message.role != "customer":
        raise VerdictInvalid(f"turns.{place}.message", "only what the customer wrote is judged")
    answer = labelling.answer(message.standing)
    said = labelling.labels(answer) if answer else None
    labels = _labels(place, turn, said, labelling)
    return {
        "message": message.id,
        "labels": labels,
        "agrees": bool(labels) and said is not None and all(said.get(name) == label for name, label in labels.items()),
        "routing_right": None,
        "note": None,
        "said": said,
        "model": _model_of(message.standing),
    }


def _labels(place: int, turn: TurnVerdict, said: Labels | None, labelling: Labelling) -> Labels:
    if turn.agrees and turn.labels is not None:
        raise VerdictInvalid(f"turns.{place}", "agrees with the model and has labels of its own; send one of the two")
    if turn.agrees:
        if not said:
            raise VerdictInvalid(f"turns.{place}", "the model said nothing of this message that one could agree with")
        return said
    if turn.labels is None:
        raise VerdictInvalid(f"turns.{place}.labels", "send labels, or that the model is right")
    try:
        return labelling.known(turn.labels)
    except LabelError as error:
        raise VerdictInvalid(f"turns.{place}.labels", str(error)) from None


def _model_of(said: Mapping[str, Any] | None) -> str | None:
    model = (said or {}).get("model") or {}
    return model.get("version") or model.get("bundle")


def _drawn(conversation: str, share: float) -> bool:
    """Whether a first verdict on this conversation is one of the share that a second is asked for."""
    number = int.from_bytes(hashlib.blake2b(conversation.encode(), digest_size=8, person=b"second").digest())
    return number < share * 2**64


def _record(
    connection: Connection, reviewer: Reviewer, action: str, subject: str, now: datetime, detail: Mapping[str, Any]
) -> None:
    audit.record(connection, actor=reviewer.actor, action=action, subject=subject, detail=detail, now=now)
