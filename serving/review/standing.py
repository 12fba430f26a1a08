"""What the verdicts on a conversation come to: which labels hold, where reviewers differ, what is still wanted.

Of one reviewer the newest verdict on a message counts, and of adjudications the newest of all. Where all say the same
of a head, that holds; where they differ, nothing does until somebody has settled it. Pure: knows neither SQL nor HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.store.reviews import Request, Verdict

ADJUDICATION = "adjudication"
WHOLE = None  # the message of a verdict on the conversation as a whole
HOT, ROUTING = "hot", "routing"  # what is said of the whole


@dataclass(frozen=True)
class Standing:
    """Where a conversation stands. Keys are messages, None the whole; values by head, or `hot` and `routing`."""

    reviewers: tuple[str, ...]  # who gave a verdict, in order; adjudicators do not count
    state: str  # open, reviewed, asked, agreed, disputed, settled
    holds: Mapping[str | None, Mapping[str, Any]]
    disputed: Mapping[str | None, tuple[str, ...]]
    settled: bool  # whether anybody adjudicated

    def round_of(self, reviewer: str) -> str:
        """Which verdict this reviewer would give."""
        return "first" if not self.reviewers or self.reviewers[0] == reviewer else "second"

    def may_see(self, reviewer: str, leads: bool) -> bool:
        """Whether a reviewer may see what others said: once their own verdict cannot be swayed by it."""
        return reviewer in self.reviewers or (leads and len(self.reviewers) > 1 and self.state != "asked")


def standing(verdicts: Sequence[Verdict], request: Request | None) -> Standing:
    """What verdicts, oldest first, come to."""
    opinions = [verdict for verdict in verdicts if verdict.round != ADJUDICATION]
    decisions = {v.message: said_in(v) for v in verdicts if v.round == ADJUDICATION}
    reviewers = tuple(dict.fromkeys(verdict.reviewer for verdict in opinions))
    holds: dict[str | None, dict[str, Any]] = {message: dict(said) for message, said in decisions.items()}
    disputed: dict[str | None, tuple[str, ...]] = {}
    for message, by_reviewer in newest(opinions).items():
        decided = holds.setdefault(message, {})
        differ = []
        for head, values in _by_head(by_reviewer):
            if head not in decided and all(value == values[0] for value in values):
                decided[head] = values[0]
            elif head not in decided:
                differ.append(head)
        if differ:
            disputed[message] = tuple(differ)
    state = _state(reviewers, bool(disputed), bool(decisions), request)
    return Standing(reviewers, state, {m: said for m, said in holds.items() if said}, disputed, bool(decisions))


def newest(verdicts: Sequence[Verdict]) -> dict[str | None, dict[str, Verdict]]:
    """The newest verdict by message and reviewer, of verdicts oldest first."""
    found: dict[str | None, dict[str, Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.message, {})[verdict.reviewer] = verdict
    return found


def unswayed(verdicts: Sequence[Verdict]) -> dict[str | None, dict[str, Verdict]]:
    """As `newest`, but of each reviewer what they said before they could see what another had said."""
    opinions = [verdict for verdict in verdicts if verdict.round != ADJUDICATION]
    first_form: dict[str, str] = {}
    for verdict in opinions:
        first_form.setdefault(verdict.reviewer, verdict.form)
    kept = []
    for verdict in opinions:
        others = [v for v in opinions if v.reviewer != verdict.reviewer and v.id < verdict.id]
        if verdict.form == first_form[verdict.reviewer] or not others:
            kept.append(verdict)
    return newest(kept)


def said_in(verdict: Verdict) -> dict[str, Any]:
    """Everything that a verdict says, by head; of the whole also whether the routing was right."""
    said = labels_of(verdict)
    return said if verdict.routing_right is None else said | {ROUTING: verdict.routing_right}


def labels_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict's labels in their one form; the store gives back a list for what was a tuple."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in verdict.labels.items()}


def _by_head(by_reviewer: Mapping[str, Verdict]) -> Iterator[tuple[str, list[Any]]]:
    said = [said_in(verdict) for verdict in by_reviewer.values()]
    for head in dict.fromkeys(name for one in said for name in one):
        yield head, [one[head] for one in said if head in one]


def _state(reviewers: Sequence[str], disputed: bool, settled: bool, request: Request | None) -> str:
    if not reviewers:
        return "open"
    if disputed:
        return "disputed"
    if request is not None and (len(reviewers) < 2 if request.of is None else request.of not in reviewers):
        return "asked"
    if settled:
        return "settled"
    return "agreed" if len(reviewers) > 1 else "reviewed"
