"""A desk of made conversations, so that pages are tested without a store and without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from pipeline.vocabulary import Labels, load_vocabulary
from serving.answers import Abstention
from serving.explain import Explanation, Rule, Unit
from serving.live.conversations import NotThere
from serving.live.judging import Judge
from serving.policy import load_policy
from serving.review.accounts import Reviewer, Role
from serving.review.desk import Desk
from serving.review.estimates import Estimate, HeadQuality, Quality, Week
from serving.review.labelling import Labelling
from serving.review.listing import Choices, Chosen, Counts, Page, Row, View
from serving.review.sessions import Forged, Session, SignedOut, WrongPassword
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
from serving.review.trends import By, Figures, Part, Point, Trend
from serving.review.verdicts import Saved, VerdictForm

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
PASSWORD = "a long enough password"
CSRF = "token-of-the-session"
INJECTION = "<script>window.owned=1</script><img src=x onerror='window.owned=1'>{{7*7}} https://evil.example/x"

PEOPLE = {
    name: Reviewer(name, name.capitalize(), role, NOW, None)
    for name, role in (("rita", Role.REVIEWER), ("lena", Role.LEAD), ("sam", Role.REVIEWER))
}


@dataclass(frozen=True)
class PretendSession:
    reviewer: Reviewer
    csrf: str = CSRF
    expires_at: datetime = NOW + timedelta(hours=12)

    def check(self, token: str | None) -> None:
        if token != self.csrf:
            raise Forged


@dataclass(frozen=True)
class PretendSignedIn:
    session: PretendSession
    value: str
    max_age: int = 3600

    def cookie(self, secure: bool) -> str:
        return f"simmer_desk={self.value}; Path=/review; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")


@dataclass
class PretendSessions:
    """The cookie is the reviewer's name."""

    over: bool = False

    async def find(self, cookie: str | None) -> PretendSession:
        if self.over or cookie not in PEOPLE:
            raise SignedOut
        return PretendSession(PEOPLE[cookie])

    async def sign_in(self, identifier: str, password: str, caller: str, before: str | None = None) -> PretendSignedIn:
        if identifier not in PEOPLE or password != PASSWORD:
            raise WrongPassword
        self.over = False
        return PretendSignedIn(PretendSession(PEOPLE[identifier]), identifier)

    async def sign_out(self, cookie: str | None) -> None:
        self.over = True


SAID = (
    ("customer", "Hi, my parcel 4471 was due on Monday. Where is it?"),
    ("agent", "Good morning! Let me look at that for you. It is with the carrier."),
    ("customer", "That is what I was told on Monday, and on Tuesday. This is the third time I ask."),
    ("bot", "Rate this chat from 1 to 5."),
    (
        "customer",
        "I want to speak to a manager NOW or I cancel everything.\n\n> On Mon, Support wrote:\n> It is on its way",
    ),
    ("agent", "I am sorry. I am passing you on to my colleague."),
    ("customer", INJECTION),
    ("customer", "😡😡"),
)
LABELS: Sequence[Labels] = (
    {"sentiment": "neutral", "frustration": 0, "urgency": 1, "signals": (), "satisfaction": 3},
    {"sentiment": "negative", "frustration": 2, "urgency": 1, "signals": ("repeat_contact",), "satisfaction": 2},
    {
        "sentiment": "very_negative",
        "frustration": 3,
        "urgency": 2,
        "signals": ("escalation_request", "churn_threat"),
        "satisfaction": 1,
    },
    {"sentiment": "neutral", "frustration": 1, "urgency": 1, "signals": (), "satisfaction": 2},
)
HEATS = (
    Heat(0.3, 1.0, 0.22, 0.12, 0.30, 0.05),
    Heat(1.9, 1.1, 0.61, 0.44, 0.72, 0.71),
    Heat(2.8, 1.8, 0.78, 0.60, 0.88, 0.99),
    Heat(1.2, 1.2, 0.40, 0.27, 0.52, 0.3),
)


def _head(head: str, kind: str, values: str, levels: Sequence[int] | None = None) -> HeadHints:
    hints = [Hint(value, f"the rule of {value.replace('_', ' ')}") for value in values.split()]
    return HeadHints(head, kind, f"How {head} is meant", hints, levels)


HINTS = (
    _head("frustration", "ordinal", "none mild strong severe", (0, 1, 2, 3)),
    _head("urgency", "ordinal", "low normal high critical", (0, 1, 2, 3)),
    _head("sentiment", "categorical", "very_negative negative neutral positive very_positive"),
    _head("satisfaction", "ordinal", "1 2 3 4 5", (1, 2, 3, 4, 5)),
    _head(
        "signals",
        "multilabel",
        "escalation_request churn_threat public_or_legal_threat repeat_contact vulnerable abuse",
    ),
)


