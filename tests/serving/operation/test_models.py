"""Another model takes over without a restart: whole requests, no half-written bundle, and no harm from a bad one."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import LAYOUT, Bundle, BundleRefused, bundle_digest, load_bundle, write_manifest
from pipeline.conversation import parse_row
from serving.operation.models import Models, ReloadConfig, load_candidate
from serving.operation.registry import Candidate, FolderSource, SourceUnavailable
from serving.policy import load_policy
from serving.scorer import Scorer, last_turn

QUICK = ReloadConfig(every_s=0.01, retry_s=60.0, retire_s=5.0)


@dataclass
class Named:
    """A source that names what it is told to."""

    key: str = "one"
    error: str | None = None

    def find(self) -> Candidate:
        if self.error:
            raise SourceUnavailable(self.error)
        return Candidate(Path(self.key), self.key, version=self.key)


@dataclass
class Shelf:
    """Loads names as models, refuses some, and remembers what was closed."""

    refused: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    hold: threading.Event | None = None

    def load(self, candidate: Candidate) -> str:
        self.loaded.append(candidate.key)
        if self.hold is not None:
            self.hold.wait(10)
        if candidate.key in self.refused:
            raise BundleRefused(f"{candidate.key} drifted")
        return candidate.key

    async def close(self, model: str) -> None:
        self.closed.append(model)


@pytest.fixture
def source() -> Named:
    return Named()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def models(source: Named, shelf: Shelf) -> Models[str]:
    return Models(source, shelf.load, shelf.close, QUICK)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def until(holds: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < 5
        await asyncio.sleep(0.005)


def test_a_first_model_that_cannot_be_had_is_an_error(source: Named, shelf: Shelf) -> None:
    shelf.refused.add("one")
    with pytest.raises(BundleRefused):
        Models(source, shelf.load, shelf.close, QUICK)
    source.error = "no registry"
    with pytest.raises(SourceUnavailable):
        Models(source, shelf.load, shelf.close, QUICK)


def test_another_model_takes_over_and_the_old_one_is_closed(source: Named, shelf: Shelf, models: Models[str]) -> None:
    async def scenario() -> None:
        watching = asyncio.create_task(models.watch())
        await asyncio.sleep(0.1)
        assert (models.current, shelf.loaded) == ("one", ["one"])
        source.key = "two"
        await until(lambda: models.current == "two")
        await until(lambda: shelf.closed == ["one"])
        source.key = "one"
        await until(lambda: models.current == "one")
        watching.cancel()
        await models.close()
        assert shelf.closed == ["one", "two", "one"]

    run(scenario)


def test_requests_under_way_finish_on_the_model_they_began_with(
    source: Named, shelf: Shelf, models: Models[str]
) -> None:
    async def scenario() -> None:
        with models.use() as model:
            source.key = "two"
            assert await models.check()
            assert models.current == "two"
            with models.use() as other:
                assert other == "two"
            await asyncio.sleep(0.2)
            assert model == "one"
            assert shelf.closed == []
        await until(lambda: shelf.closed == ["one"])

    run(scenario)


def test_one_that_never_ends_does_not_keep_the_old_model_for_ever(source: Named, shelf: Shelf) -> None:
    models = Models(source, shelf.load, shelf.close, QUICK.model_copy(update={"retire_s": 0.1}))

    async def scenario() -> None:
        with models.use():
            source.key = "two"
            await models.check()
            await until(lambda: shelf.closed == ["one"])

    run(scenario)


def test_requests_go_on_while_another_model_is_loaded(source: Named, shelf: Shelf, models: Models[str]) -> None:
    async def scenario() -> None:
        shelf.hold = threading.Event()
        source.key = "two"
        taking = asyncio.create_task(models.check())
        await until(lambda: len(shelf.loaded) == 2)
        with models.use() as model:
            assert model == "one"
        shelf.hold.set()
        assert await taking
        assert models.current == "two"

    run(scenario)


@pytest.mark.parametrize(
    "error", [BundleRefused("two drifted"), RuntimeError("two drifted"), MemoryError("two drifted")]
)
def test_a_model_that_is_refused_is_reported_and_not_tried_at_once_again(
    source: Named, shelf: Shelf, error: Exception
) -> None:
    def load(candidate: Candidate) -> str:
        shelf.loaded.append(candidate.key)
        if candidate.key == "two":
            raise error
        return candidate.key

    models = Models(source, load, shelf.close, QUICK)

    async def scenario() -> None:
        source.key = "two"
        for _ in range(5):
            assert not await models.check()
        assert (models.current, shelf.loaded) == ("one", ["one", "two"])
        assert models.status().refused == "two drifted"
        source.key = "three"
        assert await models.check()
        assert models.status().refused is None

    run(scenario)


def test_a_model_that_was_refused_is_tried_again_later(source: Named, shelf: Shelf) -> None:
    models = Models(source, shelf.load, shelf.close, QUICK.model_copy(update={"retry_s": 0.05}))

    async def scenario() -> None:
        shelf.refused.add("two")
        source.key = "two"
        assert not await models.check()
        shelf.refused.clear()
        await asyncio.sleep(0.1)
        assert await models.check()

    run(scenario)


def test_a_refused_model_that_is_taken_back_is_forgotten(source: Named, shelf: Shelf, models: Models[str]) -> None:
    async def scenario() -> None:
        shelf.refused.add("two")
        source.key = "two"
        await models.check()
        source.key = "one"
        assert not await models.check()
        assert (models.status().refused, shelf.loaded) == (None, ["one", "two"])

    run(scenario)


def test_a_source_that_does_not_answer_is_reported_and_changes_nothing(source: Named, models: Models[str]) -> None:
    async def scenario() -> None:
        source.error = "the registry cannot be read: database is locked"
        assert not await models.check()
        assert models.status().unavailable == source.error
        assert models.current == "one"
        source.error = None
        await models.check()
        assert models.status().unavailable is None

    run(scenario)


def test_following_goes_on_after_an_error_of_the_source(source: Named, models: Models[str]) -> None:
    async def scenario() -> None:
        source.find = lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        watching = asyncio.create_task(models.watch())
        await asyncio.sleep(0.1)
        del source.find  # type: ignore[method-assign]
        source.key = "two"
        await until(lambda: models.current == "two")
        watching.cancel()

    run(scenario)


def test_the_status_says_since_when(source: Named, shelf: Shelf) -> None:
    times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(10)]
    clock = list(times)
    models = Models(source, shelf.load, shelf.close, QUICK, now=lambda: clock.pop(0))

    async def scenario() -> None:
        source.key = "two"
        await models.check()
        assert models.status().loaded_at > times[1]

    run(scenario)


# with bundles


def scorers(folder: Path) -> Models[Scorer]:
    def load(candidate: Candidate) -> Scorer:
        bundle = load_candidate(candidate)
        return Scorer(bundle, load_policy(bundle.card.labels))

    async def close(_: Scorer) -> None:
        pass

    return Models(FolderSource(folder), load, close, QUICK)


def version_of(models: Models[Scorer]) -> str | None:
    jobs = last_turn(parse_row({"id": "a", "text": "Third time I write, still no refund!"}))
    with models.use() as scorer:
        return scorer.score(jobs)[0].model.version


def register(folder: Path, version: str) -> None:
    (folder / LAYOUT.registration).write_text(json.dumps({"version": version, "bundle": bundle_digest(folder)}))


@pytest.fixture
def other(bundle_path: Path, tmp_path: Path) -> Path:
    """Another good bundle: the same network, another card."""
    folder = Path(shutil.copytree(bundle_path, tmp_path / "other"))
    card = json.loads((folder / LAYOUT.card).read_text())
    (folder / LAYOUT.card).write_text(json.dumps({**card, "git_revision": "another"}))
    write_manifest(folder)
    register(folder, "8")
    return folder


def test_a_folder_whose_bundle_is_replaced_serves_the_new_one(bundle_copy: Path, other: Path) -> None:
    register(bundle_copy, "7")

    async def scenario() -> None:
        models = scorers(bundle_copy)
        assert version_of(models) == "7"
        assert not await models.check()
        bundle_copy.rename(bundle_copy.with_name("old"))
        assert not await models.check()
        assert "No such file" in (models.status().unavailable or "")
        other.rename(bundle_copy)
        assert await models.check()
        assert version_of(models) == "8"

    run(scenario)


def test_a_bundle_that_is_half_copied_is_not_taken(bundle_copy: Path, other: Path) -> None:
    register(bundle_copy, "7")

    async def scenario() -> None:
        models = scorers(bundle_copy)
        for name in (LAYOUT.manifest, LAYOUT.card, LAYOUT.registration):
            before = models.current
            whole = (other / name).read_bytes()
            (bundle_copy / name).write_bytes(whole[: len(whole) // 2])
            assert not await models.check()
            assert models.current is before
            assert models.status().refused
            (bundle_copy / name).write_bytes(whole)
            took = await models.check()
        assert took
        assert version_of(models) == "8"
        assert models.status().refused is None

    run(scenario)


def test_a_bundle_whose_golden_inputs_drift_is_not_taken(bundle_copy: Path) -> None:
    register(bundle_copy, "7")

    async def scenario() -> None:
        models = scorers(bundle_copy)
        card = json.loads((bundle_copy / LAYOUT.card).read_text())
        golden = card["golden"][0]["probabilities"]
        card["golden"][0]["probabilities"] = [1 - value for value in golden]
        (bundle_copy / LAYOUT.card).write_text(json.dumps(card))
        write_manifest(bundle_copy)
        assert not await models.check()
        assert "drifted" in (models.status().refused or "")
        assert version_of(models) == "7"

    run(scenario)


def test_the_registrys_word_counts(bundle_path: Path, bundle: Bundle) -> None:
    candidate = Candidate(bundle_path, "k", version="42", digest=bundle.digest)
    assert load_candidate(candidate).version == "42"
    assert load_candidate(Candidate(bundle_path, "k")).version == load_bundle(bundle_path).version
    with pytest.raises(BundleRefused, match="registered as version 42"):
        load_candidate(replace(candidate, digest="sha256:of another"))
