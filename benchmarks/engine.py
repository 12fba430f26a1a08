"""What the scorer's engine does in process, on one core: beside itself run ideally, without buckets, and beside plain
transformers.

    python -m benchmarks.engine [--runs 5] [--model models/current] [--json FILE]

bare engine           batches of 32 messages of 32 tokens, encoded before the clock starts
batcher               64 callers, each asking for one message at a time: encoding, waiting, batching, calibration
plain transformers    the same network in float32 with one untrained head, by `pipeline(texts)` as it comes, and with
                      `batch_size=32`
mixed lengths         messages of 5 to 200 tokens, short ones most common (log-uniform) or all alike (uniform): the
                      batcher, beside the same engine given batches of 32 in the order of arrival, padded to the
                      longest

Everyone takes turns in each run, so that noise hits all. No message comes twice in a run, and the cache is off.
Messages a second are by the clock; what the process itself used stands beside it, for machines that do other things
too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer

from benchmarks.throughput import BATCH, TOKENS, corpus_ids, messages, plain_pipeline
from pipeline.bundle import LAYOUT, Bundle, load_bundle
from pipeline.encode import Encoder, EncodingConfig, Input
from pipeline.predictor import Predictor
from pipeline.stage import MODELS
from pipeline.text import Cleaned
from serving.batcher import Batcher, BatcherConfig

CALLERS = 64
SHORTEST, LONGEST = 5, 200  # tokens of mixed messages
LONG = EncodingConfig(max_tokens=256, message_tokens=254, turn_tokens=24, earlier_turns=0)
COUNTS = {"messages": 768, "plain": 128, "mixed": 384}
TARGETS = {
    ("batcher", "bare engine"): 0.9,
    ("batcher", "plain transformers"): 5.0,
    ("batcher", "plain transformers, batch_size=32"): None,
    ("batcher, log-uniform lengths", "no buckets, log-uniform lengths"): 2.0,
    ("batcher, uniform lengths", "no buckets, uniform lengths"): 2.0,
}


@dataclass
class Measured:
    """Messages a second of one contender, by the clock and by its own processor time, one of each a run."""

    by_clock: list[float] = field(default_factory=list)
    by_processor: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Contender:
    """Something that scores `count` messages each time it is run."""

    count: int
    run: Callable[[], Awaitable[object]]


def mixed_texts(count: int, tokenizer: Tokenizer, log: bool) -> list[str]:
    """Customer messages joined and cut to lengths drawn between the shortest and the longest, the same each time."""
    draw = random.Random(7)
    ids = corpus_ids(tokenizer)
    texts, start = [], 0
    for _ in range(count):
        exponent = draw.uniform(math.log(SHORTEST), math.log(LONGEST))
        length = round(math.exp(exponent)) if log else draw.randint(SHORTEST, LONGEST)
        texts.append(tokenizer.decode(ids[start : start + length - 2]))
        start = (start + length) % (len(ids) - LONGEST)
    return texts


def inputs_of(texts: Sequence[str]) -> list[Input]:
    """Messages as the batcher is given them."""
    return [Input(Cleaned(text), ()) for text in texts]


async def ask(batcher: Batcher, inputs: Sequence[Input]) -> None:
    """So many callers at a time, each asking for one message after the other."""
    left = iter(inputs)

    async def caller() -> None:
        for one in left:
            await batcher.predict([one])

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def in_order_of_arrival(predictor: Predictor, inputs: Sequence[Input]) -> None:
    """The same engine without buckets: batches as messages come, padded to the longest."""
    for start in range(0, len(inputs), BATCH):
        encoded = predictor.encoder.encode_many(inputs[start : start + BATCH])
        predictor.calibrate(predictor.run(encoded))


def without_waiting(work: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """Work that blocks, as something to await."""

    async def run() -> object:
        return work()

    return run


def contenders(bundle: Bundle, batcher: Batcher, mixed: Predictor, mixed_batcher: Batcher) -> dict[str, Contender]:
    """Everything that is measured."""
    tokenizer = bundle_tokenizer(bundle)
    texts = messages(COUNTS["messages"], tokenizer)
    predictor, classify = bundle.predictor, plain_pipeline()
    encoded = predictor.encoder.encode_many(inputs_of(texts))
    ideal = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
    plain = texts[: COUNTS["plain"]]
    found = {
        "bare engine": Contender(len(texts), without_waiting(lambda: [predictor.run(batch) for batch in ideal])),
        "batcher": Contender(len(texts), lambda: ask(batcher, inputs_of(texts))),
        "plain transformers": Contender(len(plain), without_waiting(lambda: classify(plain))),
        f"plain transformers, batch_size={BATCH}": Contender(
            len(plain), without_waiting(lambda: classify(plain, batch_size=BATCH))
        ),
    }
    for name, log in (("log-uniform", True), ("uniform", False)):
        inputs = inputs_of(mixed_texts(COUNTS["mixed"], tokenizer, log))
        found[f"batcher, {name} lengths"] = Contender(len(inputs), _asking(mixed_batcher, inputs))
        found[f"no buckets, {name} lengths"] = Contender(len(inputs), _arriving(mixed, inputs))
    return found


def _asking(batcher: Batcher, inputs: Sequence[Input]) -> Callable[[], Awaitable[object]]:
    return lambda: ask(batcher, inputs)


def _arriving(predictor: Predictor, inputs: Sequence[Input]) -> Callable[[], Awaitable[object]]:
    return without_waiting(lambda: in_order_of_arrival(predictor, inputs))


def bundle_tokenizer(bundle: Bundle) -> Tokenizer:
    """A tokenizer of one's own, which another encoding may configure."""
    return Tokenizer.from_file(str(bundle.path / LAYOUT.tokenizer))