def turns() -> list[TurnView]:
    """What was said, each customer turn with what the model says of it; the last is one it does not judge."""
    made, judged = [], iter(zip(LABELS, HEATS, strict=True))
    for place, (role, text) in enumerate(SAID):
        labels, heat = (next(judged, (None, None))) if role == "customer" else (None, None)
        cuts = (Removed("quoted", "> On Mon, Support wrote:\n> It is on its way"),) if "wrote:" in text else ()
        abstained = "no_words" if role == "customer" and labels is None else None
        at = NOW - timedelta(minutes=40 - 3 * place)
        made.append(TurnView(f"m{place}", role, at, text, cuts, labels, {}, abstained, heat, place == 2, None, (), ()))
    return made


def view(**changes: Any) -> ConversationView:
    """A conversation in which a customer boils over."""
    plain = ConversationView(
        id="c-17",
        version=4,
        channel="chat",
        language="en",
        status="assigned",
        agent="ana",
        queue="senior",
        score=83,
        peak=91,
        hot=True,
        flagged=True,
        held_out=False,
        waiting_since=NOW - timedelta(minutes=12),
        outcome=None,
        model="7",
        meta={"plan": "premium", "waiting_minutes": 12},
        turns=turns(),
        turned="m2",
        rules=(
            RuleView("frustration_severe", 0.6, 0.81, True),
            RuleView("churn_threat", 0.4, 0.77, True),
            RuleView("long_wait", None, None, False),
        ),
        history=(
            Step(NOW - timedelta(minutes=20), "key desk", "claimed", {"agent": "ana", "queue": "senior"}),
            Step(
                NOW - timedelta(minutes=5), "policy", "queue moved", {"from": "standard", "reasons": ["churn_threat"]}
            ),
        ),
        verdicts=(),
        mine=None,
        hidden=0,
        review="open",
        round="first",
        asked_of=None,
        adjudicates=False,
        may_ask=False,
        sample=None,
        intervals=True,
        hints=HINTS,
        token="form-token-0123456789",
        opened_at=NOW,
    )
    return replace(plain, **changes)


def disputed() -> ConversationView:
    """Two reviewers differ on the second customer turn."""
    first: Labels = {**LABELS[1], "frustration": 2}
    second: Labels = {**LABELS[1], "frustration": 1}
    given = (
        TurnVerdictView("rita", "first", NOW, first, True),
        TurnVerdictView("sam", "second", NOW, second, False),
    )
    made = turns()
    made[2] = replace(made[2], verdicts=given, disputed=("frustration",))
    whole = (
        VerdictView("rita", "first", NOW, True, True, "Clear case."),
        VerdictView("sam", "second", NOW, True, False, None),
    )
    return view(id="c-20", turns=made, verdicts=whole, review="disputed", adjudicates=True)


def row(number: int, **changes: Any) -> Row:
    """A row of the list."""
    plain = Row(
        id=f"c-{number}",
        channel="chat",
        language="en",
        status="open",
        queue="senior",
        peak=95 - number,
        heat=0.9,
        reasons=("frustration_strong", "repeat_contact"),
        hot=number % 3 == 0,
        first_hot_at=NOW,
        updated_at=NOW - timedelta(minutes=number),
        model="7",
        review=("open", "reviewed", "asked", "disputed", "agreed", "settled")[number % 6],
        sample="random" if number % 7 == 0 else None,
        snippet=SAID[(2, 4, 6)[number % 3]][1],
    )
    return replace(plain, **changes)


@dataclass
class PretendListing:
    rows: list[Row] = field(default_factory=lambda: [row(number) for number in range(1, 31)])
    saved_views: list[View] = field(default_factory=lambda: [View("Legal, mail", "channel=email&review=open")])
    asked: list[Chosen] = field(default_factory=list)

    async def page(self, chosen: Chosen, reviewer: Reviewer, after: str | None = None, limit: int = 50) -> Page:
        self.asked.append(chosen)
        start = int(after or 0)
        found = [r for r in self.rows if chosen.channel in (None, r.channel)]
        rows = found[start : start + min(limit, 20)]
        return Page(rows, str(start + len(rows)) if start + len(rows) < len(found) else None)

    async def choices(self) -> Choices:
        return Choices(
            queues=("critical", "senior", "priority", "standard"),
            channels=("chat", "email", "voice"),
            languages=("en", "de"),
            signals=("frustration_severe", "churn_threat"),
            models=("6", "7"),
            statuses=("open", "assigned", "resolved"),
            reviews=("open", "mine", "reviewed", "asked", "agreed", "disputed", "settled"),
        )

    async def counts(self, reviewer: Reviewer) -> Counts:
        return Counts(open=1000, sampled=12, asked=3, disputed=1)

    async def views(self, reviewer: Reviewer) -> list[View]:
        return self.saved_views

    async def save_view(self, reviewer: Reviewer, name: str, chosen: Chosen) -> None:
        self.saved_views.append(View(name, chosen.query()))

    async def remove_view(self, reviewer: Reviewer, name: str) -> None:
        self.saved_views = [one for one in self.saved_views if one.name != name]


