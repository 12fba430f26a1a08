"""The service put together: what is refused while it is loaded leaves nothing running."""

from __future__ import annotations

import threading

import pytest

from serving import service
from serving.config import ServeConfig
from serving.policy import PolicyMismatch


def streams() -> int:
    return sum(thread.name == "simmer-stream" for thread in threading.enumerate())


def test_a_bundle_that_the_policy_does_not_fit_leaves_no_stream(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PolicyMismatch("the model has no head frustration")

    before = streams()
    monkeypatch.setattr(service, "Policy", refused)
    with pytest.raises(PolicyMismatch):
        service.open_service(config)
    assert streams() == before
