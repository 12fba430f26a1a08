"""Bodies that nobody should send: each a clear refusal, or taken for what it says; nothing is stored wrongly."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.config import ServeConfig
from serving.live.bodies import MOST_META, MOST_TURNS, kept_text
from serving.store.audit import verify
from serving.store.conversations import read
from tests.serving.api.asking import assert_failure, say, talk
from tests.serving.conftest import Served, serving

NUL, HALF = "\\u0000", "\\ud83d"
SECRET = "kneecap"
INJECTIONS = [
    "'; DROP TABLE messages; --",
    '" OR ""="',
    "1); DELETE FROM conversations WHERE (1=1",
    "<script>alert('kneecap')</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %>",
    "%s %d %(name)s {0} {name}",
    "../../../../etc/passwd",
    "$(rm -rf /) `id` | cat",
    "\r\nSet-Cookie: evil=1",
    "\u202e\u200b\ufeff\u0007\x1b[31m",
    "\U0001f600 \U0001f9d1\u200d\U0001f9b0",
    "a\u0300" * 300,
]


@pytest.fixture
def path() -> str:
    """The address of a conversation that nobody has spoken in."""
    return f"/v1/conversations/r-{uuid4().hex[:8]}"


def post(client: TestClient, path: str, body: str | bytes) -> Any:
    return client.post(f"{path}/messages", content=body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "{",
        '{"id": "a", "text": "b"',
        '{"id": "a", "text": "b"} {}',
        '{"id": "a", "text": "b",}',
        "{'id': 'a', 'text': 'b'}",
        '{"id": "a", "text": "b" // why\n}',
        b'{"id": "a", "text": "\xff\xfe"}',
        b"\xff\xfe\x00",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"id": "a", "text": "b", "meta": ' + '{"a":' * 20 + "1" + "}" * 20 + "}",
        '{"id": "a", "text": ' + "9" * 5_000 + "}",
        b"\x00" * 100,
    ],
)
def test_what_is_no_json_is_refused(client: TestClient, path: str, body: str | bytes) -> None:
    assert_failure(post(client, path, body), 400, "bad_request")
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("[]", None),
        ("null", None),
        ('"hello"', None),
        ("5", None),
        ("{}", "id"),
        ('{"id": "a"}', "text"),
        ('{"id": "", "text": "b"}', "id"),
        ('{"id": 5, "text": "b"}', "id"),
        ('{"id": true, "text": "b"}', "id"),
        ('{"id": "..", "text": "b"}', "id"),
        ('{"id": "a/b", "text": "b"}', "id"),
        ('{"id": "a\\nb", "text": "b"}', "id"),
        (f'{{"id": "a{NUL}", "text": "b"}}', "id"),
        (f'{{"id": "a{HALF}", "text": "b"}}', "id"),
        ('{"id": "' + "a" * 201 + '", "text": "b"}', "id"),
        ('{"id": "a", "text": null}', "text"),
        ('{"id": "a", "text": 5}', "text"),
        ('{"id": "a", "text": true}', "text"),
        ('{"id": "a", "text": ["b"]}', "text"),
        ('{"id": "a", "text": "' + "b" * 100_001 + '"}', "text"),
        ('{"id": "a", "text": "b", "role": "boss"}', "role"),
        ('{"id": "a", "text": "b", "role": null}', "role"),
        ('{"id": "a", "text": "b", "channel": "fax"}', "channel"),
        (f'{{"id": "a", "text": "b", "language": "en{NUL}"}}', "language"),
        ('{"id": "a", "text": "b", "language": "' + "e" * 21 + '"}', "language"),
        ('{"id": "a", "text": "b", "mood": "bad"}', "mood"),
        (f'{{"id": "a", "text": "b", "{HALF}": 1}}', "\ufffd"),
        ('{"id": "a", "text": "b", "at": 1700000000}', "at"),
        ('{"id": "a", "text": "b", "at": "yesterday"}', "at"),
        ('{"id": "a", "text": "b", "at": "2026-02-30T00:00:00Z"}', "at"),
        ('{"id": "a", "text": "b", "at": "0001-01-01T00:00:00+14:00"}', "at"),
        ('{"id": "a", "text": "b", "at": "1969-12-31T23:59:59Z"}', "at"),
        ('{"id": "a", "text": "b", "at": "9999-12-31T23:59:59-14:00"}', "at"),
        ('{"id": "a", "text": "b", "at": "99999-01-01T00:00:00Z"}', "at"),
        ('{"id": "a", "text": "b", "at": true}', "at"),
        ('{"id": "a", "text": "b", "meta": []}', "meta"),
        ('{"id": "a", "text": "b", "meta": {"a": []}}', "meta.a"),
        ('{"id": "a", "text": "b", "meta": {"a": {}}}', "meta.a"),
        ('{"id": "a", "text": "b", "meta": {"a": NaN}}', "meta.a"),
        ('{"id": "a", "text": "b", "meta": {"a": -Infinity}}', "meta.a"),
        ('{"id": "a", "text": "b", "meta": {"a": 1e400}}', "meta.a"),
        ('{"id": "a", "text": "b", "meta": {"a": 1' + "0" * 400 + "}}", "meta.a"),
        ('{"id": "a", "text": "b", "meta": {"a": "' + "x" * 1_001 + '"}}', "meta.a"),
        (json.dumps({"id": "a", "text": "b", "meta": {str(n): n for n in range(MOST_META + 1)}}), "meta"),
    ],
)
def test_what_is_no_message_is_refused_by_field(client: TestClient, path: str, body: str, field: str | None) -> None:
    assert_failure(post(client, path, body), 422, "invalid", field)
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "turns"),
        (talk(), "turns"),
        ({"turns": {}}, "turns"),
        (talk({"role": "customer"}), "turns.0.text"),
        (talk({"text": "hello"}), "turns.0.role"),
        (talk(say("a"), say("b", id="..")), "turns.1.id"),
        (talk(*[say("a")] * (MOST_TURNS + 1)), "turns"),
        (talk(say("a", labels={})), "turns.0.labels"),
        (talk(say("a"), id="c1"), "id"),
    ],
)
def test_what_is_no_conversation_is_refused_by_field(
    client: TestClient, path: str, body: dict[str, Any], field: str
) -> None:
    assert_failure(client.put(path, json=body), 422, "invalid", field)
    assert client.get(path).status_code == 404


def test_a_conversation_grows_to_its_limit_and_no_further(client: TestClient, path: str) -> None:
    longest = talk(*[say(f"number {n}", role="agent") for n in range(MOST_TURNS)])
    assert client.put(path, json=longest).status_code == 201
    assert client.put(path, json=longest).status_code == 200
    assert_failure(post(client, path, '{"id": "one more", "text": "hello"}'), 409, "conflict", message="2,000")
    assert len(client.get(path).json()["turns"]) == MOST_TURNS


def test_what_is_said_of_a_conversation_has_a_limit_too(client: TestClient, path: str) -> None:
    for number in range(2):
        body = talk(say("a"), meta={f"{number}-{n}": n for n in range(MOST_META)})
        taken = client.put(path, json=body)
    assert_failure(taken, 409, "conflict", message="50 keys")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00Z"),
        ("2026-03-01T09:00:00", "2026-03-01T09:00:00Z"),
        ("2026-03-01T09:00:00+05:30", "2026-03-01T03:30:00Z"),
        ("2026-03-01T09:00:00.123456789Z", "2026-03-01T09:00:00.123456Z"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
    ],
)
def test_times_are_taken_for_what_they_say(client: TestClient, path: str, given: str, kept: str) -> None:
    assert post(client, path, json.dumps({"id": "a", "text": "b", "at": given})).status_code == 201
    assert client.get(path).json()["turns"][0]["at"] == kept


@pytest.mark.parametrize("at", ["2190-01-01T00:00:00Z", "9998-12-31T23:59:59+14:00"])
def test_a_time_that_has_not_come_counts_as_none(client: TestClient, path: str, at: str) -> None:
    assert post(client, path, json.dumps({"id": "a", "text": "b", "at": at})).status_code == 201
    assert client.get(path).json()["turns"][0]["at"] < "2190"
    assert post(client, path, json.dumps({"id": "a", "text": "b", "at": at})).status_code == 200


def test_values_keep_their_kind(served: Served, path: str) -> None:
    meta = {"yes": True, "no": None, "one": 1, "half": 0.5, "text": "5", "large": 2**53, "negative": -0.0}
    body = json.dumps({"id": "a", "text": "b", "meta": meta})
    assert post(served.client, path, body).status_code == 201
    with served.service.database.reading.begin() as connection:
        record = read(connection, path.rpartition("/")[2])
    assert record is not None
    assert repr(record.state.meta) == repr(meta)


def test_of_names_that_come_twice_the_last_counts(client: TestClient, path: str) -> None:
    assert post(client, path, '{"id": "a", "text": "one", "text": "two"}').status_code == 201
    assert client.get(path).json()["turns"][0]["text"] == "two"


def test_half_an_emoji_is_marked_as_lost(client: TestClient, path: str) -> None:
    assert post(client, path, f'{{"id": "a", "text": "so sad {HALF}"}}').status_code == 201
    assert client.get(path).json()["turns"][0]["text"] == "so sad \ufffd"


@pytest.fixture
def anywhere(config: ServeConfig, store_url: str) -> Iterator[Served]:
    """A service over each database in turn."""
    store = config.store.model_copy(update={"url": store_url})
    with serving(config.model_copy(update={"store": store})) as served:
        yield served


def test_what_looks_like_code_is_text(anywhere: Served, caplog: pytest.LogCaptureFixture) -> None:
    client, path = anywhere.client, "/v1/conversations/'; DROP TABLE conversations; --"
    with caplog.at_level(logging.DEBUG, "simmer"):
        for number, text in enumerate([*INJECTIONS, f"null \0 {SECRET}", "x" * 100_000]):
            body = {"id": f"{number} ' OR 1=1", "text": text, "meta": {"a\u2028'\"": text[:900], "b": text[:1]}}
            assert client.post(f"{path}/messages", json=body).status_code == 201
        agent = {"languages": ["en"], "cap": 5, "name": INJECTIONS[0], "skills": INJECTIONS[1:2]}
        assert client.put("/v1/agents/' OR 1=1 --", json=agent).status_code == 201
        assert client.post(f"{path}/claim", json={"agent": "' OR 1=1 --"}).status_code == 200
        assert client.post(f"{path}/resolve", json={"outcome": f"{INJECTIONS[3]}\0"}).status_code == 200
    found = client.get(path)
    assert found.headers["content-type"] == "application/json"
    kept = [turn["text"] for turn in found.json()["turns"]]
    assert kept == [kept_text(text) for text in [*INJECTIONS, f"null \0 {SECRET}", "x" * 100_000]]
    assert client.get("/v1/agents/' OR 1=1 --").json()["agent"]["name"] == INJECTIONS[0]
    said = [record.getMessage() + str(record.__dict__.get("reason")) for record in caplog.records]
    assert not any(SECRET in line or "DROP TABLE messages" in line for line in said)
    with anywhere.service.database.reading.begin() as connection:
        assert verify(connection).broken is None


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), role=st.sampled_from(["customer", "agent", "bot", "system"]))
def test_any_text_is_kept_as_it_may_be(client: TestClient, text: str, role: str) -> None:
    path = f"/v1/conversations/any-{uuid4().hex}"
    body = json.dumps({"id": "a", "text": text, "role": role})
    first, again = post(client, path, body), post(client, path, body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert client.get(path).json()["turns"][0]["text"] == kept_text(text)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["id", "text", "role", "at", "channel", "language", "meta", "turns", "agent", "outcome", "cap"]
)
ROUTES = ["/messages", "", "/claim", "/assign", "/resolve"]


@settings(max_examples=150, deadline=None)
@given(
    body=st.dictionaries(FIELDS, ANYTHING, max_size=6) | ANYTHING,
    right=st.dictionaries(st.sampled_from(["id", "text"]), st.text(min_size=1, max_size=9), max_size=2),
    route=st.sampled_from(ROUTES),
)
def test_any_json_is_taken_or_refused(client: TestClient, body: Any, right: dict[str, str], route: str) -> None:
    given = json.dumps({**body, **right} if isinstance(body, dict) else body)
    answer = client.request("POST" if route else "PUT", f"/v1/conversations/wild{route}", content=given)
    assert answer.status_code in (200, 201, 400, 404, 409, 422), answer.text
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"code", "message", "field", "request_id"}
