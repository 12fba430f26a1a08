"""What happens to a conversation, as pure functions: a state and what befell it, the state and the events after it.

    open ──claim──> assigned ──resolve──> resolved ──customer writes──> open
      ^──release─────┘

A conversation's priority is that of its hottest customer message that no person has answered yet, so that an order
number after a threat does not cool it down; where all are answered, that of the latest. Knows nothing of storage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline.conversation import Channel
from serving.live.judging import Judge, Judged
from serving.policy import Decision
from serving.routing.aging import rank
from serving.routing.holdout import place
from serving.store.records import Message, Record, State

ROUNDING = timedelta(milliseconds=1)  # a reason that is looked for a moment too early would never be found
MOMENT = timedelta(microseconds=1)
AHEAD = timedelta(days=1)  # clocks that differ by less are believed
FORECAST = "boil_over"  # the reason by which the model foresees that a conversation becomes hot
DIGEST_SHOWN = 19  # characters of a bundle's digest that name it: "sha256:" and twelve
UNANSWERED_READ = 50  # nobody's fiftieth message without an answer changes what is done


class NotNow(ValueError):
    """The conversation's status does not allow this; the message says what stands in the way."""


Kind = Literal[
    "flagged",  # became hot
    "escalated",  # moved to a hotter queue
    "boil_over_forecast",  # the forecast became a reason
    "assigned",
    "released",
    "resolved",
    "reopened",
    "erased",
]


@dataclass(frozen=True)
class Event:
    """Something that others want to hear of."""

    kind: Kind
    body: Mapping[str, Any]


def begin(identifier: str, channel: Channel, language: str | None, meta: Mapping[str, Any], now: datetime) -> State:
    """A conversation nobody has said anything in."""
    return State(
        id=identifier,
        version=0,
        channel=channel,
        language=language,
        meta=dict(meta),
        status="open",
        agent=None,
        created_at=now,
        updated_at=now,
        waiting_since=None,
        ages_at=None,
        assigned_at=None,
        resolved_at=None,
        outcome=None,
        first_hot_at=None,
        first_answer_at=None,
        score=0,
        queue="",
        reasons=[],
        strengths=None,
        rank=None,
        hot=False,
        held_out=False,
        latest=None,
        latest_message=None,
        peak=0,
        heat=0.0,
        fired=[],
        model=None,
        foreseen_at=None,
        hot_turn=None,
    )


def insert(messages: Sequence[Message], new: Message) -> tuple[Message, ...]:
    """The messages with a new one in its place by time. Of equal times the later to come is later."""
    where = len(messages)
    while where and messages[where - 1].at > new.at:
        where -= 1
    return (*messages[:where], new, *messages[where:])


def dated(given: Sequence[datetime | None], now: datetime) -> list[datetime]:
    """When each of some messages, in their order, was written: one without a time as late as those behind it allow.

    What lies a day ahead and more was dated by a broken clock, and counts as without a time.
    """
    found: list[datetime] = []
    bound = now
    for at in reversed(given):
        moment = bound if at is None or at - now >= AHEAD else at
        bound = min(bound, moment)
        found.append(moment)
    return found[::-1]


def arriving(state: State, now: datetime) -> datetime:
    """When a message comes: now, and after everything that happened before, where the clock stood still or went back.

    So it can be told from what was settled when the conversation was resolved.
    """
    return max(now, state.updated_at + MOMENT) if state.version else now


def latest(messages: Sequence[Message]) -> Message:
    """The customer's latest message; where there is none, the latest of anybody."""
    return next((message for message in reversed(messages) if message.role == "customer"), messages[-1])


def to_score(messages: Sequence[Message], fresh: Collection[str], context: int) -> list[int]:
    """Which messages need scoring: the customer's fresh ones, and the latest where what came before it is new.

    `context` is how many turns before a message its scoring may look at.
    """
    wanted = [index for index, one in enumerate(messages) if one.id in fresh and one.role == "customer"]
    last = next((index for index in reversed(range(len(messages))) if messages[index].role == "customer"), None)
    if last is not None and last not in wanted and any(m.id in fresh for m in messages[max(0, last - context) : last]):
        wanted.append(last)
    return wanted


def unanswered(messages: Sequence[Message], settled: datetime | None = None) -> list[Message]:
    """The customer's messages since a person last answered, newest first, but for those that came before `settled`."""
    found: list[Message] = []
    for message in reversed(messages):
        if message.role == "agent":
            break
        if message.role == "customer" and (settled is None or message.received_at > settled):
            found.append(message)
    return found


