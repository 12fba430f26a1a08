"""The application: routes, middleware and failures put together.

POST /v1/score    one conversation, or {"conversations": [...]}
GET  /v1/model    which model speaks, and how good it was on held-back conversations
GET  /healthz     the process answers
GET  /readyz      the model answers: golden inputs are scored and compared
"""

from __future__ import annotations

from fastapi import FastAPI

from serving.api.failures import ERRORS, add_failures
from serving.api.middleware import RequestNumber
from serving.api.operation import operation_routes
from serving.api.score import score_routes
from serving.config import ServeConfig
from serving.scorer import Scorer


def create_app(scorer: Scorer, config: ServeConfig) -> FastAPI:
    """The application over one scorer."""
    app = FastAPI(
        title="Simmer",
        version="1",
        summary="Sentiment, frustration, urgency and priority of support conversations",
        responses={k: v for k, v in ERRORS.items() if k in (400, 413, 422)},
    )
    add_failures(app)
    app.add_middleware(RequestNumber)
    app.include_router(score_routes(scorer, config))
    app.include_router(operation_routes(scorer))
    return app
