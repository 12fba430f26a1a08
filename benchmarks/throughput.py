"""How many messages a second one core scores: `simmer score`, the whole command, beside a plain transformers pipeline.

    python benchmarks/throughput.py [--messages 4000] [--runs 5] [--model models/current]

Both get the same messages of 32 tokens, cut from the bundled corpus, and one core; runs alternate, so that noise
hits both. The plain pipeline predicts one label with the same encoder; the scorer predicts every head, cleans,
redacts, identifies the language, prioritises, and reads and writes files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from pipeline.sources.bundled import SOURCE
from pipeline.stage import CORPORA, MODELS
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, encoder_folder

TOKENS = 32
BATCH = 32


def messages(count: int, tokenizer: Tokenizer) -> list[str]:
    """Customer messages joined and cut to `TOKENS` tokens with [CLS] and [SEP]."""
    ids = corpus_ids(tokenizer)
    step = TOKENS - 2
    texts = [tokenizer.decode(ids[start : start + step]) for start in range(0, len(ids) - step, step)]
    lengths = [len(one.ids) for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    exact = [text for text, length in zip(texts, lengths, strict=True) if length == step]  # cut words read otherwise
    return [exact[number % len(exact)] for number in range(count)]


def corpus_ids(tokenizer: Tokenizer) -> list[int]:
    """The token ids of everything that customers say in the bundled corpus."""
    tokenizer.no_truncation()  # or there would be four different messages
    tokenizer.no_padding()
    turns = (turn.text for c in SOURCE.read(CORPORA) for turn in c.turns if turn.role == "customer")
    return tokenizer.encode(" ".join(turns), add_special_tokens=False).ids


def plain_pipeline() -> Any:
    """Text classification as transformers offers it, untrained head, float32, one thread."""
    folder = encoder_folder(TrainedEncoder(name=BUNDLED_ENCODER))
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=5, dtype=torch.float32)
    return pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu")


def seconds_of_command(source: Path, target: Path, model: Path) -> float:
    """Wall time of `simmer score` from start to end."""
    command = [sys.executable, "-m", "serving.cli", "score", str(source), "-o", str(target), "--model", str(model)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def seconds_of_pipeline(classify: Any, texts: list[str]) -> float:
    """Wall time of the plain pipeline over the texts, loading not counted."""
    started = time.perf_counter()
    classify(texts, batch_size=BATCH)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print rates and their ratio."""
    parser = argparse.ArgumentParser(description="Messages a second on one core.")
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", type=Path, default=MODELS / "current")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    folder = encoder_folder(TrainedEncoder(name=BUNDLED_ENCODER))
    texts = messages(given.messages, Tokenizer.from_file(str(folder / "tokenizer.json")))
    classify = plain_pipeline()
    rates: dict[str, list[float]] = {"simmer score": [], "transformers pipeline": []}
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.jsonl", Path(name) / "out.jsonl"
        rows = (json.dumps({"id": str(number), "text": text}) for number, text in enumerate(texts))
        source.write_text("\n".join(rows), encoding="utf-8")
        for _ in track(range(given.runs), description="measuring"):
            rates["simmer score"].append(len(texts) / seconds_of_command(source, target, given.model))
            rates["transformers pipeline"].append(len(texts) / seconds_of_pipeline(classify, texts))
    report(rates)


def report(rates: dict[str, list[float]]) -> None:
    """Medians, ranges, and the ratio of runs that stood side by side."""
    table = Table("one core, 32 tokens", "messages/s, median", "lowest to highest")
    for name, found in rates.items():
        table.add_row(name, f"{statistics.median(found):.0f}", f"{min(found):.0f} to {max(found):.0f}")
    ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
    table.add_row("ratio", f"{statistics.median(ratios):.1f}", f"{min(ratios):.1f} to {max(ratios):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
