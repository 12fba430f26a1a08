"""Figures: saturation is found, overload and recovery are read, messages are different and of one length."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from benchmarks.measure import Run
from benchmarks.overload import AFTER, BEFORE, read_overload
from benchmarks.saturation import Climb, Step, climbed
from benchmarks.store import multiply
from benchmarks.texts import TOKENS, different_messages
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, load_tokenizer


def a_run(due: Any, latency: Any, status: Any = 200, memory: Any = ()) -> Run:
    due = np.asarray(due, dtype=float)
    latency = np.broadcast_to(latency, due.shape)
    return Run(
        due=due,
        sent=due,
        done=due + latency,
        status=np.broadcast_to(status, due.shape).astype(np.int16),
        retry_after=np.where(np.broadcast_to(status, due.shape) == 429, 1.0, np.nan),
        server_cpu=2.0,
        client_cpu=0.1,
        memory=tuple(memory),
    )


def served(limit: float) -> Any:
    """A step of a server that answers so many a second, one after the other."""

    def take(rate: float) -> Step:
        due = np.linspace(0, 2, round(rate * 2), endpoint=False)
        done = np.maximum.accumulate(np.maximum(due, np.arange(len(due)) / limit)) + 1 / limit
        return Step(rate, 2.0, a_run(due, done - due))

    return take


@given(st.floats(20, 2000), st.floats(0.5, 1.4))
def test_the_limit_is_found_from_a_guess_that_is_off(limit: float, off: float) -> None:
    found = climbed(served(limit), limit * off).saturation
    assert 0.85 * limit < found < 1.2 * limit


def test_a_step_that_fails_is_tried_again() -> None:
    tried: list[float] = []

    def shaky(rate: float) -> Step:
        tried.append(rate)
        return served(1.0 if len(tried) <= 2 else 100.0)(rate)

    assert climbed(shaky, 60.0).saturation > 80
    assert tried[:3] == [60.0] * 3


def test_a_server_that_keeps_up_with_nothing_has_no_saturation() -> None:
    assert climbed(served(0.1), 1000.0).saturation == 0
    assert Climb(()).best is None


def test_keeping_up_means_answered_in_time_and_without_a_backlog() -> None:
    due = np.linspace(0, 2, 200, endpoint=False)
    assert a_run(due, 0.1).kept_up(2)
    assert not a_run(due, 1.1).kept_up(2)
    assert not a_run(due, 0.1, np.where(np.arange(200) < 5, 500, 200)).kept_up(2)
    assert not a_run(due, due * 0.4).kept_up(2)
    assert not a_run([], 0.1).kept_up(2)


def test_a_created_answer_is_as_good_as_any() -> None:
    assert a_run([0.0, 0.1], 0.01, 201).good.all()
    assert a_run([0.0, 0.1], 0.01, 201).per_cpu_second == 1.0


def overloaded(recovers_after: float) -> Run:
    seconds = 2.0
    due = np.arange(0, BEFORE + seconds + AFTER, 0.01)
    hot = (due >= BEFORE) & (due < BEFORE + seconds)
    slow = hot | ((due >= BEFORE + seconds) & (due < BEFORE + seconds + recovers_after))
    status = np.where(hot & (np.arange(len(due)) % 2 == 0), 429, 200)
    memory = [(at, 100 + round(at)) for at in (0.5, 2.0, 5.0)]
    return a_run(due, np.where(slow, 0.5, 0.01), status, memory)


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0])
def test_overload_is_read_with_its_recovery(after: float) -> None:
    found = read_overload(overloaded(after), 2.0)
    assert found.recovery_seconds == pytest.approx(after, abs=0.26)
    assert found.offered == pytest.approx(100, abs=1)
    assert found.goodput == pytest.approx(50, abs=1)
    assert found.refused_share == pytest.approx(0.5, abs=0.01)
    assert found.refused_with_retry_after == 1.0
    assert found.other_share == 0.0
    assert (found.memory_before, found.memory_after, found.memory_most) == (100, 105, 105)


def test_what_does_not_recover_is_said_so() -> None:
    assert read_overload(overloaded(AFTER), 2.0).recovery_seconds == float("inf")


def test_messages_are_different_and_of_one_length() -> None:
    tokenizer = load_tokenizer(TrainedEncoder(name=BUNDLED_ENCODER))
    texts = different_messages(500, tokenizer)
    assert len(set(texts)) == 500
    assert texts == different_messages(500, tokenizer)
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    assert {len(encoding.ids) for encoding in plain.encode_batch(texts)} == {TOKENS}


def test_a_store_is_multiplied_with_its_messages(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE conversations (id TEXT PRIMARY KEY, rank REAL, status TEXT)")
        connection.execute("CREATE TABLE messages (conversation TEXT, id TEXT, PRIMARY KEY (conversation, id))")
        connection.executemany("INSERT INTO conversations VALUES (?, ?, 'open')", [("a", 1.0), ("b", 2.0)])
        connection.executemany("INSERT INTO messages VALUES (?, 'm')", [("a",), ("b",)])
    connection.close()
    multiply(file, 1000)
    with sqlite3.connect(file) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("conversations", "messages")
        ]
        ranks = connection.execute("SELECT count(DISTINCT rank) FROM conversations").fetchone()[0]
        orphans = connection.execute(
            "SELECT count(*) FROM messages WHERE conversation NOT IN (SELECT id FROM conversations)"
        ).fetchone()[0]
    connection.close()
    assert counts == [1000, 1000]
    assert ranks > 500
    assert orphans == 0
