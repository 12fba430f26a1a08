"""The conversation as a reviewer sees it: what was said, what was said of it, when it turned, who judged it how.

    view = await reading.view(conversation, reviewer)     # NotThere
    explanation = await reading.words(conversation, message)

Text was redacted before it was stored, for good: there is nothing that anybody could be shown unmasked.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from pipeline.text import clean
from pipeline.vocabulary import Head
from serving.explain import Explanation
from serving.live.conversations import NotThere, job_of
from serving.live.judging import HOT_AT
from serving.policy import Policy
from serving.review.accounts import Reviewer, Role
from serving.review.hints import RULES
from serving.review.labelling import Labelling
from serving.review.shown import (
    ConversationView,
    HeadHints,
    Heat,
    Hint,
    Removed,
    RuleView,
    Step,
    TurnVerdictView,
    TurnView,
    VerdictView,
)
from serving.review.standing import HOT, Standing, labels_of, newest, standing
from serving.scorer import Job
from serving.store import audit, conversations, reviews
from serving.store.audit import Entry
from serving.store.reader import Reader
from serving.store.records import Message, Record, State
from serving.store.reviews import Request, Verdict

__all__ = [
    *("ConversationView", "HeadHints", "Heat", "Hint", "NotThere", "Reading", "Removed", "RuleView", "Step"),
    *("TurnVerdictView", "TurnView", "VerdictView"),
]

OF_REVIEWERS = frozenset({"reviewed", "settled", "second_verdict_asked"})  # actions in the audit log
FORM_BYTES = 16


@dataclass(frozen=True)
class _Read:
    """What the store has of a conversation."""

    record: Record
    history: Sequence[Entry]
    verdicts: Sequence[Verdict]
    request: Request | None
    sample: str | None

    @property
    def standing(self) -> Standing:
        return standing(self.verdicts, self.request)


class Reading:
    """Reads conversations for reviewers."""

    def __init__(
        self,
        reader: Reader,
        labelling: Callable[[], Labelling],
        explain: Callable[[Job], Awaitable[Explanation]],
        now: Callable[[], datetime],
    ) -> None:
        self._reader, self._labelling, self._explain, self._now = reader, labelling, explain, now

    async def view(self, identifier: str, reviewer: Reviewer) -> ConversationView:
        """The conversation. Raises NotThere, StoreUnavailable."""
        found = await self._reader.run(lambda connection: _read(connection, identifier))
        if found is None:
            raise NotThere(identifier)
        return await asyncio.to_thread(_view, found, reviewer, self._labelling(), self._now())

    async def words(self, identifier: str, message: str) -> Explanation:
        """Which words moved the scores of a customer's message.

        Raises NotThere, Overloaded, DeadlinePassed, StoreUnavailable.
        """
        record = await self._reader.run(lambda connection: conversations.read(connection, identifier))
        messages = record.messages if record else ()
        place = next((n for n, one in enumerate(messages) if one.id == message and one.role == "customer"), None)
        if record is None or place is None:
            raise NotThere(identifier if record is None else message)
        return await self._explain(job_of(record.state, messages, place))


def _read(connection: Connection, identifier: str) -> _Read | None:
    record = conversations.read(connection, identifier)
    if record is None:
        return None
    return _Read(
        record=record,
        history=audit.history(connection, identifier),
        verdicts=reviews.of(connection, identifier),
        request=reviews.request(connection, identifier),
        sample=reviews.sample(connection, identifier),
    )


def _view(found: _Read, reviewer: Reviewer, labelling: Labelling, now: datetime) -> ConversationView:
    state, stands = found.record.state, found.standing
    sees = stands.may_see(reviewer.id, reviewer.leads)
    whole = newest(found.verdicts).get(None, {})
    turns = _turns(found, reviewer, labelling, sees)
    mine = whole.get(reviewer.id)
    return ConversationView(
        **_shown_of(state),
        flagged=state.first_hot_at is not None,
        turns=turns,
        turned=next((turn.message for turn in turns if turn.heat and turn.heat.hot >= HOT_AT), None),
        rules=_rules(state, labelling.judge.policy),
        history=[_step(one) for one in found.history if sees or one.action not in OF_REVIEWERS],
        verdicts=[_whole(v) for v in found.verdicts if v.message is None and (sees or v.reviewer == reviewer.id)],
        mine=_whole(mine) if mine else None,
        hidden=0 if sees else len(set(stands.reviewers) - {reviewer.id}),
        review=stands.state,
        round=stands.round_of(reviewer.id),
        asked_of=found.request.of if found.request else None,
        adjudicates=may_settle(stands, reviewer),
        may_ask=reviewer.leads and len(stands.reviewers) > 0 and stands.state != "disputed",
        sample=found.sample,
        intervals=bool(labelling.forecast_bins()),
        hints=hints(labelling.heads()),
        token=secrets.token_urlsafe(FORM_BYTES),
        opened_at=now,
    )


def may_settle(stands: Standing, reviewer: Reviewer) -> bool:
    """Whether a reviewer may settle what two others see differently; an admin also where one of them is theirs."""
    neutral = reviewer.id not in stands.reviewers or reviewer.role is Role.ADMIN
    return reviewer.leads and neutral and bool(stands.disputed or stands.settled)


def hints(heads: Mapping[str, Head]) -> list[HeadHints]:
    """What a reviewer needs to label by, head by head."""
    return [
        HeadHints(
            head=name,
            kind=head.kind,
            wording=head.wording,
            values=[Hint(value, RULES.get(name, {}).get(value, "")) for value in head.values],
            levels=[int(number) for number in head.numbers] if head.kind == "ordinal" else None,
        )
        for name, head in heads.items()
    ]


def _shown_of(state: State) -> dict[str, Any]:
    plain = ("id", "version", "channel", "language", "status", "agent", "queue", "score", "peak", "hot", "held_out")
    return {name: getattr(state, name) for name in (*plain, "waiting_since", "outcome", "model", "meta")}


def _turns(found: _Read, reviewer: Reviewer, labelling: Labelling, sees: bool) -> list[TurnView]:
    stands, by_message = found.standing, newest(found.verdicts)
    turns = []
    for message in found.record.messages:
        given = by_message.get(message.id, {})
        mine = given.get(reviewer.id)
        shown = [verdict for verdict in found.verdicts if verdict.message == message.id]
        turns.append(
            TurnView(
                **_said(message, found.record.state.channel, labelling),
                mine=labels_of(mine) if mine else None,
                verdicts=[_of_turn(verdict) for verdict in shown if sees or verdict.reviewer == reviewer.id],
                disputed=stands.disputed.get(message.id, ()) if sees else (),
            )
        )
    return turns


def _said(message: Message, channel: str, labelling: Labelling) -> dict[str, Any]:
    customer = message.role == "customer"
    answer = labelling.answer(message.standing) if customer else None
    abstained = (message.standing or {}).get("abstained") if customer else None
    return {
        "message": message.id,
        "role": message.role,
        "at": message.at,
        "text": message.text,
        "removed": [Removed(cut.kind, cut.text) for cut in clean(message.text, channel).cuts] if customer else [],
        "labels": labelling.labels(answer) if answer else None,
        "said": message.standing if customer else None,
        "abstained": abstained["reason"] if abstained else None,
        "heat": _heat(answer, labelling) if answer else None,
        "revised": message.revised is not None,
    }


def _heat(answer: Any, labelling: Labelling) -> Heat | None:
    if answer.frustration is None or answer.urgency is None or answer.boil_over is None:
        return None
    low, high = labelling.forecast_interval(answer) or (None, None)
    levels = answer.frustration.expected, answer.urgency.expected
    return Heat(*levels, answer.boil_over, low, high, labelling.hot_chance(answer))


def _rules(state: State, policy: Policy) -> list[RuleView]:
    """Rules that fired at any time, those that hold now first, the weightiest first."""
    strengths = state.strengths or {}
    factors = policy.config.factors
    fired = [*state.reasons, *(reason for reason in state.fired if reason not in state.reasons)]
    return [
        RuleView(
            reason=reason,
            weight=factors[reason].weight if reason in factors else None,
            strength=strengths.get(reason),
            now=reason in state.reasons,
        )
        for reason in fired
    ]


def _step(entry: Entry) -> Step:
    return Step(entry.at, entry.actor, entry.action, entry.detail)


def _whole(verdict: Verdict) -> VerdictView:
    hot = verdict.labels.get(HOT)
    return VerdictView(verdict.reviewer, verdict.round, verdict.at, hot, verdict.routing_right, verdict.note)


def _of_turn(verdict: Verdict) -> TurnVerdictView:
    return TurnVerdictView(verdict.reviewer, verdict.round, verdict.at, labels_of(verdict), verdict.agrees)
