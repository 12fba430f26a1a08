"""Signatures of webhooks, by the Standard Webhooks scheme: a receiver can tell that Simmer sent it, and just now.

    webhook-id: msg_…            the same at every attempt to deliver
    webhook-timestamp: 1764547200
    webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">, one for each secret, space between

Secrets lie in environment variables or files that the configuration names, are written `whsec_<base64>`, and are
never stored. While a secret is changed both are named, so that receivers may change in their own time.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipeline.config import Config, ConfigError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE = timedelta(minutes=5)
MOST_SIGNATURES = 16
_SECRET_BYTES = range(24, 65)
_LONGEST_FILE = 1024
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dot: it parts what is signed
_TIME = re.compile(r"[0-9]{1,12}")


class SignatureInvalid(Exception):
    """A webhook that must not be believed; the message says why."""


@dataclass(frozen=True)
class Secret:
    """What sender and receiver share."""

    value: bytes = field(repr=False)


class SecretSource(Config):
    """Where a secret lies: in an environment variable or in a file."""

    env: str | None = Field(default=None, min_length=1)
    file: Path | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("name either env or file")
        return self


class SigningConfig(Config):
    """The secrets that sign: one, or several while they are changed."""

    secrets: tuple[SecretSource, ...] = Field(min_length=1, max_length=MOST_SIGNATURES)


def parse_secret(text: str) -> Secret:
    """The secret that a text writes. Raises ValueError, which does not repeat the text."""
    try:
        value = base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a secret is written whsec_ and base64") from None
    if len(value) not in _SECRET_BYTES:
        raise ValueError(f"a secret has {_SECRET_BYTES.start} to {_SECRET_BYTES.stop - 1} bytes")
    return Secret(value)


def read_secrets(config: SigningConfig, environment: Mapping[str, str]) -> tuple[Secret, ...]:
    """The secrets that the configuration names. Raises ConfigError."""
    return tuple(_read(source, environment) for source in config.secrets)


def sign(secrets: Sequence[Secret], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers that sign a body. Raises ValueError for an id with other characters than letters, digits, _ and -."""
    if not _ID.fullmatch(message_id):
        raise ValueError("the id of a webhook is 1 to 64 letters, digits, _ or -")
    if not secrets:
        raise ValueError("nothing can be signed without a secret")
    time = str(int(at.timestamp()))
    signatures = " ".join(f"v1,{_signature(secret, message_id, time, body)}" for secret in secrets)
    return {ID: message_id, TIMESTAMP: time, SIGNATURE: signatures}


def verify(
    secrets: Sequence[Secret],
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> str:
    """The id of a webhook that one of the secrets signed, no longer ago than `tolerance`. Raises SignatureInvalid.

    The body is the bytes that came, before anything reads them. What was seen before has the same id.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, time = given.get(ID, ""), given.get(TIMESTAMP, "")
    if not _ID.fullmatch(message_id) or not _TIME.fullmatch(time):
        raise SignatureInvalid("no webhook-id or no webhook-timestamp")
    expected = [_signature(secret, message_id, time, body).encode() for secret in secrets]
    found = [one[3:].encode() for one in given.get(SIGNATURE, "").split(" ")[:MOST_SIGNATURES] if one.startswith("v1,")]
    fits = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in found]
    if not any(fits):
        raise SignatureInvalid("no signature fits")
    if abs(now.timestamp() - int(time)) > tolerance.total_seconds():
        raise SignatureInvalid("signed too long ago, or in the future")
    return message_id


def _signature(secret: Secret, message_id: str, time: str, body: bytes) -> str:
    signed = hmac.digest(secret.value, f"{message_id}.{time}.".encode("ascii") + body, "sha256")
    return base64.b64encode(signed).decode("ascii")


def _read(source: SecretSource, environment: Mapping[str, str]) -> Secret:
    where = f"${source.env}" if source.env else str(source.file)
    try:
        return parse_secret(_text(source, environment))
    except OSError as error:
        raise ConfigError(f"the secret in {where}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"the secret in {where}: {error}") from None


def _text(source: SecretSource, environment: Mapping[str, str]) -> str:
    if source.file is not None:
        with source.file.open(encoding="ascii") as file:
            return file.read(_LONGEST_FILE)
    text = environment.get(source.env or "")
    if text is None:
        raise ValueError("the variable is not set")
    return text
