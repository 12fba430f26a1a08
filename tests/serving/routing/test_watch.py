"""The policy in force: another one only when its file is whole and valid, whatever happens to the file."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.config import CONFIGS, ConfigError
from serving.policy import Policy, PolicyMismatch
from serving.routing.watch import MAX_BYTES, PolicyWatch
from tests.serving.routing.made import VOCABULARY

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
TEXT = (CONFIGS / "routing.yaml").read_text(encoding="utf-8")
OTHER = TEXT.replace("points_per_hour: 15", "points_per_hour: 30")


class Clock:
    """A clock that moves on by a minute whenever it is asked."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        self.time += timedelta(minutes=1)
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "routing.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def watch(path: Path) -> PolicyWatch:
    return PolicyWatch(path, VOCABULARY, every=0.01, now=Clock())


def points(watch: PolicyWatch) -> float:
    return watch.policy.config.aging.points_per_hour


def looks(watch: PolicyWatch, times: int = 2) -> list[bool]:
    return [watch.look() for _ in range(times)]


def test_the_file_is_in_force_at_once(watch: PolicyWatch) -> None:
    assert points(watch) == 15
    status = watch.status()
    assert (status.digest, status.refused) == (watch.policy.digest, None)


def test_a_change_is_adopted_once_it_reads_the_same_twice(watch: PolicyWatch, path: Path) -> None:
    before = watch.status()
    path.write_text(OTHER, encoding="utf-8")
    assert looks(watch, 3) == [False, True, False]
    assert points(watch) == 30
    after = watch.status()
    assert after.digest == watch.policy.digest != before.digest
    assert after.looked_at > after.loaded_at > before.loaded_at


def test_a_half_written_file_that_would_be_a_policy_is_not_adopted(watch: PolicyWatch, path: Path) -> None:
    half = OTHER[: OTHER.index("# How waiting ages")]
    path.write_text(half, encoding="utf-8")
    assert not watch.look()
    path.write_text(OTHER, encoding="utf-8")
    assert looks(watch) == [False, True]
    assert (points(watch), watch.policy.config.holdout.salt) == (30, "2026-11")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        TEXT[:400].encode(),
        b"queues: [",
        b"\xff\xfe\x00",
        b"\x00",
        b"[" * 2_000,
        b"aging: 2026-99-99",
        b"a: " + b"9" * 5_000,
        b"just words",
        TEXT.replace("head: signals, value: abuse", "head: mood, value: abuse").encode(),
        TEXT.encode() + b"#" * MAX_BYTES,
    ],
    ids=["empty", "cut", "open", "bytes", "nul", "deep", "date", "number", "words", "mismatch", "huge"],
)
def test_what_cannot_be_used_leaves_the_old_policy_and_is_told(watch: PolicyWatch, path: Path, content: bytes) -> None:
    old = watch.policy
    path.write_bytes(content)
    assert looks(watch) == [False, False]
    assert watch.policy is old
    refused = watch.status().refused
    assert refused
    assert str(path.parent) not in refused
    path.write_text(TEXT, encoding="utf-8")
    assert not watch.look()
    assert watch.status().refused is None


def test_a_deleted_file_leaves_the_old_policy_and_may_come_back(watch: PolicyWatch, path: Path) -> None:
    path.unlink()
    assert looks(watch) == [False, False]
    assert "routing.yaml" in (watch.status().refused or "")
    path.write_text(OTHER, encoding="utf-8")
    assert looks(watch) == [False, True]
    assert watch.status().refused is None


def test_a_link_that_points_elsewhere_is_followed(tmp_path: Path) -> None:
    for name, text in (("v1", TEXT), ("v2", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "routing.yaml").write_text(text, encoding="utf-8")
    current = tmp_path / "current"
    current.symlink_to("v1")
    watch = PolicyWatch(current / "routing.yaml", VOCABULARY)
    swap = tmp_path / "swap"
    swap.symlink_to("v2")
    swap.rename(current)
    assert looks(watch) == [False, True]
    assert points(watch) == 30


def test_a_file_of_an_older_date_is_seen(watch: PolicyWatch, path: Path) -> None:
    path.write_text(OTHER, encoding="utf-8")
    os.utime(path, (1, 1))
    assert looks(watch) == [False, True]


def test_a_change_of_the_same_size_and_date_is_seen(watch: PolicyWatch, path: Path) -> None:
    stat = path.stat()
    path.write_text(OTHER, encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert looks(watch) == [False, True]


def test_another_comment_is_the_same_policy(watch: PolicyWatch, path: Path) -> None:
    before = watch.status()
    path.write_text("# a word more\n" + TEXT, encoding="utf-8")
    assert looks(watch) == [False, False]
    assert (watch.status().digest, watch.status().loaded_at) == (before.digest, before.loaded_at)


def test_a_pipe_or_a_folder_in_its_place_does_not_hang(watch: PolicyWatch, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    assert not watch.look()
    path.unlink()
    path.mkdir()
    assert not watch.look()
    assert watch.status().refused


def test_there_must_be_a_policy_to_begin_with(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    with pytest.raises(ConfigError, match=r"routing\.yaml"):
        PolicyWatch(path, VOCABULARY)
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(PolicyMismatch, match="no head urgency"):
        PolicyWatch(path, VOCABULARY.only(["sentiment"]))


def test_readers_see_one_whole_policy_while_it_changes(watch: PolicyWatch, path: Path) -> None:
    seen: set[tuple[str, float]] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            policy = watch.policy
            seen.add((policy.digest, policy.config.aging.points_per_hour))

    reader = threading.Thread(target=read)
    reader.start()
    for text in (OTHER, TEXT) * 3:
        path.write_text(text, encoding="utf-8")
        looks(watch)
    done.set()
    reader.join()
    assert len(seen) <= 2


def test_it_watches_until_cancelled_and_tells_of_every_new_policy(watch: PolicyWatch, path: Path) -> None:
    heard: list[Policy] = []

    async def adopted(policy: Policy) -> None:
        heard.append(policy)
        if len(heard) == 1:
            raise RuntimeError("whoever listens may fail")

    async def live() -> None:
        task = asyncio.create_task(watch.run(adopted))
        for number, text in enumerate((OTHER, TEXT), 1):
            path.write_text(text, encoding="utf-8")
            for _ in range(500):
                await asyncio.sleep(0.01)
                if len(heard) == number:
                    break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(live())
    assert [policy.config.aging.points_per_hour for policy in heard] == [30, 15]