def said(record: Record, judge: Judge, now: datetime) -> State:
    """The state after what was said in the conversation changed: who waits since when, how hot it is, where it goes."""
    state, open_messages = record.state, unanswered(record.messages, record.state.resolved_at)
    newest = next((m for m in reversed(record.messages) if m.role == "customer"), None)
    status = "open" if state.status == "resolved" and open_messages else state.status
    answered = next((message.received_at for message in record.messages if message.role == "agent"), None)
    waiting = min((min(m.at, m.received_at) for m in open_messages), default=None)
    state = replace(
        state,
        status=status,
        outcome=state.outcome if status == "resolved" else None,
        updated_at=max([now, state.updated_at, *(message.received_at for message in record.messages)]),
        waiting_since=waiting,
        latest=newest.standing if newest else None,
        latest_message=newest.id if newest else None,
        first_answer_at=state.first_answer_at or answered,
    )
    if newest is None:
        return placed(replace(state, strengths=None, hot=False), judge)
    candidates = [m for m in open_messages[:UNANSWERED_READ] or [newest] if m.standing]
    found = {message.id: judge.judge(message.standing or {}) for message in candidates}
    state = _marked(_heated(state, list(found.values()), judge), record.messages, newest, found)
    return due(placed(state, judge), judge, now)


def _heated(state: State, found: Sequence[Judged], judge: Judge) -> State:
    """The state with the hottest message's queue, reasons and strengths, the newer of equals, and the highest score.

    What no model has judged has no strengths; the wait is told by those of the hottest message that has.
    """
    if not found:
        return replace(state, strengths=None, hot=False)
    ranked = sorted(found, key=lambda one: (judge.coolness(one.decision.queue), -one.decision.score))
    return replace(
        state,
        strengths=next((one.strengths for one in ranked if one.strengths is not None), None),
        score=max(one.decision.score for one in found),
        queue=ranked[0].decision.queue,
        reasons=list(ranked[0].decision.reasons),
        hot=any(one.hot for one in found),
    )


def _hotter(one: Decision, other: Decision, judge: Judge) -> Decision:
    """The hotter queue with its reasons, and the higher score."""
    hotter = min(one, other, key=lambda decision: judge.coolness(decision.queue))
    return replace(hotter, score=max(one.score, other.score))


def _marked(state: State, messages: Sequence[Message], newest: Message, found: Mapping[str, Judged]) -> State:
    """The state with what stays on record: how hot it was at most, since when, and whether that was foreseen."""
    customers = [message.id for message in messages if message.role == "customer"]
    hot = [place for place, name in enumerate(customers, 1) if name in found and found[name].hot]
    first_time = state.first_hot_at is None
    foreseen = first_time and not hot and FORECAST in state.reasons
    return replace(
        state,
        peak=max(state.peak, state.score),
        heat=max([state.heat, *(one.chance for one in found.values())]),
        model=_model_of(newest) or state.model,
        first_hot_at=newest.received_at if first_time and hot else state.first_hot_at,
        hot_turn=hot[0] if first_time and hot else state.hot_turn,
        foreseen_at=state.foreseen_at or (newest.received_at if foreseen else None),
    )


def _model_of(message: Message) -> str | None:
    """The version of the model that scored the message; where it has none, the beginning of its bundle's digest."""
    model = (message.standing or {}).get("model") or {}
    return model.get("version") or model.get("bundle", "")[:DIGEST_SHOWN] or None


def placed(state: State, judge: Judge) -> State:
    """The state in its queue and rank by the decision that it holds, the hold-out taken into account."""
    if state.latest is None:
        state = replace(state, score=0, queue=judge.policy.config.queues[-1].name, reasons=[])
    drawn = place(Decision(state.score, state.queue, tuple(state.reasons)), state.id, judge.policy.config)
    waits = state.status == "open" and state.waiting_since is not None
    return replace(
        state,
        held_out=drawn.held_out,
        score=drawn.score,
        queue=drawn.queue,
        reasons=[] if drawn.held_out else state.reasons,
        fired=sorted({*state.fired, *state.reasons}),
        rank=rank(drawn.score, state.waiting_since, judge.policy.config.aging) if waits else None,
        ages_at=_ages_at(state, judge) if waits and not drawn.held_out else None,
    )


def _ages_at(state: State, judge: Judge) -> datetime | None:
    """When waiting alone will be a reason; None where it is one, or where no model has judged."""
    waiting = judge.policy.config.waiting
    if state.strengths is None or state.waiting_since is None or waiting.reason in state.reasons:
        return None
    minutes = timedelta(minutes=waiting.fires_at * waiting.full_after_minutes)
    return state.waiting_since + minutes + ROUNDING


