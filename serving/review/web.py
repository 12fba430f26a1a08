"""What every page of the desk shares: headers, templates, the JSON twin, failures. Knows nothing of what pages show.

A page is a context, a dataclass that a template shows to people; asked for `application/json`, or under a name that
ends in `.json`, the same context is the answer. A browser is told to run nothing, to load nothing and to style nothing
but the desk's own files, and to show no page within another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.vocabulary import load_vocabulary
from serving.codes import CODES
from serving.review import figures
from serving.review.sessions import Session
from serving.review.shown import Removed, TurnVerdictView

BASE = "/review"
HERE = Path(__file__).parent
STATIC = HERE / "static"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # `no-referrer` would take away the origin by which forms are known
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
NEVER, ALWAYS = "no-store", "public, max-age=31536000, immutable"
_INSIDE = re.compile(r"/review/[!-\[\]-~]*")  # a path of ours: no backslash, no control character


class Guarded:
    """Puts the desk's headers on every answer; what is not a versioned file is kept by nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fixed = scope["path"].startswith(f"{BASE}/static/") and scope["query_string"].startswith(b"v=")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["cache-control"] = ALWAYS if fixed and message["status"] == 200 else NEVER
            await send(message)

        await self._app(scope, receive, guarded)


class Render:
    """Contexts into answers: the page, the part of it that htmx asked for, or the JSON twin."""

    def __init__(self) -> None:
        self._pages = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._pages.globals |= {"base": BASE, "version": _version(), "figures": figures, "at": address}
        self._pages.filters |= {
            "words": words,
            "percent": percent,
            "iso": iso,
            "share": share,
            "minutes": minutes,
            "day_of": day_of,
            "pieces": pieces,
            "newest": newest,
            "telling": telling,
        }

    def page(
        self, request: Request, template: str, context: Any, session: Session | None = None, status: int = 200
    ) -> Response:
        """A context as what the request asks for. The twin is told nothing of the session."""
        if wants_json(request):
            return as_json(context, status)
        return self.html(template, {"page": context, "session": session}, status)

    def html(self, template: str, given: Mapping[str, Any], status: int = 200) -> Response:
        """A template as it is."""
        return HTMLResponse(self._pages.get_template(template).render(given), status)

    def failure(
        self,
        request: Request,
        status: int,
        message: str,
        session: Session | None = None,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A refusal, as a page, as the part that htmx puts beside what it was asked from, or in the API's shape."""
        number = getattr(request.state, "request_id", "")
        problem = {"code": CODES.get(status, "error"), "message": message, "field": field, "request_id": number}
        if wants_json(request):
            answer = as_json({"error": problem}, status)
        else:
            template = "refused.html" if from_htmx(request) else "failure.html"
            answer = self.html(template, {"page": problem, "status": status, "session": session}, status)
        answer.headers.update(headers or {})
        return answer


def wants_json(request: Request) -> bool:
    """Whether the twin is asked for: by the name, or by a caller that takes JSON and not HTML."""
    accept = request.headers.get("accept", "")
    return request.url.path.endswith(".json") or ("application/json" in accept and "text/html" not in accept)


def from_htmx(request: Request) -> bool:
    """Whether a part of a page is asked for."""
    return request.headers.get("hx-request") == "true"


def as_json(context: Any, status: int = 200) -> Response:
    """A context of dataclasses as JSON."""
    body = orjson.dumps(context, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, media_type="application/json")


def same_site(request: Request) -> bool:
    """Whether a form comes from a page of ours, as far as the browser says."""
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def inside(path: str | None) -> str:
    """A path to go to after signing in: one of the desk's, the list where it is none."""
    plain = path is not None and _INSIDE.fullmatch(path) and "//" not in urlsplit(path).path
    return path if plain and path else f"{BASE}/conversations"


def address(*parts: str, query: str = "") -> str:
    """The address of a page: `address("conversations", id)`."""
    path = "/".join((BASE, *(quote(part, safe="") for part in parts)))
    return f"{path}?{query}" if query else path


def words(code: str | None) -> str:
    """A code as people read it: `long_wait` is "long wait"."""
    return (code or "").replace("_", " ").replace("-", " ")


def percent(value: float | None) -> str:
    """A share as whole percent."""
    return "–" if value is None else f"{100 * value:.0f} %"


def share(part: float, whole: float) -> str:
    """A part of a whole as whole percent."""
    return percent(part / whole if whole else None)


def minutes(value: float | None, unit: str = "min") -> str:
    """Minutes, or hours where they are many."""
    if value is None:
        return "–"
    if unit == "s":
        return f"{value:.0f} s" if value < 120 else minutes(value / 60)
    return f"{value:.0f} min" if value < 120 else f"{value / 60:.1f} h"


def iso(moment: datetime) -> str:
    """A time as machines read it."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def pieces(text: str, removed: Sequence[Removed]) -> list[tuple[str, str | None]]:
    """A message in the order it was written, each piece with why it was not scored, None where it was.

    What was removed is looked for in order; a piece that does not stand in the text as it was kept comes last.
    """
    found: list[tuple[str, str | None]] = []
    late: list[tuple[str, str | None]] = []
    for one in removed:
        cut = one.text.strip()
        before, there, after = text.partition(cut) if cut else ("", "", "")
        if there:
            found += [(before, None), (cut, one.kind)]
            text = after
        elif cut:
            late.append((cut, one.kind))
    return [(piece.strip("\n"), why) for piece, why in (*found, (text, None), *late) if piece.strip()]


def newest(verdicts: Sequence[TurnVerdictView]) -> list[TurnVerdictView]:
    """Of each reviewer and round the last verdict; what came before it was taken back."""
    return list({(one.reviewer, one.round): one for one in verdicts}.values())


def telling(reasons: Sequence[str]) -> list[str]:
    """Reasons without those that a stronger one implies: who is severely frustrated is so strongly, too."""
    weaker: set[str] = set()
    for ladder in _ladders():
        weaker.update([step for step in ladder if step in reasons][:-1])
    return [reason for reason in reasons if reason not in weaker]


def day_of(day: date) -> str:
    """A day as it stands under a plot."""
    return f"{day.day} {day:%b}"


@cache
def _ladders() -> list[list[str]]:
    """The reasons of each ordinal head, weakest first."""
    heads = load_vocabulary().heads.items()
    return [[f"{name}_{value}" for value in head.values] for name, head in heads if head.kind == "ordinal"]


def _version() -> str:
    """Changes with any of the files that browsers keep."""
    held = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        held.update(path.read_bytes())
    return held.hexdigest()[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | frozenset | set):
        return list(value)
    raise TypeError(type(value).__name__)
