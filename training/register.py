"""Put the bundle that the pipeline made last into MLflow's registry and move an alias to it.

    python -m training.register [--alias champion] [--otherwise challenger] [--current]

`@champion` is moved only to a bundle whose behaviour passes the gate (`training.behaviour`). One that does not pass can
be registered without an alias, or under the alias named by `--otherwise`, which nothing serves. The registered model
loads with `mlflow.pyfunc.load_model("models:/simmer@champion")`. A bundle that is registered already is not registered
again. Its version is written beside the bundle, where the scorer reads it. Whether a bundle is as good as the champion
is another question: see `training.promote`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import mlflow

from pipeline.bundle import LAYOUT, check_manifest
from pipeline.config import ROOT, load_config
from pipeline.stage import BUNDLE, METRICS, read_json, write_json
from training.behaviour import BehaviourConfig, Gate
from training.cards import DATA_CARD, MODEL_CARD
from training.registry import CHAMPION, DIGEST_TAG, NAME, Move, Registry, Version, open_registry, who
from training.tracking import resume_run

CODE = ("pipeline", "serving", "configs")


class PromotionRefused(ValueError):
    """A bundle to which no alias may be moved; the message says why, and names the families that fail too often."""


def register(bundle: Path, alias: str | None, gated: bool = True, current: bool = False) -> str:
    """Register a bundle unless it is registered, and point the alias at it; its version.

    `gated` asks the behaviour suite before `@champion` moves. As `@champion`, or where nothing serves yet, the bundle
    becomes `models/current`. Raises BundleRefused, and PromotionRefused before anything is registered.
    """
    digest = check_manifest(bundle)
    if alias == CHAMPION and gated:
        check_behaviour(digest, gate_of(bundle))
    registry = open_registry()
    version = registry.find(digest) or log_bundle(registry, bundle, digest)
    if alias == CHAMPION:
        move = Move("register", who(), "trained, and within the bounds of the behaviour suite", datetime.now(UTC))
        registry.crown(version, registry.at(CHAMPION), move)
    elif alias:
        registry.point(alias, version)
    if current or not registry.current.exists():
        registry.install(version)
    write_json(bundle / LAYOUT.registration, {"name": NAME, "version": version.number, "bundle": digest})
    return version.number


def gate_of(bundle: Path) -> Gate:
    """What the bundle's profile lets pass."""
    profile = read_json(bundle / LAYOUT.card)["profile"]
    return load_config(BehaviourConfig, "train.yaml", "behaviour", profile).gate


def check_behaviour(digest: str, gate: Gate, metrics: Path = METRICS / "behaviour.json") -> None:
    """Raise PromotionRefused unless the metrics file is this bundle's and every family stays within its bound."""
    measured = read_json(metrics) if metrics.is_file() else {}
    if measured.get("bundle") != digest:
        raise PromotionRefused(f"metrics/{metrics.name} is not of this bundle; run dvc repro")
    unknown = gate.unknown(measured["families"])
    if unknown:
        raise PromotionRefused(f"bounds of families that were not measured: {', '.join(unknown)}")
    broken = gate.broken(measured["families"])
    if broken:
        raise PromotionRefused("behaviour out of bounds: " + "; ".join(broken))


def log_bundle(registry: Registry, bundle: Path, digest: str) -> Version:
    """Log the bundle as a model of its run, with its cards and the code that runs it, and register it; the version."""
    client = registry.client
    about = description_of(digest)
    with resume_run(), quiet():
        for card in (MODEL_CARD, DATA_CARD) if about else ():
            mlflow.log_artifact(str(card), "cards")
        info = mlflow.pyfunc.log_model(
            name="bundle",
            python_model=str(ROOT / "serving" / "pyfunc.py"),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(ROOT / name) for name in CODE],
            pip_requirements=[str(ROOT / "constraints.txt")],
            registered_model_name=NAME,
        )
    version = str(info.registered_model_version)
    client.set_model_version_tag(NAME, version, DIGEST_TAG, digest)
    if about:
        client.update_model_version(NAME, version, description=about)
    return registry.numbered(version)


def description_of(digest: str, metrics: Path = METRICS / "cards.json") -> str | None:
    """What the cards say of a bundle in short; None where the cards are of another bundle, or there are none."""
    cards = read_json(metrics) if metrics.exists() else {}
    return str(cards["summary"]) if cards.get("bundle") == digest else None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's hints about signatures and type hints off the screen; answers have a schema of their own."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def main() -> None:
    """Register the bundle; exit status 1 where the alias may not be moved to it."""
    parser = argparse.ArgumentParser(description="Put a bundle into MLflow's registry.")
    parser.add_argument("--alias", help="alias to move to it, such as champion")
    parser.add_argument("--otherwise", help="alias to move instead where the gate refuses, such as challenger")
    parser.add_argument("--model", type=Path, default=BUNDLE, help="folder of the bundle")
    parser.add_argument("--current", action="store_true", help="make it models/current whatever the gate says")
    given = parser.parse_args()
    alias = given.alias
    try:
        version = register(given.model, alias, current=given.current)
    except PromotionRefused as error:
        if not given.otherwise:
            sys.exit(f"error: @{alias} stays where it is: {error}")
        print(f"@{alias} stays where it is: {error}")
        alias = given.otherwise
        version = register(given.model, alias, gated=False, current=given.current)
    print(f"models:/{NAME}/{version}" + (f" is @{alias}" if alias else ""))


if __name__ == "__main__":
    main()
