"""A challenger in the shadow: it scores a share of the live messages beside the model that serves, and answers nobody.

    shadow.offer(jobs, answers)      after the answers were given; never waits, never raises
    shadow.report()                  how often it would have said something else

One thread does the work: one message at a time, and none while the engine has a queue; what it cannot take is dropped
and counted. Its priority is as everyone's: a thread that yields to all others may be put to sleep while it holds the
interpreter, and then everyone waits for it. Follows its source, as the model that serves does. Keeps counts and ids, no
text.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import Field

from pipeline.bundle import Bundle
from pipeline.config import Config
from pipeline.conversation import Conversation
from pipeline.differences import Shadow as Report
from pipeline.differences import Tally
from serving.answers import Answer
from serving.operation.metrics import Metrics
from serving.operation.models import load_candidate
from serving.operation.registry import Candidate, Source, SourceUnavailable
from serving.policy import Policy
from serving.scorer import Job, Scorer

logger = logging.getLogger("simmer.shadow")

CONTEXT_READ = 32  # turns before a message that its scoring may look at
LOOK_S = 0.005  # between two looks at whether the engine is free
JOIN_S = 5.0
SAME = "it is the model that serves"


class ShadowConfig(Config):
    """Which model runs in the shadow, and of how much it may make use. A second model takes some 170 MB."""

    model: str = Field(description="folder of a bundle, or models:/NAME@ALIAS")
    share: float = Field(default=0.2, gt=0, le=1, description="of the messages, drawn at random")
    waiting: int = Field(default=64, ge=1, description="messages; what comes then is dropped")
    longest: int = Field(default=20_000, ge=1, description="characters of a message with its context; more is dropped")
    patience_s: float = Field(default=1.0, ge=0, description="that a message waits for the engine to be free")
    every_s: float = Field(default=5.0, gt=0, description="how often the source is asked")
    retry_s: float = Field(default=60.0, gt=0, description="until a refused bundle is tried again unchanged")
    examples: int = Field(default=20, ge=0)


class Champion(Protocol):
    """The model that serves, with the policy in force."""

    @property
    def bundle(self) -> Bundle: ...
    @property
    def policy(self) -> Policy: ...


@dataclass(frozen=True)
class _Pair:
    """A message, and what the model that serves said of it."""

    job: Job
    answer: Answer


class Shadow:
    """Holds the challenger. `champion` and `busy` are asked in its thread, and must answer at once."""

    def __init__(
        self,
        config: ShadowConfig,
        source: Source,
        champion: Callable[[], Champion],
        busy: Callable[[], bool],
        now: Callable[[], datetime],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config, self._source, self._champion = config, source, champion
        self._busy, self._now, self._draw = busy, now, draw
        self._waiting: deque[_Pair] = deque()
        self._changed = threading.Condition()  # held for the queue and for whatever `report` tells
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="simmer-shadow", daemon=True)
        self._scorer: Scorer | None = None
        self._tried, self._asked_at, self._tried_at = "", -1e9, -1e9
        self._refused: str | None = "not loaded yet"
        self._failure: str | None = None
        self._begin("", None)

    def start(self) -> None:
        """Begin; the challenger is loaded beside everything else."""
        self._thread.start()

    def close(self) -> None:
        """Take nothing more, and end after the message under way."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def offer(self, jobs: Sequence[Job], answers: Sequence[Answer]) -> None:
        """Take a share of what was answered, as far as there is room. Costs some microseconds, and never raises."""
        if self._scorer is None or self._stopped:
            return
        for job, answer in zip(jobs, answers, strict=False):
            if job.turn is None or self._draw() >= self._config.share:
                continue
            kept = recent(job)
            with self._changed:
                self._offered += 1
                if len(self._waiting) >= self._config.waiting or _characters(kept) > self._config.longest:
                    self._dropped += 1
                    continue
                self._waiting.append(_Pair(kept, answer))
                self._changed.notify()

    def report(self) -> Report:
        """What was found since this pair of models is compared."""
        with self._changed:
            return Report(
                champion=self._pair[0] or None,
                challenger=self._pair[1],
                version=self._scorer.bundle.version if self._scorer else None,
                since=self._since,
                share=self._config.share,
                offered=self._offered,
                scored=self._scored,
                dropped=self._dropped,
                failed=self._failed,
                refused=self._refused,
                failure=self._failure,
                differences=self._tally.differences(),
            )

    def watch_gauges(self, metrics: Metrics) -> None:
        """Tell counts and shares whenever metrics are asked."""
        metrics.watch("simmer_shadow_messages", self._outcomes)
        metrics.watch("simmer_shadow_moved", lambda: self.report().differences.moved)
        metrics.watch("simmer_shadow_changed", lambda: self.report().differences.levels)

    def _outcomes(self) -> dict[str, float]:
        told = self.report()
        return {"scored": float(told.scored), "dropped": float(told.dropped), "failed": float(told.failed)}

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._follow()
                pair = self._next()
                if pair is not None:
                    self._score(pair)
            except Exception:
                logger.exception("the shadow stumbled; it goes on")
                time.sleep(LOOK_S)

    def _next(self) -> _Pair | None:
        """The next message once the engine is free; None where there is none for a while, or it waited too long."""
        with self._changed:
            if not self._waiting and not self._stopped:
                self._changed.wait(self._config.every_s)
            pair = self._waiting.popleft() if self._waiting else None
        give_up = time.monotonic() + self._config.patience_s
        while pair is not None and self._busy():
            if self._stopped or time.monotonic() >= give_up:
                self._count(dropped=1)
                return None
            time.sleep(LOOK_S)
        return pair

    def _score(self, pair: _Pair) -> None:
        scorer = self._scorer
        if scorer is None or pair.answer.model.bundle != self._pair[0]:  # another model serves, or is in the shadow
            self._count(dropped=1)
            return
        try:
            said = scorer.score([pair.job])[0].model_dump()
            before = pair.answer.model_dump()
            with self._changed:
                self._tally.add(before, said)
                self._scored += 1
        except Exception as error:  # a challenger may do anything; its text must not get into what is told of it
            self._count(failed=1, failure=type(error).__name__)

    def _count(self, dropped: int = 0, failed: int = 0, failure: str | None = None) -> None:
        with self._changed:
            self._dropped += dropped
            self._failed += failed
            self._failure = failure or self._failure

    def _follow(self) -> None:
        """See to it that what is compared is the challenger there is with the champion there is."""
        champion = self._champion()
        if champion.bundle.digest != self._pair[0]:
            self._face(champion)
        challenger = self._scorer
        if challenger is not None and challenger.policy.config is not champion.policy.config:
            challenger.policy = Policy(champion.policy.config, challenger.bundle.card.labels)
        if time.monotonic() - self._asked_at < self._config.every_s:
            return
        self._asked_at = time.monotonic()
        try:
            candidate = self._source.find()
        except SourceUnavailable as error:
            self._refused = None if self._scorer else str(error)
            return
        again = self._refused is not None and time.monotonic() - self._tried_at >= self._config.retry_s
        if candidate.key != self._tried or again:
            self._tried, self._tried_at = candidate.key, time.monotonic()
            self._take(candidate, champion)

    def _face(self, champion: Champion) -> None:
        """Another model serves: count anew beside it, unless it is the challenger itself."""
        challenger = self._scorer
        if challenger is None:
            self._tried = ""  # what was refused beside the other may do beside this one
        if challenger is not None and challenger.bundle.digest == champion.bundle.digest:
            self._scorer = None
            self._refuse(champion, SAME)
        else:
            self._begin(champion.bundle.digest, challenger.bundle.digest if challenger else None)

    def _take(self, candidate: Candidate, champion: Champion) -> None:
        """Load another challenger; the one there was is let go first, so that there are never three models."""
        self._scorer = None
        try:
            bundle = load_candidate(candidate)
            if bundle.digest == champion.bundle.digest:
                self._refuse(champion, SAME)
                return
            scorer = Scorer(bundle, Policy(champion.policy.config, bundle.card.labels))
        except Exception as error:  # whatever a bundle does when it is loaded, what serves is not to feel it
            self._refuse(champion, str(error) or type(error).__name__)
            return
        self._begin(champion.bundle.digest, bundle.digest)
        self._refused, self._scorer = None, scorer
        logger.info("in the shadow: version %s of %s", candidate.version, candidate.path)

    def _refuse(self, champion: Champion, why: str) -> None:
        logger.warning("nothing is in the shadow: %s", why)
        self._begin(champion.bundle.digest, None)
        self._refused = why

    def _begin(self, champion: str, challenger: str | None) -> None:
        """Count anew, for this pair of models."""
        with self._changed:
            self._pair = (champion, challenger)
            self._since = self._now()
            self._tally = Tally(self._config.examples)
            self._offered = self._scored = self._dropped = self._failed = 0
            self._failure = None
            self._waiting.clear()


def recent(job: Job) -> Job:
    """The message with the turns that its scoring may look at, so that a long conversation is not kept."""
    talk, turn = job.conversation, job.turn
    if turn is None or turn < CONTEXT_READ:
        return job if turn is None or len(talk.turns) == turn + 1 else _cut(talk, 0, turn)
    return _cut(talk, turn - CONTEXT_READ, turn)


def _cut(talk: Conversation, first: int, last: int) -> Job:
    turns = talk.turns[first : last + 1]
    return Job(talk.model_copy(update={"turns": turns}), last - first)


def _characters(job: Job) -> int:
    return sum(len(turn.text) for turn in job.conversation.turns)
