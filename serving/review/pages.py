"""The desk's pages: which address shows what, who may come in, and where a form leads.

    app.mount("/review", desk_pages(open_desk(service)))

A view builds a context from the desk and hands it on; nothing here knows SQL, scoring or what a page looks like. The
session cookie opens every page; API keys open none. A form that fails keeps what was typed: htmx leaves the page as it
is and shows the message beside the button, and without it the fields come back on a page that sends them again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from serving.explain import Explanation
from serving.review.desk import Desk
from serving.review.estimates import Quality
from serving.review.figures import Moment
from serving.review.listing import Choices, Chosen, Counts, FilterInvalid, Page, View
from serving.review.refusals import Refusal, refusal_of
from serving.review.sessions import COOKIE, Forged, Session, SignedOut, WrongPassword, cleared
from serving.review.shown import ConversationView
from serving.review.trends import By, Trend
from serving.review.verdicts import NotAllowed, parse_form
from serving.review.web import (
    BASE,
    STATIC,
    Guarded,
    Render,
    address,
    as_json,
    from_htmx,
    inside,
    same_site,
    wants_json,
)
from serving.security.rates import caller_of
from serving.security.verifier import TooManyAttempts
from serving.store.faults import StoreUnavailable

logger = logging.getLogger("simmer.review")

PART = 60  # turns of a conversation on one page
SPANS = (28, 84, 182, 364)  # days that the team page may show
MOST_FIELDS = 20_000  # of a form
WORKING = frozenset({"open", "asked", "disputed"})  # lists that a verdict takes a conversation out of
ORDER = ("frustration", "urgency", "sentiment", "satisfaction", "signals")  # in which keys go through the labels
SAVED = ("reviewed", "asked", "agreed", "disputed", "settled")

Get = Callable[[Request, Session], Awaitable[Response]]
Post = Callable[[Request, Session, FormData], Awaitable[Response]]


@dataclass(frozen=True)
class ListPage:
    """The list under a filter. `query` is the filter as text, `seen` tells whether the rows are still these."""

    chosen: Chosen
    query: str
    page: Page
    counts: Counts
    choices: Choices
    views: Sequence[View]
    after: str | None
    seen: str


@dataclass(frozen=True)
class ConversationPage:
    """A conversation; of long ones the page shows part `part` of `parts`. Blind: no word of what others say."""

    view: ConversationView
    blind: bool
    part: int
    parts: int
    back: str  # the list's filter, to go back to
    saved: str | None  # what the verdict that was just saved led to
    moments: Sequence[Moment]


@dataclass(frozen=True)
class WordsPage:
    """What moved the scores of a message."""

    message: str
    explanation: Explanation


@dataclass(frozen=True)
class QualityPage:
    """What verdicts say of the scorer."""

    quality: Quality


@dataclass(frozen=True)
class TeamPage:
    """What happened over time, within one channel or all."""

    trend: Trend
    days: int
    channel: str | None
    channels: Sequence[str]


@dataclass(frozen=True)
class SignInPage:
    """Signing in, and where to go then; `form` is what was typed when a session ended, as a form is encoded."""

    next: str
    form: str = ""
    message: str = ""


@dataclass(frozen=True)
class ResendPage:
    """A form that could not be taken, to be sent again."""

    action: str
    fields: Sequence[tuple[str, str]]
    message: str


def desk_pages(desk: Desk) -> Starlette:
    """The desk as an application."""
    pages = Pages(desk, Render())
    return Starlette(
        routes=[*pages.routes(), Mount("/static", StaticFiles(directory=STATIC))],
        middleware=[Middleware(Guarded)],
        exception_handlers={HTTPException: pages.refused},
    )


class Pages:
    """The views."""

    def __init__(self, desk: Desk, render: Render) -> None:
        self._desk, self._render = desk, render

    def routes(self) -> list[Route]:
        """Every page. Names that end in .json are twins, and so is each page for who accepts JSON alone."""
        one = "/conversations/{id}"
        return [
            Route("/", self._home),
            Route("/sign-in", self._sign_in_page, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            self._post("/sign-out", self._sign_out),
            self._get("/conversations", self._list),
            self._get("/conversations.json", self._list),
            self._get("/quality", self._quality),
            self._get("/quality.json", self._quality),
            self._get("/team", self._team),
            self._get("/team.json", self._team),
            self._post("/views", self._save_view),
            self._post("/views/remove", self._remove_view),
            self._get(f"{one}/view.json", self._conversation),
            self._get(f"{one}/words", self._words),
            self._post(f"{one}/verdict", self._save),
            self._post(f"{one}/second", self._ask),
            self._get(one, self._conversation),
        ]

    # Coming in

    def _get(self, path: str, view: Get) -> Route:
        async def endpoint(request: Request) -> Response:
            async def seen(session: Session) -> Response:
                return await view(request, session)

            return await self._within(request, seen)

        return _route(path, "GET", endpoint)

    def _post(self, path: str, post: Post) -> Route:
        async def endpoint(request: Request) -> Response:
            form = await request.form(max_fields=MOST_FIELDS)

            async def seen(session: Session) -> Response:
                if not same_site(request):
                    raise Forged
                session.check(_text(form, "csrf") or request.headers.get("x-csrf-token"))
                return await post(request, session, form)

            return await self._within(request, seen, form)

        return _route(path, "POST", endpoint)

    async def _within(
        self, request: Request, seen: Callable[[Session], Awaitable[Response]], form: FormData | None = None
    ) -> Response:
        """Whoever is signed in sees; what goes wrong is said in words, and keeps the form."""
        session: Session | None = None
        try:
            session = await self._desk.sessions.find(request.cookies.get(COOKIE))
            return await seen(session)
        except SignedOut:
            return self._signed_out(request, form)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status >= 500:
                logger.log(logging.WARNING if refusal.status == 503 else logging.ERROR, "%s", error, exc_info=error)
            return self._failed(request, refusal, session, form)

    def _failed(self, request: Request, refusal: Refusal, session: Session | None, form: FormData | None) -> Response:
        shown = session is not None and not from_htmx(request) and not wants_json(request)
        if form is not None and shown and same_site(request) and refusal.status not in (404, 410):
            page = ResendPage(request.url.path, _kept(form), refusal.message)
            return self._render.page(request, "resend.html", page, session, refusal.status)
        return self._render.failure(
            request, refusal.status, refusal.message, session, refusal.field, dict(refusal.headers)
        )

    def _signed_out(self, request: Request, form: FormData | None) -> Response:
        """Ask to sign in; a form is kept, a page is come back to."""
        message = "Your session has ended. Sign in to go on; nothing of what you typed is lost."
        if wants_json(request):
            return self._render.failure(request, 401, "sign in at /review/sign-in")
        if from_htmx(request):
            page = SignInPage(request.url.path, "", message)
            template = "sign_in_here.html" if form is not None else "signed_out.html"
            return self._render.page(request, template, page, status=401)
        if form is None or not same_site(request):
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            query = urlencode({"next": here}) if form is None else ""
            return RedirectResponse(address("sign-in", query=query), 303)
        page = SignInPage(request.url.path, urlencode(_kept(form)), message)
        return self._render.page(request, "sign_in.html", page, status=401)

    async def refused(self, request: Request, error: Exception) -> Response:
        """What no route takes."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        told = {404: "There is no such page.", 405: "This address takes no such request."}
        headers = error.headers if isinstance(error, HTTPException) else None
        return self._render.failure(
            request, status, told.get(status, "The request could not be read."), None, None, headers
        )

    # Accounts

    async def _home(self, request: Request) -> Response:
        return RedirectResponse(address("conversations", query="review=open"), 303)

    async def _sign_in_page(self, request: Request) -> Response:
        return self._render.page(request, "sign_in.html", SignInPage(inside(request.query_params.get("next"))))

    async def _sign_in(self, request: Request) -> Response:
        form = await request.form()
        page = SignInPage(inside(_text(form, "next")), _text(form, "form") or "")
        before = request.cookies.get(COOKIE)
        try:
            if not same_site(request):
                raise Forged
            signed = await self._desk.sessions.sign_in(
                (_text(form, "id") or "").strip(), _text(form, "password") or "", caller_of(request.scope), before
            )
        except (WrongPassword, TooManyAttempts, Forged, StoreUnavailable) as error:
            refusal = refusal_of(error)
            template = "sign_in_here.html" if from_htmx(request) else "sign_in.html"
            answer = self._render.page(request, template, replace(page, message=refusal.message), status=refusal.status)
            answer.headers.update(dict(refusal.headers))
            return answer
        answer = self._welcome(request, page, signed.session)
        answer.headers.append("set-cookie", signed.cookie(self._desk.secure))
        return answer

    def _welcome(self, request: Request, page: SignInPage, session: Session) -> Response:
        if from_htmx(request):
            return self._render.page(request, "signed_in.html", page, session)
        if page.form:
            fields = parse_qsl(page.form, keep_blank_values=True, max_num_fields=MOST_FIELDS)
            resend = ResendPage(page.next, fields, "You are signed in again. What you had typed has not been sent yet.")
            return self._render.page(request, "resend.html", resend, session)
        return RedirectResponse(page.next, 303)

    async def _sign_out(self, request: Request, session: Session, form: FormData) -> Response:
        await self._desk.sessions.sign_out(request.cookies.get(COOKIE))
        answer = RedirectResponse(address("sign-in"), 303)
        answer.headers.append("set-cookie", cleared(self._desk.secure))
        return answer

    # The list

    async def _list(self, request: Request, session: Session) -> Response:
        chosen, me = Chosen.parse(request.query_params), session.reviewer
        after = request.query_params.get("after") or None
        page = await self._desk.listing.page(chosen, me, after)
        seen = _digest(page)
        if from_htmx(request) and request.query_params.get("seen") == seen:
            return Response(status_code=204)
        shown = ListPage(
            chosen=chosen,
            query=chosen.query(),
            page=page,
            counts=await self._desk.listing.counts(me),
            choices=await self._desk.listing.choices(),
            views=await self._desk.listing.views(me),
            after=after,
            seen=seen,
        )
        return self._render.page(request, "rows.html" if from_htmx(request) else "list.html", shown, session)

    async def _save_view(self, request: Request, session: Session, form: FormData) -> Response:
        chosen = _chosen(_text(form, "query"))
        await self._desk.listing.save_view(session.reviewer, (_text(form, "name") or "").strip(), chosen)
        return RedirectResponse(address("conversations", query=chosen.query()), 303)

    async def _remove_view(self, request: Request, session: Session, form: FormData) -> Response:
        await self._desk.listing.remove_view(session.reviewer, _text(form, "name") or "")
        return RedirectResponse(address("conversations", query=_chosen(_text(form, "query")).query()), 303)

    # The conversation

    async def _conversation(self, request: Request, session: Session) -> Response:
        view = await self._desk.reading.view(request.path_params["id"], session.reviewer)
        view = replace(view, hints=sorted(view.hints, key=lambda one: [*ORDER, one.head].index(one.head)))
        blind = view.hidden > 0
        if blind:
            view = blinded(view)
        parts = max(1, -(-len(view.turns) // PART))
        saved = request.query_params.get("saved")
        page = ConversationPage(
            view=view,
            blind=blind,
            part=_part(request.query_params.get("part"), view, parts),
            parts=parts,
            back=_chosen(request.query_params.get("from")).query(),
            saved=saved if saved in SAVED else None,
            moments=() if blind else moments(view),
        )
        return self._render.page(request, "conversation.html", page, session)

    async def _words(self, request: Request, session: Session) -> Response:
        identifier, message = request.path_params["id"], request.query_params.get("message", "")
        view = await self._desk.reading.view(identifier, session.reviewer)
        if view.hidden:
            raise NotAllowed("What moved the scores is shown once your own verdict is given.")
        explanation = await self._desk.reading.words(identifier, message)
        return self._render.page(request, "words.html", WordsPage(message, explanation), session)

    async def _save(self, request: Request, session: Session, form: FormData) -> Response:
        identifier, me = request.path_params["id"], session.reviewer
        if _text(form, "reviewer") != me.id:
            raise NotAllowed(f"You are signed in as {me.name} now, and this form was opened by another. Reload it.")
        verdict = parse_form(_fields(form), self._desk.labelling().heads())
        saved = await self._desk.verdicts.save(identifier, verdict, me)
        if wants_json(request):
            return as_json(saved)
        back = _chosen(_text(form, "back"))
        onward = await self._next(identifier, back, session) if _text(form, "then") == "next" else identifier
        query = urlencode({"from": back.query(), "saved": saved.review})
        if onward is None:
            return _onward(request, address("conversations", query=back.query()))
        return _onward(request, address("conversations", onward, query=query))

    async def _next(self, identifier: str, back: Chosen, session: Session) -> str | None:
        """The hottest conversation of the list that is still to be reviewed; None where the list is done."""
        if back.review not in WORKING:
            back = replace(back, of="flagged" if back.of == "any" else back.of, review="open")
        page = await self._desk.listing.page(back, session.reviewer, None, 2)
        return next((row.id for row in page.rows if row.id != identifier), None)

    async def _ask(self, request: Request, session: Session, form: FormData) -> Response:
        identifier = request.path_params["id"]
        await self._desk.verdicts.ask(identifier, session.reviewer, _text(form, "of") or None)
        if wants_json(request):
            return as_json({"review": "asked"})
        query = urlencode({"from": _chosen(_text(form, "back")).query(), "saved": "asked"})
        return _onward(request, address("conversations", identifier, query=query))

    # Reports

    async def _quality(self, request: Request, session: Session) -> Response:
        quality = await self._desk.estimates.quality()
        return self._render.page(request, "quality.html", QualityPage(quality), session)

    async def _team(self, request: Request, session: Session) -> Response:
        asked = request.query_params
        days = next((span for span in SPANS if str(span) == asked.get("days")), 84)
        by: By = "day" if asked.get("by") == "day" else "week"
        channels = (await self._desk.listing.choices()).channels
        channel = next((name for name in channels if name == asked.get("channel")), None)
        trend = await self._desk.trends.read(days, by, channel)
        return self._render.page(request, "team.html", TeamPage(trend, days, channel, channels), session)


def blinded(view: ConversationView) -> ConversationView:
    """The conversation as a second reviewer sees it before they have judged.

    Neither what the first reviewer said nor what the model says: who reads either before judging agrees with it more
    often than they would have, and agreement between people would measure that.
    """
    turns = [
        replace(turn, labels=None, said=None, abstained=None, heat=None, verdicts=(), disputed=())
        for turn in view.turns
    ]
    return replace(view, turns=turns, turned=None, rules=(), verdicts=(), score=0, peak=0, hot=False, intervals=False)


def moments(view: ConversationView) -> list[Moment]:
    """The customer's turns for the timeline."""
    numbered = [(number, turn) for number, turn in enumerate(view.turns, 1) if turn.role == "customer"]
    return [
        Moment(f"{number}", f"turn-{number}", turned=turn.message == view.turned)
        if turn.heat is None
        else Moment(
            label=f"{number}",
            anchor=f"turn-{number}",
            frustration=turn.heat.frustration,
            urgency=turn.heat.urgency,
            boil_over=turn.heat.boil_over,
            low=turn.heat.low,
            high=turn.heat.high,
            turned=turn.message == view.turned,
        )
        for number, turn in numbered
    ]


def _route(path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    """A route that metrics and traces can name."""

    async def named(request: Request) -> Response:
        request.scope["route"] = named_route
        return await endpoint(request)

    route = Route(path, named, methods=[method])
    named_route = Route(BASE + path, named, methods=[method])
    return route


def _onward(request: Request, target: str) -> Response:
    return Response(headers={"hx-redirect": target}) if from_htmx(request) else RedirectResponse(target, 303)


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) else None


def _fields(form: FormData) -> list[tuple[str, str]]:
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def _kept(form: FormData) -> list[tuple[str, str]]:
    """The fields that are sent again, with another session's token."""
    return [(name, value) for name, value in _fields(form) if name not in ("csrf", "password")]


def _chosen(query: str | None) -> Chosen:
    """A filter that a page of ours wrote; without one that can be read, that of no filter."""
    given: Mapping[str, str] = dict(parse_qsl(query or ""))
    try:
        return Chosen.parse(given)
    except FilterInvalid:
        return Chosen.parse({})


def _part(asked: str | None, view: ConversationView, parts: int) -> int:
    """Which part of the turns: the one asked for, else where the customer turned hot, else the last."""
    if asked is not None and asked.isascii() and asked.isdigit() and 1 <= int(asked[:6]) <= parts:
        return int(asked)
    turned = next((place for place, turn in enumerate(view.turns) if turn.message == view.turned), None)
    return parts if turned is None else turned // PART + 1


def _digest(page: Page) -> str:
    """Tells one state of the rows from another, in few characters."""
    return f"{zlib.crc32(orjson.dumps(page)):08x}"
