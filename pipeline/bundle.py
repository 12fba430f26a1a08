"""The bundle: what training hands to serving. Where its files lie, what its card says, and how it is loaded.

A bundle whose files do not match their hashes, or whose golden inputs score otherwise than they did at export,
is refused by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from tokenizers import Tokenizer

from pipeline.config import Config
from pipeline.conversation import Conversation
from pipeline.encode import Encoder, EncodingConfig, Input, read_turn
from pipeline.engine import OpenVinoEngine
from pipeline.files import sha256
from pipeline.heads import Calibration, Floats
from pipeline.predictor import Predictor
from pipeline.reference import Reference
from pipeline.vocabulary import Vocabulary

FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """File names inside a bundle."""

    card: str = "bundle.json"
    engine: str = "model.int8.xml"
    engine_weights: str = "model.int8.bin"
    original: str = "model.onnx"
    tokenizer: str = "tokenizer.json"
    manifest: str = "SHA256SUMS"
    registration: str = "registration.json"

    @property
    def hashed(self) -> tuple[str, ...]:
        """What the manifest covers, in its order. A registration comes later and is not part of it."""
        return (self.card, self.engine, self.engine_weights, self.original, self.tokenizer)


LAYOUT = Layout()


class Golden(Config):
    """A conversation whose last customer turn scored these probabilities at export, in vocabulary order."""

    conversation: Conversation
    probabilities: tuple[float, ...]


class Card(Config):
    """`bundle.json`: everything that serving must know and a reader may want to know about a model.

    `reference` is what live messages are compared with; a bundle from before there was one has None.
    """

    format: int
    profile: str
    encoder: str
    languages: tuple[str, ...]
    labels: Vocabulary
    encoding: EncodingConfig
    calibration: Calibration
    metrics: dict[str, Any]
    slices: dict[str, Any]
    data_hash: str
    git_revision: str
    mlflow_run_id: str
    golden_tolerance: float
    golden: tuple[Golden, ...]
    reference: Reference | None = None


class BundleRefused(ValueError):
    """A bundle that must not serve; the message names the file or the golden input."""


@dataclass(frozen=True)
class Bundle:
    """A loaded, checked bundle. `version` is the registry's, None where it was never registered."""

    path: Path
    card: Card
    digest: str
    version: str | None
    predictor: Predictor

    def replay_golden(self) -> None:
        """Score the golden inputs. Raises BundleRefused where one no longer scores as it did at export."""
        for golden, given in zip(self.card.golden, self.golden_inputs(), strict=True):
            self.check_golden(golden, self.predictor.predict([given])[0])

    def golden_inputs(self) -> list[Input]:
        """What is scored of each golden conversation: its last customer turn."""
        conversations = [golden.conversation for golden in self.card.golden]
        return [read_turn(c, c.customer_turns()[-1], self.card.encoding) for c in conversations]

    def check_golden(self, golden: Golden, scored: Floats) -> None:
        """Raise BundleRefused where these probabilities are not the golden input's."""
        drift = float(np.abs(scored - np.array(golden.probabilities)).max())
        if not drift <= self.card.golden_tolerance:
            raise BundleRefused(
                f"{self.path}: golden input {golden.conversation.id} drifted by {drift:.4f} "
                f"(at most {self.card.golden_tolerance})"
            )


def load_bundle(path: Path, threads: int = 1, streams: int = 1) -> Bundle:
    """The bundle in a folder, hashes checked and golden inputs replayed. Raises BundleRefused.

    The engine runs `streams` batches at a time with `threads` threads each.
    """
    path = path.resolve()  # a link that is swapped meanwhile would mix two bundles
    digest = check_manifest(path)
    card = read_card(path / LAYOUT.card)
    encoder = Encoder(Tokenizer.from_file(str(path / LAYOUT.tokenizer)), card.encoding)
    engine = OpenVinoEngine(path / LAYOUT.engine, threads, streams)
    bundle = Bundle(
        path, card, digest, _version(path, digest), Predictor(encoder, engine, card.labels, card.calibration)
    )
    bundle.replay_golden()
    return bundle


def write_manifest(path: Path) -> str:
    """Write the manifest of a folder's bundle files; the bundle's digest, `sha256:…` of the manifest."""
    lines = [f"{sha256(path / name)}  {name}\n" for name in LAYOUT.hashed]
    (path / LAYOUT.manifest).write_text("".join(lines), encoding="ascii")
    return bundle_digest(path)


def check_manifest(path: Path) -> str:
    """The bundle's digest. Raises BundleRefused naming the first file that is missing, unlisted or changed."""
    manifest = path / LAYOUT.manifest
    if not manifest.is_file():
        raise BundleRefused(f"{path}: no {LAYOUT.manifest}; is this a bundle?")
    listed = _listed(manifest)
    for name in LAYOUT.hashed:
        if name not in listed:
            raise BundleRefused(f"{path}: {LAYOUT.manifest} does not list {name}")
        if not (path / name).is_file():
            raise BundleRefused(f"{path}: {name} is missing")
        if sha256(path / name) != listed[name]:
            raise BundleRefused(f"{path}: {name} was changed after export")
    return bundle_digest(path)


def _listed(manifest: Path) -> dict[str, str]:
    rows = (line.split(maxsplit=1) for line in manifest.read_text("utf-8", "replace").splitlines())
    return {row[1]: row[0] for row in rows if len(row) == 2}


def bundle_digest(path: Path) -> str:
    """What names a bundle: the SHA-256 of its manifest."""
    return "sha256:" + sha256(path / LAYOUT.manifest)


def read_card(path: Path) -> Card:
    """The card in a file, hashes unchecked. Raises BundleRefused."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        raise BundleRefused(f"{path}: not JSON") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise BundleRefused(f"{path}: bundle format {found}, this version reads {FORMAT}")
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleRefused(
            f"{path}: {error.errors(include_url=False)[0]['loc']}: {error.errors()[0]['msg']}"
        ) from None


def _version(path: Path, digest: str) -> str | None:
    registration = path / LAYOUT.registration
    if not registration.is_file():
        return None
    try:
        values = json.loads(registration.read_bytes())
        return str(values["version"]) if values["bundle"] == digest else None
    except (ValueError, KeyError, TypeError):
        raise BundleRefused(f"{registration}: says neither which bundle it is of nor which version") from None
