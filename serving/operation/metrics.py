"""What is counted and timed, for Prometheus: one `Metrics` a process, in a registry of its own.

Labels take few values: route templates, queues and webhooks of the configuration, reasons of the vocabulary. Never an
id, a path or a text. What is cheap is counted as it happens; what others know (depths, rows that wait) is read when
`/metrics` is asked. Knows nothing of HTTP frameworks, engines or stores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from serving.answers import Answer

logger = logging.getLogger("simmer.metrics")

Stage = Literal["read", "queue", "run", "answer", "commit"]
Shed = Literal["overload", "deadline", "rate"]
Gauge = Literal[
    "simmer_engine_queue_depth",
    "simmer_store_queue_depth",
    "simmer_outbox_pending",
    "simmer_outbox_dead",
    "simmer_waiting_conversations",
    "simmer_oldest_wait_seconds",
    "simmer_model_info",
    "simmer_model_refused",
    "simmer_model_source_unavailable",
    "simmer_ready",
    "simmer_drift_psi",
    "simmer_drift_auc",
    "simmer_drift_verdict",
    "simmer_drift_checked_at",
    "simmer_shadow_messages",
    "simmer_shadow_moved",
    "simmer_shadow_changed",
]
Reading = float | Mapping[str, float] | Mapping[tuple[str, ...], float]

GAUGES: Mapping[Gauge, tuple[str, tuple[str, ...]]] = {
    "simmer_engine_queue_depth": ("inputs that wait for the engine", ()),
    "simmer_store_queue_depth": ("writes that wait for a commit", ()),
    "simmer_outbox_pending": ("events that a webhook has not taken yet", ("webhook",)),
    "simmer_outbox_dead": ("events that no webhook took", ()),
    "simmer_waiting_conversations": ("conversations whose customer waits", ("queue",)),
    "simmer_oldest_wait_seconds": ("how long the customer has waited who waits longest", ()),
    "simmer_model_info": ("1 for the model that serves", ("version", "bundle")),
    "simmer_model_refused": ("1 where another bundle was refused and the old one stays", ()),
    "simmer_model_source_unavailable": ("1 where it cannot be said which bundle should serve", ()),
    "simmer_ready": ("1 where /readyz would say ready", ()),
    "simmer_drift_psi": ("how far live messages moved from the training data, above what chance gives", ("feature",)),
    "simmer_drift_auc": ("how well live messages are told from others, 0.5 not at all", ("against",)),
    "simmer_drift_verdict": ("0 nothing to do, 1 have a look, 2 retrain", ()),
    "simmer_drift_checked_at": ("when drift was last measured, seconds since 1970", ()),
    "simmer_shadow_messages": ("messages for the challenger since it is in the shadow", ("outcome",)),
    "simmer_shadow_moved": ("share of messages that the challenger puts in another queue", ()),
    "simmer_shadow_changed": ("share of messages that the challenger reads as another value", ("head",)),
}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
HTTP_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
STAGE_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
BATCH_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORES: Mapping[str, tuple[float, ...]] = {
    "frustration": (0.5, 1.0, 1.5, 2.0, 2.5),
    "urgency": (0.5, 1.0, 1.5, 2.0, 2.5),
    "sentiment": (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875),
    "boil_over": (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "priority": (10, 20, 30, 40, 50, 60, 70, 80, 90),
}


class Metrics:
    """Counts and times what happens; the batcher's observer, and small methods for everyone else. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = _Children(self._counter("simmer_http_requests", "answers given", "route", "method", "status"))
        self._http = _Children(self._histogram("simmer_http_seconds", "until an answer began", HTTP_SECONDS, "route"))
        self._stages = _Children(self._histogram("simmer_stage_seconds", "by stage", STAGE_SECONDS, "stage"))
        self._rows = self._histogram("simmer_batch_rows", "inputs in one run of the engine", BATCH_ROWS)
        self._tokens = self._histogram("simmer_batch_tokens", "padded tokens in one run", BATCH_TOKENS)
        self._group = self._histogram("simmer_store_group_size", "writes in one commit", GROUP_SIZES)
        self._hits = self._counter("simmer_cache_hits", "inputs answered without a run")
        self._shed = _Children(self._counter("simmer_shed", "requests turned away", "reason"), *get_args(Shed))
        self._abstained = _Children(self._counter("simmer_abstained", "messages not judged", "reason"))
        self._decisions = _Children(self._counter("simmer_decisions", "messages by queue", "queue"))
        self._failures = _Children(self._counter("simmer_gauge_failures", "gauges that could not be read", "gauge"))
        self._scores = {name: self._score(name, bounds) for name, bounds in SCORES.items()}
        for stage in get_args(Stage):
            self._stages[(stage,)]

    def request(self, route: str, method: str, status: str, seconds: float) -> None:
        """One HTTP request was answered; `route` is the template, never the path."""
        self._requests[route, method, status].inc()
        self._http[(route,)].observe(seconds)

    def took(self, stage: Stage, seconds: float) -> None:
        """A message, or its commit, spent this long in a stage."""
        self._stages[(stage,)].observe(seconds)

    def ran(self, rows: int, tokens: int, seconds: float) -> None:
        """The engine ran one batch of `tokens` padded tokens."""
        self._rows.observe(rows)
        self._tokens.observe(tokens)
        self._stages[("run",)].observe(seconds)

    def hit(self, inputs: int = 1) -> None:
        """Inputs were answered from the cache, or by the run of an equal one."""
        self._hits.inc(inputs)

    def shed(self, reason: Shed, requests: int = 1) -> None:
        """Requests were turned away."""
        self._shed[(reason,)].inc(requests)

    def committed(self, writes: int, seconds: float) -> None:
        """One transaction of the store was committed."""
        self._group.observe(writes)
        self._stages[("commit",)].observe(seconds)

    def answered(self, answer: Answer) -> None:
        """A message was answered."""
        priority, scores = answer.priority, self._scores
        self._decisions[(priority.queue,)].inc()
        scores["priority"].observe(priority.score)
        if answer.abstained is not None:
            self._abstained[(answer.abstained.reason,)].inc()
        if answer.frustration is not None:
            scores["frustration"].observe(answer.frustration.expected)
        if answer.urgency is not None:
            scores["urgency"].observe(answer.urgency.expected)
        if answer.sentiment is not None:
            scores["sentiment"].observe((answer.sentiment.score + 1) / 2)  # a histogram's sum may not fall
        if answer.boil_over is not None:
            scores["boil_over"].observe(answer.boil_over)

    def watch(self, gauge: Gauge, read: Callable[[], Reading]) -> None:
        """Read a gauge whenever `/metrics` is asked: one number, or a number for each value of its labels.

        `read` may block for a moment; a gauge that cannot be read is left out and counted.
        """
        text, labels = GAUGES[gauge]
        self.registry.register(_Watched(gauge, text, labels, read, lambda: self._failures[(gauge,)].inc()))

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Everything, as OpenMetrics where `accept` asks for it and as Prometheus's text otherwise; its media type."""
        encode, media_type = choose_encoder(OPENMETRICS if OPENMETRICS.partition(";")[0] in accept else "")
        return encode(self.registry), media_type

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=bounds, registry=self.registry)

    def _score(self, name: str, bounds: Sequence[float]) -> Histogram:
        scale = " from 0, very negative, to 1, very positive" if name == "sentiment" else ""
        return self._histogram(f"simmer_score_{name}", f"{name} of messages{scale}", bounds)


class _Children(dict[tuple[str, ...], Any]):
    """A metric's children by label values: asking the metric each time costs more than counting."""

    def __init__(self, metric: Counter | Histogram, *values: str) -> None:
        super().__init__()
        self._metric = metric
        for value in values:  # a counter that has not counted yet says 0, so that a rate can be taken
            self[(value,)]

    def __missing__(self, labels: tuple[str, ...]) -> Any:
        child = self[labels] = self._metric.labels(*labels)
        return child


class _Watched:
    """A gauge that others know."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Reading], failed: Callable[[], None]
    ) -> None:
        self._name, self._text, self._labels, self._read, self._failed = name, text, labels, read, failed

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = self._family()
        try:
            reading = self._read()
            found: Mapping[Any, float] = reading if isinstance(reading, Mapping) else {(): reading}
            for key, value in found.items():
                labels = (key,) if isinstance(key, str) else key
                if len(labels) != len(self._labels):
                    raise ValueError(f"{len(labels)} labels")
                family.add_metric(labels, float(value))
        except Exception as error:
            logger.warning("%s cannot be read: %s", self._name, type(error).__name__)
            self._failed()
            return
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._text, labels=self._labels)
