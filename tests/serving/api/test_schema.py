"""Whatever fits the OpenAPI document or nearly does, in any order: no error of ours, and answers as declared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from serving.api import create_app
from serving.config import ServeConfig
from serving.security import keys
from serving.security.keys import Scope
from serving.security.rates import RateConfig
from serving.security.verifier import VerifierConfig
from serving.service import open_service
from serving.store.database import Database
from serving.store.schema import agents, conversations, events, messages

# a schema cannot say that a cursor is one that a page gave; keys have tests of their own
NOT_HERE = [positive_data_acceptance, ignored_auth]
BOUNDS: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),
}


@dataclass(frozen=True)
class Api:
    """The document of a service, which has a key that opens everything, and the store behind it."""

    schema: Any
    database: Database

    def forget(self) -> None:
        """Empty the store, so that each run finds the same."""
        with self.database.writing.begin() as connection:
            for table in (messages, conversations, agents, events):
                connection.execute(table.delete())


@pytest.fixture
def api(config: ServeConfig, store_url: str) -> Api:
    """A service over each database in turn. Schemathesis's plugin starts it, and stops it after the test."""
    patient = RateConfig(per_second=1e6, burst=1_000_000, callers=100)
    asked = {"host": "0.0.0.0", "keys": VerifierConfig(attempts=patient, all_attempts=patient, recheck_seconds=3600)}
    store = config.store.model_copy(update={"url": store_url})
    service = open_service(config.model_copy(update={**asked, "store": store}))
    with service.database.writing.begin() as connection:
        key, _ = keys.create(connection, "anything", [Scope.ADMIN], None, datetime.now(UTC))
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(service))
    schema.config.update(headers={"authorization": f"Bearer {key}"})
    return Api(schema.exclude(path="/v1/events"), service.database)  # a stream never ends


def test_single_requests(api: Api) -> None:
    for found in api.schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=30, **BOUNDS)
        @given(case=operation.as_strategy())
        def asked(case: Any) -> None:
            case.call_and_validate(excluded_checks=NOT_HERE)

        asked()


def test_requests_that_follow_each_other(api: Api) -> None:
    machine = api.schema.as_state_machine()

    class Lenient(machine):  # type: ignore[misc,valid-type]
        def setup(self) -> None:
            api.forget()

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            case.validate_response(response, excluded_checks=NOT_HERE)

    Lenient.run(settings=settings(max_examples=60, stateful_step_count=8, **BOUNDS))
