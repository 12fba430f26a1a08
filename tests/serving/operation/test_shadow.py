"""The challenger in the shadow: it sees a share, answers nobody, and whatever it does is not felt."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.bundle import LAYOUT, Bundle, load_bundle, read_card, write_manifest
from pipeline.conversation import Conversation, Turn
from pipeline.differences import Shadow as Report
from serving.answers import Answer
from serving.operation.metrics import Metrics
from serving.operation.registry import Candidate, FolderSource, SourceUnavailable
from serving.operation.shadow import CONTEXT_READ, SAME, Shadow, ShadowConfig, recent
from serving.policy import Policy, load_policy
from serving.scorer import Job, Scorer, last_turn

NOW = datetime(2026, 3, 8, tzinfo=UTC)
CALM, HOT, URGENT = "where is my parcel", "I am furious", "this is urgent"


def variant(toy: Path, folder: Path, deaf_to: str = "urgency", **changes: Any) -> Path:
    """The toy, deaf to one head, as another bundle."""
    shutil.copytree(toy, folder)
    card = read_card(folder / LAYOUT.card)
    where = card.labels.slices()[deaf_to]
    scale = tuple(0.0 if where.start <= n < where.stop else 1.0 for n in range(card.labels.size))
    calibration = card.calibration.model_copy(update={"scale": scale})
    card = card.model_copy(update={"calibration": calibration, "golden": (), **changes})
    (folder / LAYOUT.card).write_text(card.model_dump_json())
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def champion(toy: Path) -> Scorer:
    bundle = load_bundle(toy)
    return Scorer(bundle, load_policy(bundle.card.labels))


@pytest.fixture(scope="module")
def challenger(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return variant(toy, tmp_path_factory.mktemp("variant") / "bundle")


@dataclass
class Stage:
    """What a shadow stands beside."""

    champion: Scorer
    busy: bool = False
    draws: list[float] = field(default_factory=list)

    def open(self, source: Any, **config: Any) -> Shadow:
        asked = ShadowConfig(model="", share=1.0, every_s=0.02).model_copy(update=config)
        draw = iter(self.draws)
        return Shadow(asked, source, lambda: self.champion, lambda: self.busy, lambda: NOW, lambda: next(draw, 0.0))


@contextmanager
def at_work(shadow: Shadow, loaded: bool = True) -> Iterator[Shadow]:
    shadow.start()
    try:
        if loaded:
            wait(lambda: shadow.report().refused is None)
        yield shadow
    finally:
        shadow.close()


def wait(until: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not until():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.005)


def said(text: str, name: str = "a") -> Conversation:
    return Conversation(id=name, turns=(Turn(role="customer", text=text),))


def jobs(*texts: str) -> list[Job]:
    return [job for n, text in enumerate(texts) for job in last_turn(said(text, f"c{n}"))]


def offer(shadow: Shadow, champion: Scorer, *texts: str) -> list[Answer]:
    given = jobs(*texts)
    answers = champion.score(given)
    shadow.offer(given, answers)
    return answers


def seen(report: Report) -> int:
    return report.scored + report.dropped + report.failed


def test_what_the_challenger_would_say_otherwise_is_counted(champion: Scorer, challenger: Path) -> None:
    with at_work(Stage(champion).open(FolderSource(challenger))) as shadow:
        offer(shadow, champion, CALM, HOT, URGENT, URGENT)
        wait(lambda: shadow.report().scored == 4)
        found = shadow.report()
    assert (found.offered, found.dropped, found.failed) == (4, 0, 0)
    assert found.champion == champion.bundle.digest != found.challenger
    assert found.differences.answers == 4
    assert found.differences.levels["urgency"] >= 0.5
    assert found.differences.levels["frustration"] == 0
    assert {example.id for example in found.differences.examples} >= {"c2", "c3"}
    assert not any(text in found.model_dump_json() for text in (CALM, HOT, URGENT, "parcel", "furious"))


def test_answers_are_what_they_are_without_it(champion: Scorer, challenger: Path) -> None:
    before = champion.score(jobs(CALM, HOT, URGENT))
    with at_work(Stage(champion).open(FolderSource(challenger))) as shadow:
        assert offer(shadow, champion, CALM, HOT, URGENT) == before
        wait(lambda: shadow.report().scored == 3)
        assert champion.score(jobs(CALM, HOT, URGENT)) == before


def test_a_share_is_drawn(champion: Scorer, challenger: Path) -> None:
    stage = Stage(champion, draws=[0.1, 0.9, 0.5, 0.19])
    with at_work(stage.open(FolderSource(challenger), share=0.2)) as shadow:
        offer(shadow, champion, CALM, HOT, URGENT, CALM)
        wait(lambda: shadow.report().scored == 2)
        assert shadow.report().offered == 2


def test_offering_takes_no_time_and_what_is_too_much_is_dropped(champion: Scorer, challenger: Path) -> None:
    stage = Stage(champion)
    with at_work(stage.open(FolderSource(challenger), waiting=3, patience_s=20)) as shadow:
        stage.busy = True  # the engine has a queue: the shadow waits
        given = jobs(CALM) * 50
        answers = champion.score(given)
        started = time.perf_counter()
        shadow.offer(given, answers)
        assert time.perf_counter() - started < 0.5
        found = shadow.report()
        assert found.offered == 50
        assert found.dropped >= 46
        assert found.scored == 0
        stage.busy = False
        wait(lambda: seen(shadow.report()) == 50)
        assert shadow.report().scored >= 3


def test_a_message_waits_for_a_free_engine_only_so_long(champion: Scorer, challenger: Path) -> None:
    stage = Stage(champion)
    with at_work(stage.open(FolderSource(challenger), patience_s=0.02)) as shadow:
        stage.busy = True
        offer(shadow, champion, CALM)
        wait(lambda: shadow.report().dropped == 1)


def test_long_messages_are_dropped(champion: Scorer, challenger: Path) -> None:
    with at_work(Stage(champion).open(FolderSource(challenger), longest=30)) as shadow:
        offer(shadow, champion, "x" * 31)
        assert shadow.report().dropped == 1


def test_a_challenger_that_raises_is_counted_and_named_without_its_text(
    champion: Scorer, challenger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_work(Stage(champion).open(FolderSource(challenger))) as shadow:
        scorer = shadow._scorer
        assert scorer is not None

        def broken(_: object) -> None:
            raise RuntimeError(f"cannot read {HOT}")

        monkeypatch.setattr(scorer, "score", broken)
        answers = offer(shadow, champion, HOT, CALM)
        assert answers == champion.score(jobs(HOT, CALM))
        wait(lambda: shadow.report().failed == 2)
        found = shadow.report()
        assert found.failure == "RuntimeError"
        assert HOT not in found.model_dump_json()
        monkeypatch.undo()
        offer(shadow, champion, CALM)
        wait(lambda: shadow.report().scored == 1)


def test_a_challenger_of_another_vocabulary_is_refused_by_name(champion: Scorer, toy: Path, tmp_path: Path) -> None:
    labels = champion.bundle.card.labels
    signals = labels.heads["signals"].model_copy(update={"values": tuple("abcdef")})
    other = labels.model_copy(update={"heads": {**labels.heads, "signals": signals}})
    folder = variant(toy, tmp_path / "other", labels=other)
    with at_work(Stage(champion).open(FolderSource(folder)), loaded=False) as shadow:
        wait(lambda: "signals" in (shadow.report().refused or ""))
        offer(shadow, champion, CALM)
        assert shadow.report().offered == 0


def test_a_bundle_that_is_broken_or_not_there_is_told_of(champion: Scorer, toy: Path, tmp_path: Path) -> None:
    folder = variant(toy, tmp_path / "broken")
    (folder / LAYOUT.tokenizer).write_text("{}")
    for source, why in ((FolderSource(folder), "changed after export"), (FolderSource(tmp_path / "none"), "No such")):
        with at_work(Stage(champion).open(source), loaded=False) as shadow:
            wait(lambda shadow=shadow, why=why: why in (shadow.report().refused or ""))


def test_the_model_that_serves_is_not_compared_with_itself(champion: Scorer, toy: Path) -> None:
    with at_work(Stage(champion).open(FolderSource(toy)), loaded=False) as shadow:
        wait(lambda: shadow.report().refused == SAME)


@dataclass
class Moving:
    """A source that points where it is told to."""

    path: Path
    gone: bool = False

    def find(self) -> Candidate:
        if self.gone:
            raise SourceUnavailable("no alias")
        return Candidate(self.path, str(self.path), "7")


def test_it_follows_its_alias_and_counts_anew(champion: Scorer, challenger: Path, toy: Path, tmp_path: Path) -> None:
    source = Moving(challenger)
    with at_work(Stage(champion).open(source)) as shadow:
        offer(shadow, champion, URGENT)
        wait(lambda: shadow.report().scored == 1)
        first = shadow.report().challenger
        source.gone = True  # the registry does not answer: what is there stays
        time.sleep(0.1)
        assert shadow.report().refused is None
        source.gone, source.path = False, variant(toy, tmp_path / "next", deaf_to="frustration")
        wait(lambda: shadow.report().challenger not in (first, None))
        found = shadow.report()
        assert (found.scored, found.differences.answers) == (0, 0)
        offer(shadow, champion, HOT)
        wait(lambda: shadow.report().differences.levels["frustration"] == 1)


def test_when_another_model_serves_the_old_ones_answers_are_not_compared(
    champion: Scorer, challenger: Path, toy: Path, tmp_path: Path
) -> None:
    stage = Stage(champion)
    with at_work(stage.open(FolderSource(challenger))) as shadow:
        old = champion.score(jobs(URGENT))
        bundle: Bundle = load_bundle(variant(toy, tmp_path / "crowned", deaf_to="satisfaction"))
        stage.champion = Scorer(bundle, load_policy(bundle.card.labels))
        wait(lambda: shadow.report().champion == bundle.digest)
        assert shadow.report().refused is None  # the challenger stays as it is
        shadow.offer(jobs(URGENT), old)
        wait(lambda: shadow.report().dropped == 1)
        assert shadow.report().differences.answers == 0


def test_a_challenger_that_is_promoted_leaves_the_shadow(champion: Scorer, challenger: Path) -> None:
    stage = Stage(champion)
    with at_work(stage.open(FolderSource(challenger))) as shadow:
        bundle = load_bundle(challenger)
        stage.champion = Scorer(bundle, load_policy(bundle.card.labels))
        wait(lambda: shadow.report().refused == SAME)
        offer(shadow, stage.champion, CALM)
        assert (shadow.report().offered, shadow.report().challenger) == (0, None)
        stage.champion = champion  # rolled back
        wait(lambda: shadow.report().challenger == bundle.digest)


def test_it_decides_by_the_policy_in_force(champion: Scorer, challenger: Path) -> None:
    own = Scorer(champion.bundle, champion.policy)
    with at_work(Stage(own).open(FolderSource(challenger))) as shadow:
        config = own.policy.config
        abstained = config.abstained.model_copy(update={"score": 99})
        own.policy = Policy(config.model_copy(update={"abstained": abstained}), own.bundle.card.labels)
        offer(shadow, own, CALM)
        wait(lambda: shadow.report().scored == 1)
        assert shadow._scorer is not None
        assert shadow._scorer.policy.config.abstained.score == 99


def test_gauges(champion: Scorer, challenger: Path) -> None:
    metrics = Metrics()
    with at_work(Stage(champion).open(FolderSource(challenger))) as shadow:
        shadow.watch_gauges(metrics)
        offer(shadow, champion, URGENT)
        wait(lambda: shadow.report().scored == 1)
        text = metrics.exposition()[0].decode()
    told = {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert told["simmer_shadow_messages scored"] == 1
    assert told["simmer_shadow_changed urgency"] == 1
    assert 0 <= told["simmer_shadow_moved"] <= 1


def test_it_ends_though_messages_wait(champion: Scorer, challenger: Path) -> None:
    stage = Stage(champion)
    with at_work(stage.open(FolderSource(challenger), patience_s=600)) as shadow:
        stage.busy = True
        offer(shadow, champion, *[CALM] * 5)
        started = time.monotonic()
        shadow.close()
        assert time.monotonic() - started < 5
        assert not any(thread.name == "simmer-shadow" for thread in threading.enumerate())
        offer(shadow, champion, CALM)  # and what comes then is nobody's


def test_of_a_long_conversation_only_what_is_read_is_kept() -> None:
    turns = tuple(Turn(role="customer", text=str(n)) for n in range(100))
    kept = recent(Job(Conversation(id="a", turns=turns), 60))
    assert len(kept.conversation.turns) == CONTEXT_READ + 1
    assert kept.turn is not None
    assert kept.conversation.turns[kept.turn].text == "60"
    short = Job(Conversation(id="a", turns=turns[:3]), 2)
    assert recent(short) is short
    assert recent(Job(short.conversation, None)).turn is None
