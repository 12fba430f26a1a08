"""Signatures of webhooks: the scheme's own example, and nothing changed, old or unsigned is believed."""

from __future__ import annotations

import base64
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import ConfigError
from serving.events.signing import (
    ID,
    SIGNATURE,
    TIMESTAMP,
    Secret,
    SecretSource,
    SignatureInvalid,
    SigningConfig,
    parse_secret,
    read_secrets,
    sign,
    verify,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
OURS, OTHER = Secret(b"o" * 32), Secret(b"x" * 32)
BODY = b'{"type": "flagged"}'


def written(value: bytes) -> str:
    return "whsec_" + base64.b64encode(value).decode()


def test_the_example_that_the_scheme_publishes() -> None:
    secret = parse_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.binary(), st.text(string.ascii_letters + "09_-", min_size=1, max_size=64))
def test_what_was_signed_is_believed(body: bytes, message_id: str) -> None:
    headers = sign([OURS], message_id, NOW, body)
    assert verify([OURS], headers, body, NOW) == message_id
    assert verify([OTHER, OURS], {name.title(): value for name, value in headers.items()}, body, NOW) == message_id


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_no_other_body_is(signed: bytes, came: bytes) -> None:
    headers = sign([OURS], "a", NOW, signed)
    if signed != came:
        with pytest.raises(SignatureInvalid):
            verify([OURS], headers, came, NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {ID: "b"},
        {ID: ""},
        {ID: "a.1"},
        {TIMESTAMP: str(int(NOW.timestamp()) + 1)},
        {TIMESTAMP: "x"},
        {TIMESTAMP: "-1"},
        {TIMESTAMP: "9" * 12},
        {TIMESTAMP: "9" * 5000},
        {TIMESTAMP: "١٢"},
        {SIGNATURE: ""},
        {SIGNATURE: "v1,"},
        {SIGNATURE: "v1a,AAAA"},
        {SIGNATURE: "v1,é"},
        {SIGNATURE: "v1," + "A" * 43 + "="},
    ],
)
def test_nothing_that_was_changed_is_believed(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid):
        verify([OURS], {**sign([OURS], "a", NOW, BODY), **changed}, BODY, NOW)


def test_headers_that_are_missing_are_not_believed() -> None:
    headers = sign([OURS], "a", NOW, BODY)
    for name in headers:
        with pytest.raises(SignatureInvalid):
            verify([OURS], {key: value for key, value in headers.items() if key != name}, BODY, NOW)


def test_nothing_old_and_nothing_of_the_future_is_believed() -> None:
    headers = sign([OURS], "a", NOW, BODY)
    for minutes in (-5, 5):
        assert verify([OURS], headers, BODY, NOW + timedelta(minutes=minutes)) == "a"
    for minutes in (-6, 6):
        with pytest.raises(SignatureInvalid, match="ago"):
            verify([OURS], headers, BODY, NOW + timedelta(minutes=minutes))
    assert verify([OURS], headers, BODY, NOW + timedelta(minutes=6), tolerance=timedelta(hours=1)) == "a"


def test_while_a_secret_is_changed_both_receivers_believe() -> None:
    headers = sign([OTHER, OURS], "a", NOW, BODY)
    assert headers[SIGNATURE].count("v1,") == 2
    for secrets in ([OURS], [OTHER], [OURS, OTHER]):
        assert verify(secrets, headers, BODY, NOW) == "a"
    with pytest.raises(SignatureInvalid):
        verify([Secret(b"z" * 32)], headers, BODY, NOW)
    with pytest.raises(SignatureInvalid):
        verify([], headers, BODY, NOW)


def test_what_cannot_be_signed() -> None:
    for message_id in ("", "a.b", "a b", "x" * 65, "a\n"):
        with pytest.raises(ValueError, match="id"):
            sign([OURS], message_id, NOW, BODY)
    with pytest.raises(ValueError, match="secret"):
        sign([], "a", NOW, BODY)


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_!!!!", written(b"short"), written(b"x" * 65), "é" * 40, "whsec_A"]
)
def test_a_secret_is_long_enough_and_never_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as refused:
        parse_secret(text)
    assert not text or text not in str(refused.value)


def test_secrets_come_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(written(OTHER.value) + "\n")
    config = SigningConfig(secrets=(SecretSource(env="NEW"), SecretSource(file=file)))
    assert read_secrets(config, {"NEW": written(OURS.value)}) == (OURS, OTHER)
    assert "ooo" not in repr(OURS)


def test_a_secret_that_is_not_there_is_named_by_its_place(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for source, where in (
        (SecretSource(env="MISSING"), r"\$MISSING: the variable is not set"),
        (SecretSource(env="BAD"), r"\$BAD: a secret has"),
        (SecretSource(file=tmp_path / "none"), "none: No such file"),
        (SecretSource(file=binary), "binary: "),
    ):
        with pytest.raises(ConfigError, match=where) as refused:
            read_secrets(SigningConfig(secrets=(source,)), {"BAD": "c2hvcnQ="})
        assert "c2hvcnQ" not in str(refused.value)


def test_a_place_is_one_place() -> None:
    for given_ in ({}, {"env": "A", "file": "b"}, {"env": ""}, {"secret": "whsec_"}):
        with pytest.raises(ValidationError):
            SecretSource.model_validate(given_)
    with pytest.raises(ValidationError):
        SigningConfig(secrets=())