@dataclass
class PretendReading:
    views: dict[str, ConversationView] = field(default_factory=dict)

    async def view(self, identifier: str, reviewer: Reviewer) -> ConversationView:
        if identifier not in self.views:
            raise NotThere(identifier)
        return self.views[identifier]

    async def words(self, identifier: str, message: str) -> Explanation:
        if message == "m7":
            why = Abstention(reason="no_words", detail="no letter in it")
            return Explanation(text="", units=[], heads={}, rules=[], abstained=why)
        words = SAID[2][1].split()
        units = [Unit(text="Where is it?", start=0, end=12, turn=0)]
        units += [Unit(text=word, start=0, end=len(word), turn=None) for word in words]
        deltas = [0.1, *((0.6, 0.3)[n % 2] if n > 9 else -0.05 * (n % 3) for n in range(len(words)))]
        heads = {"sentiment": [-d for d in deltas], "frustration": deltas, "urgency": [0.0] * len(units)}
        rules = [Rule(reason="frustration_strong", weight=0.45, strength=0.7, fired=True)]
        return Explanation(text=" ".join(words), units=units, heads=heads, rules=rules)


@dataclass
class PretendVerdicts:
    saved: list[tuple[str, VerdictForm, Reviewer]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    failure: Exception | None = None

    async def save(self, conversation: str, form: VerdictForm, reviewer: Reviewer) -> Saved:
        if self.failure is not None:
            raise self.failure
        self.saved.append((conversation, form, reviewer))
        return Saved("first", "reviewed", 1, replayed=False)

    async def ask(self, conversation: str, reviewer: Reviewer, of: str | None = None) -> None:
        self.asked.append(conversation)


class PretendEstimates:
    async def quality(self, weeks: int = 12) -> Quality:
        found = [
            Week(
                date(2026, 1, 5) + timedelta(weeks=n),
                Estimate(0.8 + 0.01 * n, 0.7, 0.9, 30) if n != 4 else Estimate(None, 0, 1, 0),
                Estimate(0.85, 0.8, 0.9, 140),
                30 + n,
                48.0,
            )
            for n in range(9)
        ]
        heads = [
            HeadQuality(head.head, Estimate(0.9, 0.86, 0.93, 480), None if n == 3 else 0.81 - 0.1 * n, 40)
            for n, head in enumerate(HINTS)
        ]
        return Quality(
            precision=Estimate(0.87, 0.81, 0.92, 190),
            recall=Estimate(0.74, 0.61, 0.85, 190),
            drawn=210,
            reviewed=190,
            heads=heads,
            hot_alpha=0.78,
            seconds=46.0,
            weeks=found,
        )


class PretendTrends:
    async def read(self, days: int = 84, by: By = "week", channel: str | None = None) -> Trend:
        points = [
            Point(date(2025, 12, 8) + timedelta(weeks=n), _figures(400 + 37 * (n * n % 11), n)) for n in range(12)
        ]
        total = _figures(5200, 6)
        return Trend(
            by, total, points, [Part("chat", total), Part("email", total)], [Part("en", total), Part(None, total)]
        )


def _figures(volume: int, n: int) -> Figures:
    hot = volume // (7 + n % 3)
    return Figures(
        conversations=volume,
        hot=hot,
        answered=volume - 20,
        answer_minutes=6.0 + n % 5,
        saved=hot // 2,
        lost=hot // 5,
        foreseen=hot // 4,
        missed=hot // 9,
        false_alarms=hot // 8,
    )


@dataclass
class Pretend:
    """The desk with its parts at hand."""

    secure: bool = False
    sessions: PretendSessions = field(default_factory=PretendSessions)
    listing: PretendListing = field(default_factory=PretendListing)
    reading: PretendReading = field(default_factory=PretendReading)
    verdicts: PretendVerdicts = field(default_factory=PretendVerdicts)
    estimates: PretendEstimates = field(default_factory=PretendEstimates)
    trends: PretendTrends = field(default_factory=PretendTrends)

    def labelling(self) -> Labelling:
        vocabulary = load_vocabulary()
        return Labelling(Judge(load_policy(vocabulary), vocabulary), None)

    def __post_init__(self) -> None:
        second = view(id="c-18", round="second", hidden=1, review="asked")
        for one in (view(), second, disputed(), view(id="c 1?#%", may_ask=True)):
            self.reading.views[one.id] = one

    @property
    def desk(self) -> Desk:
        return cast(Desk, self)


__all__ = ["CSRF", "INJECTION", "PASSWORD", "Pretend", "Session", "disputed", "turns", "view"]
