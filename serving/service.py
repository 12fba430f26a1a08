"""The service: model, policy, store, events and keys put together, started and stopped in their order.

    service = open_service(config)      # loads and checks; raises what stands in the way, in one line
    async with running(service): ...

Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from pipeline.bundle import BundleRefused
from pipeline.config import CONFIGS
from serving.batcher import Batcher
from serving.config import ServeConfig, shadow_in, source_in
from serving.drift.watch import DriftWatch
from serving.events.outgoing import Outgoing
from serving.live.conversations import Conversations
from serving.live.handling import Handling
from serving.live.judging import Judge
from serving.live.keeper import Keeper
from serving.live.live import Live
from serving.operation.drain import Drain
from serving.operation.health import Health, NotReady
from serving.operation.metrics import Metrics
from serving.operation.models import Models, load_candidate
from serving.operation.registry import Candidate
from serving.operation.shadow import Shadow
from serving.operation.tracing import Tracing, open_tracing
from serving.policy import Policy, PolicyMismatch
from serving.review.sampling import Sampler
from serving.routing.watch import PolicyWatch
from serving.scorer import LiveScorer, Scorer
from serving.scoring import ModelScoring
from serving.security.keys import loopback_only
from serving.security.rates import RateLimiter
from serving.security.verifier import Verifier, lookup_in
from serving.store.conversations import waiting
from serving.store.database import Database, open_database, vacuum_erased
from serving.store.deliveries import counts
from serving.store.reader import Reader
from serving.store.writer import Writer

T = TypeVar("T")

WAITS_COUNT_S = 5.0  # seconds for which the count of who waits holds


@dataclass(frozen=True)
class Service:
    """Everything that answers requests."""

    config: ServeConfig
    models: Models[LiveScorer]
    scoring: ModelScoring
    watch: PolicyWatch
    database: Database
    writer: Writer
    reader: Reader
    live: Live
    outgoing: Outgoing
    metrics: Metrics
    tracing: Tracing
    health: Health
    drain: Drain
    rates: RateLimiter
    drift: DriftWatch
    shadow: Shadow | None  # None where no challenger is named
    verifier: Verifier | None  # None where no key is asked for

    def judge(self) -> Judge:
        """The policy that decides now."""
        return _judge_of(self.models.current.scorer, self.watch)


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def open_service(config: ServeConfig) -> Service:
    """The service, loaded and checked, its threads not started yet.

    Raises BundleRefused, SourceUnavailable, ConfigError, PolicyMismatch, StoreRefused, StoreUnavailable, InputError.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # messages are short: threads cost more than they save
    metrics = Metrics()
    watch, models = _open_models(config, metrics)
    database = open_database(config.store.url)
    writer, reader = Writer(database, committed=metrics.committed), Reader(database)
    outgoing = Outgoing(config.events, writer, reader, now)
    shadow = _open_shadow(config, models)
    scoring = ModelScoring(models, metrics, shadow)
    keyless = loopback_only(config.host)
    service = Service(
        config=config,
        models=models,
        scoring=scoring,
        watch=watch,
        database=database,
        writer=writer,
        reader=reader,
        live=_open_live(config, database, writer, reader, models, watch, scoring, outgoing),
        outgoing=outgoing,
        metrics=metrics,
        tracing=open_tracing(config.tracing),
        health=Health(config.health),
        drain=Drain(),
        rates=RateLimiter(config.limits.rate),
        drift=DriftWatch(database, lambda: models.current.scorer, config.drift, now),
        shadow=shadow,
        verifier=None if keyless else Verifier(lookup_in(database.reading), config.keys, now),
    )
    _watch_gauges(service)
    _add_checks(service)
    return service


def _open_live(
    config: ServeConfig,
    database: Database,
    writer: Writer,
    reader: Reader,
    models: Models[LiveScorer],
    watch: PolicyWatch,
    scoring: ModelScoring,
    outgoing: Outgoing,
) -> Live:
    def judge() -> Judge:
        return _judge_of(models.current.scorer, watch)

    conversations = Conversations(reader, writer, lambda: scoring, judge, outgoing, now)
    vacuum = partial(vacuum_erased, database)
    keeper = Keeper(reader, writer, judge, outgoing, now, vacuum, conversations.handy, config.store.keep_days)
    handling = Handling(writer, conversations.handy, judge, outgoing, now, keeper.erased)
    return Live(conversations, handling, keeper, reader, judge, now)


def _open_shadow(config: ServeConfig, models: Models[LiveScorer]) -> Shadow | None:
    source = shadow_in(config)
    if config.shadow is None or source is None:
        return None
    return Shadow(config.shadow, source, lambda: models.current.scorer, lambda: models.current.batcher.waiting > 0, now)


def _judge_of(scorer: Scorer, watch: PolicyWatch) -> Judge:
    """The policy in force over a model's labels; a model that was loaded under another takes it now, if it fits."""
    if scorer.policy.digest != watch.policy.digest:
        with suppress(PolicyMismatch):
            scorer.policy = Policy(watch.policy.config, scorer.bundle.card.labels)
    return Judge(scorer.policy, scorer.bundle.card.labels)


