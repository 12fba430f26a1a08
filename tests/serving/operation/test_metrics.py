"""Metrics: what happened is counted under few labels, what cannot be read is left out, and counting is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from timeit import repeat
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from serving.answers import Abstention, Answer, Level, Priority
from serving.examples import ANSWER
from serving.operation.metrics import GAUGES, Metrics, Reading

JUDGED = Answer.model_validate(ANSWER)
NOT_JUDGED = Answer(
    id="b",
    turn=0,
    priority=Priority(score=30, queue="standard", reasons=["abstained_language"]),
    abstained=Abstention(reason="language", detail="fr"),
    model=JUDGED.model,
)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_answers_are_counted_by_queue_and_their_scores_are_kept(metrics: Metrics) -> None:
    hot = JUDGED.model_copy(update={"frustration": Level(level=3, expected=2.7, probabilities=[0, 0, 0.3, 0.7])})
    for answer in (JUDGED, hot, NOT_JUDGED):
        metrics.answered(answer)
    assert value(metrics, "simmer_decisions_total", queue=JUDGED.priority.queue) == 2
    assert value(metrics, "simmer_decisions_total", queue="standard") == 1
    assert value(metrics, "simmer_abstained_total", reason="language") == 1
    assert value(metrics, "simmer_score_frustration_count") == 2
    assert value(metrics, "simmer_score_frustration_bucket", le="2.5") == 1
    assert value(metrics, "simmer_score_sentiment_count") == 2
    assert value(metrics, "simmer_score_urgency_count") == 2
    assert value(metrics, "simmer_score_boil_over_count") == 2
    assert value(metrics, "simmer_score_priority_count") == 3


def test_stages_and_batches_are_timed(metrics: Metrics) -> None:
    metrics.took("read", 0.0002)
    metrics.ran(rows=8, tokens=256, seconds=0.012)
    metrics.committed(writes=16, seconds=0.004)
    metrics.hit(3)
    assert value(metrics, "simmer_stage_seconds_sum", stage="read") == 0.0002
    assert value(metrics, "simmer_stage_seconds_bucket", stage="run", le="0.01") == 0
    assert value(metrics, "simmer_stage_seconds_bucket", stage="run", le="0.025") == 1
    assert value(metrics, "simmer_batch_rows_sum") == 8
    assert value(metrics, "simmer_batch_tokens_sum") == 256
    assert value(metrics, "simmer_store_group_size_sum") == 16
    assert value(metrics, "simmer_stage_seconds_count", stage="commit") == 1
    assert value(metrics, "simmer_cache_hits_total") == 3


def test_what_may_be_shed_is_there_before_anything_is(metrics: Metrics) -> None:
    assert {reason: value(metrics, "simmer_shed_total", reason=reason) for reason in ("overload", "deadline", "rate")}
    metrics.shed("overload", 2)
    assert value(metrics, "simmer_shed_total", reason="overload") == 2
    assert value(metrics, "simmer_shed_total", reason="deadline") == 0


@pytest.mark.parametrize(
    ("gauge", "reading", "labels", "expected"),
    [
        ("simmer_store_queue_depth", 7, {}, 7),
        ("simmer_ready", True, {}, 1),
        ("simmer_oldest_wait_seconds", 12.5, {}, 12.5),
        ("simmer_waiting_conversations", {"senior": 3, "standard": 40}, {"queue": "standard"}, 40),
        ("simmer_outbox_pending", {}, {"webhook": "crm"}, None),
        ("simmer_model_info", {("3", "sha256:ab"): 1}, {"version": "3", "bundle": "sha256:ab"}, 1),
        ("simmer_waiting_conversations", {'odd"\n\\': 1}, {"queue": 'odd"\n\\'}, 1),
    ],
)
def test_gauges_are_read_when_asked(
    metrics: Metrics, gauge: Any, reading: Reading, labels: Mapping[str, str], expected: float | None
) -> None:
    metrics.watch(gauge, lambda: reading)
    assert value(metrics, gauge, **labels) == expected


@pytest.mark.parametrize("reading", [RuntimeError("store is gone"), {"senior": 1}, None])
def test_a_gauge_that_cannot_be_read_is_left_out_and_counted(metrics: Metrics, reading: Any) -> None:
    def read() -> Any:
        if isinstance(reading, Exception):
            raise reading
        return reading

    metrics.watch("simmer_model_info", read)
    metrics.hit()
    found = samples(metrics)
    assert not [name for name, _ in found if name == "simmer_model_info"]
    assert value(metrics, "simmer_cache_hits_total") == 1
    assert (value(metrics, "simmer_gauge_failures_total", gauge="simmer_model_info") or 0) >= 1


def test_a_gauge_is_watched_once(metrics: Metrics) -> None:
    metrics.watch("simmer_ready", lambda: 1)
    with pytest.raises(ValueError, match="simmer_ready"):
        metrics.watch("simmer_ready", lambda: 0)


def test_the_exposition_is_well_formed_in_both_formats(metrics: Metrics) -> None:
    for gauge, (_, labels) in GAUGES.items():
        metrics.watch(gauge, lambda labels=labels: {tuple(labels): 1.0} if labels else 1.0)
    metrics.answered(JUDGED)
    metrics.request("/v1/score", "POST", "200", 0.01)
    body, media_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert set(GAUGES) <= names
    text, media_type = metrics.exposition()
    assert media_type.startswith("text/plain")
    assert {family.name for family in parse_text(text.decode())} >= {"simmer_ready", "process_cpu_seconds"}


def test_nothing_is_lost_between_threads(metrics: Metrics) -> None:
    def count() -> None:
        for _ in range(2_000):
            metrics.request("/v1/score", "POST", "200", 0.01)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "simmer_http_requests_total", route="/v1/score", method="POST", status="200") == 8_000
    assert value(metrics, "simmer_http_seconds_count", route="/v1/score") == 8_000


def test_two_are_apart() -> None:
    one, other = Metrics(), Metrics()
    one.hit()
    assert value(other, "simmer_cache_hits_total") == 0


def test_counting_a_message_is_cheap(metrics: Metrics) -> None:
    def message() -> None:
        metrics.took("read", 0.0003)
        metrics.took("queue", 0.004)
        metrics.ran(1, 40, 0.002)
        metrics.took("answer", 0.0001)
        metrics.committed(1, 0.005)
        metrics.answered(JUDGED)
        metrics.request("/v1/score", "POST", "200", 0.008)

    assert min(repeat(message, number=1_000, repeat=5)) / 1_000 < 60e-6  # 11 on a quiet machine, the budget is 20
