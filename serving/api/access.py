"""Who may ask: keys, scopes and rates. Off only where the service listens on loopback, and then for this machine alone.

The review desk under /review asks for no key: its pages are opened by a session of its own.

A route says under `x-scope` what it asks of a key; a test holds that every route under /v1 does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.failures import Failure
from serving.security.keys import LOOPBACK, Principal, ScopeMissing
from serving.security.keys import Scope as KeyScope
from serving.security.limits import LocalOnly, refuse
from serving.security.rates import RateLimiter, caller_of, retry_after
from serving.security.verifier import TooManyAttempts, Unauthenticated, Verifier, bearer
from serving.store.faults import StoreUnavailable

_IDENTIFIER = re.compile(r"(?!\.\.?\Z)[\w.@:+-]{1,200}")  # what needs no closer look

OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
DESK = "/review"

SCORE, READ, REVIEW, ADMIN = ({"x-scope": scope.value} for scope in KeyScope)


class ScopedRoute(APIRoute):
    """A route that asks for the scope it declares."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, scope = super().get_route_handler(), (self.openapi_extra or {}).get("x-scope")
        if scope is None:
            return handle
        needed = KeyScope(scope)

        async def checked(request: Request) -> Response:
            try:
                request.state.principal.needs(needed)
            except ScopeMissing as error:
                raise Failure(403, str(error)) from None
            return await handle(request)

        return checked


class QuickRoute(ScopedRoute):
    """A scoped route whose endpoint needs only the request and the path: without a query FastAPI's reading is skipped.

    That reading costs a quarter of what an answer costs beside the model. What stands in the path is checked here.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        careful, endpoint = super().get_route_handler(), self.endpoint
        needed = KeyScope((self.openapi_extra or {})["x-scope"])

        async def quick(request: Request) -> Response:
            path = request.path_params
            if request.scope["query_string"] or not all(_IDENTIFIER.fullmatch(part) for part in path.values()):
                return await careful(request)
            if not request.state.principal.may(needed):
                return await careful(request)
            answer: Response = await endpoint(request, **path)
            return answer

        return quick


class Access:
    """Lets a request in with who sends it, or refuses: 401 without a key that counts, 429 above the rate."""

    def __init__(self, app: ASGIApp, verifier: Verifier | None, rates: RateLimiter) -> None:
        self._app, self._verifier, self._rates = app, verifier, rates
        self._local = LocalOnly(self._limited)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
        elif self._verifier is None:
            _remember(scope, LOOPBACK)
            await self._local(scope, receive, send)
        elif scope["path"] == DESK or scope["path"].startswith(f"{DESK}/"):
            await self._taken(caller_of(scope), scope, receive, send)
        else:
            await self._keyed(self._verifier, scope, receive, send)

    async def _keyed(self, verifier: Verifier, scope: Scope, receive: Receive, send: Send) -> None:
        token = bearer(Headers(scope=scope).get("authorization"))
        try:
            if token is None:
                raise Unauthenticated
            principal = await verifier.verify(token, caller_of(scope))
        except Unauthenticated:
            asked = (("www-authenticate", "Bearer"),)
            await refuse(scope, send, 401, "unauthenticated", "send a key: Authorization: Bearer simmer_…", asked)
        except TooManyAttempts as error:
            after = (("retry-after", retry_after(error.wait)),)
            await refuse(scope, send, 429, "too_many_requests", "too many wrong keys", after)
        except (StoreUnavailable, SQLAlchemyError):
            await refuse(scope, send, 503, "unavailable", "keys cannot be checked now", (("retry-after", "1"),))
        else:
            _remember(scope, principal)
            await self._limited(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal: Principal = scope["state"]["principal"]
        await self._taken(caller_of(scope) if principal is LOOPBACK else principal.key_id, scope, receive, send)

    async def _taken(self, caller: str, scope: Scope, receive: Receive, send: Send) -> None:
        wait = self._rates.take(caller)
        if wait:
            after = (("retry-after", retry_after(wait)),)
            await refuse(scope, send, 429, "too_many_requests", "above the rate that one caller may ask at", after)
        else:
            await self._app(scope, receive, send)


def _remember(scope: Scope, principal: Principal) -> None:
    scope.setdefault("state", {})["principal"] = principal
