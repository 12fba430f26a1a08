"""The demonstration shows the live queue, leaves no scorer behind, and says what went wrong."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.conversation import Conversation, Turn
from pipeline.vocabulary import load_vocabulary
from serving import demo
from serving.replay import Entry, Outcome

COLUMNS = ["conversation", "channel", "priority", "frustration", "urgency", "boil-over", "queue", "reasons"]
DEAD = "http://127.0.0.1:9"  # nobody listens there


def entry(name: str, **changed: Any) -> Entry:
    answer = {
        "frustration": {"expected": 1.84},
        "urgency": {"expected": 0.26},
        "boil_over": 0.312,
        "priority": {"score": 72, "queue": "senior", "reasons": ["frustration_strong", "long_wait"]},
        "abstained": None,
        **changed,
    }
    return Entry(Conversation(id=name, channel="email", turns=(Turn(role="customer", text="hi"),)), [answer])


def shown(*entries: Entry, rows: int = 9) -> list[str]:
    out = StringIO()
    Console(file=out, width=120).print(demo.queue_table(list(entries), rows))
    return [line.strip() for line in out.getvalue().splitlines()]


def test_the_table_has_the_columns_and_one_row_each() -> None:
    heading, row = shown(entry("c17"))
    assert heading.split() == COLUMNS
    assert re.split(r"\s{2,}", row) == [
        "c17",
        "email",
        "72",
        "1.8",
        "0.3",
        "31%",
        "senior",
        "frustration strong, long wait",
    ]


def test_what_was_not_judged_has_no_figures() -> None:
    nothing = {"frustration": None, "urgency": None, "boil_over": None, "abstained": {"reason": "language"}}
    priority = {"score": 0, "queue": "standard", "reasons": ["abstained_language"]}
    row = shown(entry("c17", priority=priority, **nothing))[1]
    assert re.split(r"\s{2,}", row) == ["c17", "email", "0", "–", "–", "–", "standard", "abstained language"]


def test_no_more_rows_than_asked_for() -> None:
    assert [line.split()[0] for line in shown(*map(entry, "abcde"), rows=2)] == ["conversation", "a", "b"]


def test_an_id_is_no_markup() -> None:
    assert shown(entry("[red]c17"))[1].startswith("[red]c17")


def test_the_summary_tells_the_figures() -> None:
    figures = Outcome(64, 250, 7, 0.0042, 0.0137, {"senior": 20, "standard": 44}, 60, 51, 190, 12, 30, 17, 25, 4)
    text = "\n".join(demo.summary(figures, ["critical", "senior", "standard"]))
    assert "64 conversations, 250 messages" in text
    assert "4.2 ms median, 13.7 ms" in text
    assert "0 critical, 20 senior, 44 standard; 7 messages not judged" in text
    assert "of 60 hot messages (by their labels) 51 went" in text
    assert "12 of 190 calm" in text
    assert "of 30 conversations that began calm and boiled over 17 were foreseen" in text
    assert "4 false alarms over 25 that stayed calm" in text


def test_the_live_conversations_can_be_judged_by_their_labels() -> None:
    live = demo.live_conversations()
    hot = load_vocabulary().hot
    assert len(live) > 20
    assert {conversation.meta["split"] for conversation in live} == {"live"}
    heat = [hot.applies(c.turns[turn].labels or {}) for c in live for turn in c.customer_turns()]
    assert set(heat) == {True, False}


def test_it_runs_from_start_to_finish(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a proxy set, as on many an office machine: loopback must not go through it."""
    few = demo.live_conversations()[:5]
    addresses: list[str] = []
    ready = demo.wait_until_ready

    def noted(address: str, server: subprocess.Popen[str]) -> None:
        addresses.append(address)
        ready(address, server)

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, DEAD)
    monkeypatch.setattr(demo, "live_conversations", lambda: few)
    monkeypatch.setattr(sys, "argv", ["demo", "--model", str(bundle_path), "--rows", "4"])
    monkeypatch.setattr(demo, "wait_until_ready", noted)
    demo.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    top = lines.index(COLUMNS)
    names = [line[0] for line in lines[top + 1 : top + 5]]
    assert len(set(names)) == 4
    assert set(names) <= {conversation.id for conversation in few}
    scores = [int(line[2]) for line in lines[top + 1 : top + 5]]
    assert scores == sorted(scores, reverse=True)
    assert any(line[:2] == ["5", "conversations,"] for line in lines)
    assert_free(addresses[0])


def assert_free(address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_scorer_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(demo.ScorerNotUp, match="nothing-here"), demo.running_scorer(tmp_path / "nothing-here"):
        pass


def test_the_scorer_is_stopped_whatever_happens(bundle_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), demo.running_scorer(bundle_path) as address:
        raise KeyboardInterrupt
    assert_free(address)


def test_a_missing_model_ends_the_demonstration_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--model", str(tmp_path / "nothing-here")])
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert "nothing-here" in str(stopped.value)
    assert len(str(stopped.value).splitlines()) == 1


def test_a_scorer_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, bundle_path: Path) -> None:
    monkeypatch.setattr(demo, "PATIENCE", 0.0)
    with pytest.raises(demo.ScorerNotUp, match="not ready"), demo.running_scorer(bundle_path):
        pass