def due(state: State, judge: Judge, now: datetime) -> State:
    """The state, aged if its waiting is a reason already: a long wait is no news because of another message."""
    return aged(state, judge, now) if state.ages_at is not None and state.ages_at <= now else state


def aged(state: State, judge: Judge, now: datetime) -> State:
    """The state once its waiting is a reason of its own. Its score, and so its rank, is that of what was said."""
    if state.strengths is None or state.waiting_since is None or state.status != "open":
        return replace(state, ages_at=None)
    decision = decided(state, judge, now)
    reasons, changed = list(decision.reasons), max(now, state.updated_at)
    fired = sorted({*state.fired, *reasons})
    return replace(state, queue=decision.queue, reasons=reasons, fired=fired, ages_at=None, updated_at=changed)


def decided(state: State, judge: Judge, now: datetime) -> Decision:
    """Priority, queue and reasons at this moment, the wait so far among them."""
    standing = Decision(state.score, state.queue, tuple(state.reasons))
    if state.strengths is None or state.waiting_since is None or state.held_out:
        return standing
    waited = max(0.0, (now - state.waiting_since).total_seconds() / 60)
    return _hotter(judge.policy.decide_by(judge.known(state.strengths), waited), standing, judge)


def under(state: State, judge: Judge, now: datetime) -> State:
    """The state under another policy than it was decided by; strengths of factors that it did not have are those of the
    customer's latest message."""
    if state.latest is None:
        return placed(state, judge)
    judged = judge.judge(state.latest)
    decision, strengths = judged.decision, state.strengths
    if strengths is not None and set(strengths) == set(judge.policy.config.factors):
        decision = _hotter(judge.policy.decide_by(strengths), decision, judge)
    else:
        strengths = judged.strengths
    decided = replace(
        state,
        strengths=strengths,
        score=decision.score,
        queue=decision.queue,
        reasons=list(decision.reasons),
    )
    return due(placed(decided, judge), judge, now)


def assigned(state: State, agent: str, now: datetime, judge: Judge) -> State:
    """The state once an agent has the conversation. Raises NotNow where another has it, or it is resolved."""
    if state.status == "resolved":
        raise NotNow("the conversation is resolved")
    if state.status == "assigned" and state.agent != agent:
        raise NotNow(f"the conversation is with {state.agent}")
    return _moved(state, judge, now, status="assigned", agent=agent, assigned_at=now)


def released(state: State, now: datetime, judge: Judge) -> State:
    """The state once its agent gives it back; the agent stays known as the last. Raises NotNow."""
    if state.status != "assigned":
        raise NotNow("nobody has the conversation")
    return _moved(state, judge, now, status="open", assigned_at=None)


def resolved(state: State, outcome: str | None, now: datetime, judge: Judge) -> State:
    """The state once the matter is settled. Raises NotNow where it was before."""
    if state.status == "resolved":
        raise NotNow("the conversation is resolved already")
    settled = max(now, state.updated_at)
    return _moved(
        state, judge, now, status="resolved", resolved_at=settled, outcome=outcome, waiting_since=None, assigned_at=None
    )


def _moved(state: State, judge: Judge, now: datetime, **changes: Any) -> State:
    return placed(replace(state, updated_at=max(now, state.updated_at), **changes), judge)


def heard(before: State, after: State, judge: Judge) -> Iterator[Event]:
    """What others should hear of a change."""
    if after.status == "open" and before.status == "resolved":
        yield Event("reopened", summary(after))
    if after.hot and not before.hot:
        yield Event("flagged", summary(after))
    if judge.coolness(after.queue) < judge.coolness(before.queue):
        yield Event("escalated", {**summary(after), "from": before.queue or None})
    if FORECAST in after.reasons and FORECAST not in before.reasons:
        yield Event("boil_over_forecast", summary(after) | {"boil_over": (after.latest or {}).get("boil_over")})


def summary(state: State) -> dict[str, Any]:
    """What may be told of a conversation: no word of what was said."""
    return {
        "id": state.id,
        "status": state.status,
        "version": state.version,
        "channel": state.channel,
        "language": state.language,
        "agent": state.agent,
        "hot": state.hot,
        "held_out": state.held_out,
        "waiting_since": _iso(state.waiting_since),
        "updated_at": _iso(state.updated_at),
        "priority": {"score": state.score, "queue": state.queue, "reasons": state.reasons},
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
