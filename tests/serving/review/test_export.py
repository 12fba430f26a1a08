"""The corpus that verdicts make: what counts, what waits, whom it names, and that the pipeline takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.conversation import Conversation, read_conversations
from pipeline.vocabulary import load_vocabulary
from serving.review import export as exporting
from serving.review.export import Exported, export, exported_id
from tests.serving.live.test_conversations import message, post
from tests.serving.review.conftest import ADA, ANGRY, CALM, GRACE, LEA, Bench, run


def exported(bench: Bench, target: Path) -> tuple[Exported, dict[str, Conversation]]:
    with bench.world.database.reading.begin() as connection:
        done = export(connection, target, load_vocabulary())
    return done, {one.id: one for one in read_conversations(target)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    return folder / "all.jsonl"


def test_labels_stand_on_the_reviewed_messages_of_customers_alone(bench: Bench, target: Path) -> None:
    post(bench.world, message("m1", "hello"), message("a1", "we look", "agent"), message("m2", "furious"))
    bench.judge(ADA, {"m2": {**ANGRY, "frustration": 2, "signals": ("abuse",)}}, hot=True, note="a note")
    done, found = exported(bench, target)
    assert done == Exported(conversations=1, labelled=1, disputed=0, erased=0)
    (one,) = found.values()
    assert [turn.labels for turn in one.turns] == [None, None, {**ANGRY, "frustration": 2, "signals": ("abuse",)}]
    assert one.meta == {"source": "reviews", "reviewed_at": "2026-03-01T09:00:00+00:00", "model": "1"}
    assert (one.id, one.channel) == (exported_id("c1"), "chat")
    load_vocabulary().check(one.turns[2].labels or {})


def test_nobody_is_named_and_nothing_is_told_but_what_was_said(desk: Bench, target: Path) -> None:
    desk.say("jane.doe@example.org", "hello from Jane, 5555 5555 5555 4444")
    desk.judge(ADA, {"m1": CALM}, to="jane.doe@example.org", note="secret note")
    exported(desk, target)
    written = target.read_text(encoding="utf-8")
    for word in ("jane.doe", "5555", "ada", "secret", '"m1"'):
        assert word not in written
    assert json.loads(written)["turns"][0]["text"] == "hello from Jane, [CARD]"


def test_what_is_disputed_waits_until_it_is_settled(bench: Bench, target: Path) -> None:
    bench.say("c1", "furious")
    bench.judge(ADA, {"m1": {"frustration": 1, "urgency": 2}})
    bench.judge(GRACE, {"m1": {"frustration": 3, "urgency": 2}})
    done, found = exported(bench, target)
    assert (done.disputed, [one.turns[0].labels for one in found.values()]) == (1, [{"urgency": 2}])
    bench.judge(LEA, {"m1": {"frustration": 2}}, adjudicates=True)
    done, found = exported(bench, target)
    assert (done.disputed, [one.turns[0].labels for one in found.values()]) == (0, [{"frustration": 2, "urgency": 2}])


def test_what_is_disputed_in_all_is_not_exported(desk: Bench, target: Path) -> None:
    desk.say("c1", "furious")
    desk.judge(ADA, {"m1": {"frustration": 1}})
    desk.judge(GRACE, {"m1": {"frustration": 3}})
    assert exported(desk, target)[0] == Exported(0, 0, 1, 0)


def test_a_verdict_on_the_whole_labels_no_message(desk: Bench, target: Path) -> None:
    desk.say("c1", "furious")
    desk.judge(ADA, hot=True, routing_right=True)
    assert exported(desk, target)[0] == Exported(0, 0, 0, 0)


def test_what_was_erased_is_counted_and_not_there(bench: Bench, target: Path) -> None:
    bench.say("c1", "furious")
    bench.judge(ADA, {"m1": "agree"})
    run(bench.world.live.handling.erase("c1", "desk"))
    assert exported(bench, target)[0] == Exported(0, 0, 0, 1)
    assert target.read_bytes() == b""


def test_the_same_verdicts_make_the_same_file(bench: Bench, target: Path) -> None:
    for number in range(12):
        bench.say(f"c{number}", "furious")
        bench.judge(ADA, {"m1": "agree"}, to=f"c{number}")
    _, found = exported(bench, target)
    first = target.read_bytes()
    exported(bench, target)
    assert target.read_bytes() == first
    assert list(found) == sorted(found)
    assert {path.name for path in target.parent.iterdir()} == {"all.jsonl"}


def test_labels_of_another_vocabulary_are_left_out(desk: Bench, target: Path) -> None:
    desk.say("c1", "furious")
    desk.judge(ADA, {"m1": ANGRY})
    with desk.world.database.reading.begin() as connection:
        export(connection, target, load_vocabulary().only(["urgency", "signals"]))
    assert read_conversations(target)[0].turns[0].labels == {"urgency": 0, "signals": ()}


def test_an_export_that_fails_leaves_the_one_before(desk: Bench, target: Path, monkeypatch: Any) -> None:
    target.write_text("before", encoding="utf-8")
    desk.say("c1", "furious")
    desk.judge(ADA, {"m1": "agree"})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        exported(desk, target)
    assert [path.name for path in target.parent.iterdir()] == ["all.jsonl"]
    assert target.read_text(encoding="utf-8") == "before"