async def measure(model: Path, runs: int) -> dict[str, Measured]:
    """Everyone in turn, `runs` times, after one run that does not count."""
    bundle = load_bundle(model)
    config = BatcherConfig(streams=1, cache_entries=0, warm_seconds=30, waiting_tokens=2 * CALLERS * LONGEST)
    mixed = Predictor(
        Encoder(bundle_tokenizer(bundle), LONG), bundle.predictor.engine, bundle.card.labels, bundle.card.calibration
    )
    batchers = [Batcher(bundle.predictor, config), Batcher(mixed, config)]
    for batcher in batchers:
        batcher.start()
    field_of = contenders(bundle, batchers[0], mixed, batchers[1])
    found = {name: Measured() for name in field_of}
    for number in track(range(runs + 1), description="measuring"):
        for name, contender in field_of.items():
            clock, processor = time.perf_counter(), time.process_time()
            await contender.run()
            if number:
                found[name].by_clock.append(contender.count / (time.perf_counter() - clock))
                found[name].by_processor.append(contender.count / (time.process_time() - processor))
    for batcher in batchers:
        await batcher.close()
    return found


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one is as another, run by run, and the least it should be."""

    name: str
    by_clock: list[float]
    by_processor: list[float]
    target: float | None


def ratios(found: Mapping[str, Measured]) -> Iterator[Ratio]:
    """Every ratio that has a target or is worth knowing."""
    for (ours, theirs), target in TARGETS.items():
        one, other = found[ours], found[theirs]
        by_clock = [a / b for a, b in zip(one.by_clock, other.by_clock, strict=True)]
        by_processor = [a / b for a, b in zip(one.by_processor, other.by_processor, strict=True)]
        yield Ratio(f"{ours} / {theirs}", by_clock, by_processor, target)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }


def as_json(found: Mapping[str, Measured]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "cores": 1,
        "tokens": TOKENS,
        "callers": CALLERS,
        "messages_per_second": {name: spread(one.by_clock) for name, one in found.items()},
        "messages_per_cpu_second": {name: spread(one.by_processor) for name, one in found.items()},
        "ratios": {
            one.name: {"by_clock": spread(one.by_clock), "by_processor": spread(one.by_processor), "target": one.target}
            for one in ratios(found)
        },
    }


def report(found: Mapping[str, Measured]) -> None:
    """Rates and ratios with their ranges."""
    rates = Table("one core, in process", "messages/s", "lowest to highest", "a CPU-second")
    for name, one in found.items():
        clock, processor = spread(one.by_clock), spread(one.by_processor)
        rates.add_row(
            name, f"{clock['median']:.0f}", f"{clock['low']:.0f} to {clock['high']:.0f}", f"{processor['median']:.0f}"
        )
    table = Table("ratio", "median", "lowest to highest", "of CPU time", "target")
    for ratio in ratios(found):
        clock, processor = spread(ratio.by_clock), spread(ratio.by_processor)
        span = f"{clock['low']:.2f} to {clock['high']:.2f}"
        table.add_row(ratio.name, f"{clock['median']:.2f}", span, f"{processor['median']:.2f}", f"{ratio.target or ''}")
    console = Console()
    console.print(rates)
    console.print(table)


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description="The engine in process, on one core.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", type=Path, default=MODELS / "current")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    found = asyncio.run(measure(given.model, given.runs))
    report(found)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(as_json(found), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
