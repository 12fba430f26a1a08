"""What a request is called in metrics and traces: its route's template and its method, never its path."""

from __future__ import annotations

from starlette.types import Scope

OTHER = "other"  # whatever a caller can invent, so that names stay few
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def route_template(scope: Scope) -> str:
    """The template of the route that took a request, `/v1/conversations/{id}`, and "other" where none did."""
    template = getattr(scope.get("route"), "path_format", None)
    return template if isinstance(template, str) else OTHER


def method_of(scope: Scope) -> str:
    """The method of a request, and "other" where HTTP knows none such."""
    method = str(scope["method"])
    return method if method in METHODS else OTHER