def _open_models(config: ServeConfig, metrics: Metrics) -> tuple[PolicyWatch, Models[LiveScorer]]:
    """The model that serves with the policy in force, each followed where it changes."""
    watches: list[PolicyWatch] = []

    def load(candidate: Candidate) -> LiveScorer:
        bundle = load_candidate(candidate, config.batcher.threads, config.batcher.stream_count())
        vocabulary = bundle.card.labels
        if not watches:
            watches.append(PolicyWatch(CONFIGS / "routing.yaml", vocabulary, config.policy_every_s))
        batcher = Batcher(bundle.predictor, config.batcher, metrics)
        model = LiveScorer(Scorer(bundle, Policy(watches[0].policy.config, vocabulary)), batcher)
        batcher.start()  # once nothing can be refused any more: nobody would stop the streams
        return model

    models = Models(source_in(config), load, lambda model: model.batcher.close(), config.reload)
    return watches[0], models


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """The service at work; at the end what is under way is finished, committed and delivered."""
    async with AsyncExitStack() as stack:
        stack.callback(service.database.close)
        stack.callback(service.reader.close)
        stack.push_async_callback(asyncio.to_thread, service.writer.close)
        service.writer.start()
        stack.push_async_callback(service.models.close)
        stack.callback(service.drift.close)
        if service.shadow is not None:
            stack.push_async_callback(asyncio.to_thread, service.shadow.close)
            service.shadow.start()
        stack.push_async_callback(service.outgoing.close)
        service.outgoing.start()
        stack.callback(service.tracing.close)
        service.drain.when_begun(lambda: service.health.stop("draining"))
        service.drain.when_begun(service.outgoing.drain)
        for forever in (
            service.models.watch(),
            service.health.watch(),
            service.live.keeper.run(),
            service.drift.run(),
            service.watch.run(_adopting(service)),
            Sampler(service.reader, service.writer, service.config.review.sampling, service.live.now).run(),
        ):
            stack.push_async_callback(_ended, asyncio.create_task(forever))
        yield


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _adopting(service: Service) -> Callable[[Policy], Coroutine[Any, Any, None]]:
    async def adopt(_: Policy) -> None:
        await service.live.keeper.adopt()

    return adopt


def _add_checks(service: Service) -> None:
    async def model() -> None:
        with service.models.use() as serving:
            try:
                await serving.ready()
            except BundleRefused as error:
                raise NotReady(str(error)) from None

    async def store() -> None:
        await service.reader.run(lambda connection: connection.execute(text("SELECT 1")).scalar())
        await service.writer.run(lambda connection: connection.execute(text("SELECT 1")).scalar())

    service.health.add("model", model)
    service.health.add("store", store)


class _Waits:
    """Who waits, asked once for both gauges that tell of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked_at = -WAITS_COUNT_S
        self._found: dict[str, tuple[int, datetime]] = {}

    def by_queue(self) -> dict[tuple[str, ...], float]:
        return {(queue,): float(count) for queue, (count, _) in self._ask().items()}

    def oldest(self) -> float:
        since = [oldest for _, oldest in self._ask().values()]
        return max(0.0, (now() - min(since)).total_seconds()) if since else 0.0

    def _ask(self) -> dict[str, tuple[int, datetime]]:
        if monotonic() - self._asked_at >= WAITS_COUNT_S:
            self._found, self._asked_at = _read(self._database, waiting), monotonic()
        return self._found


def _watch_gauges(service: Service) -> None:
    metrics, models, read = service.metrics, service.models, partial(_read, service.database)
    waits = _Waits(service.database)
    metrics.watch("simmer_engine_queue_depth", lambda: models.current.batcher.waiting)
    metrics.watch("simmer_store_queue_depth", service.writer.depth)
    metrics.watch("simmer_ready", lambda: float(service.health.report().ready))
    metrics.watch("simmer_model_info", lambda: _name_of(models.current))
    metrics.watch("simmer_model_refused", lambda: float(models.status().refused is not None))
    metrics.watch("simmer_model_source_unavailable", lambda: float(models.status().unavailable is not None))
    metrics.watch("simmer_waiting_conversations", waits.by_queue)
    metrics.watch("simmer_oldest_wait_seconds", waits.oldest)
    metrics.watch("simmer_outbox_pending", lambda: read(_pending))
    metrics.watch("simmer_outbox_dead", lambda: read(_dead))
    service.drift.watch_gauges(metrics)
    if service.shadow is not None:
        service.shadow.watch_gauges(metrics)


def _read(database: Database, query: Callable[[Connection], T]) -> T:
    with database.reading.begin() as connection:
        return query(connection)


def _name_of(model: LiveScorer) -> dict[tuple[str, ...], float]:
    name = model.scorer.model
    return {(name.version or "", name.bundle): 1.0}


def _pending(connection: Connection) -> dict[tuple[str, ...], float]:
    return {(webhook,): float(found.get("pending", 0)) for webhook, found in counts(connection).items()}


def _dead(connection: Connection) -> float:
    return float(sum(found.get("dead", 0) for found in counts(connection).values()))
