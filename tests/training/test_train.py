"""The fine-tune, on an encoder small enough to train in a second."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import set_seed

from pipeline.prepare import FEATURES
from pipeline.vocabulary import Vocabulary, load_vocabulary
from training.checkpoint import new_model
from training.model import SimmerModel
from training.train import (
    DiskFull,
    MultiHeadTrainer,
    NoExamples,
    TrainConfig,
    fit,
    known_shares,
    sampled,
    trained_vocabulary,
)

FULL = load_vocabulary()
HEADS = ("sentiment", "frustration")
CONFIG = TrainConfig(
    seed=3,
    epochs=2,
    batch_rows=4,
    learning_rate=1e-3,
    head_learning_rate=1e-2,
    bias_learning_rate=1e-2,
    layer_decay=0.9,
    weight_decay=0.01,
    warmup_share=0.1,
    dropout=0.1,
    patience=None,
    sampling={"large": 0.5},
    head_weights=dict.fromkeys(HEADS, 1.0),
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def row(number: int, vocabulary: Vocabulary, source: str = "own") -> dict[str, Any]:
    target = [0.0] * vocabulary.size
    for where in vocabulary.slices().values():
        target[where.start + number % (where.stop - where.start)] = 1.0
    return {
        "conversation": f"c{number}",
        "turn": 0,
        "source": source,
        "channel": "chat",
        "industry": "rail",
        "split": "train",
        "text": f"message {number}",
        "input_ids": [2, 5 + number % 7, 6, 3],
        "token_type_ids": [0, 0, 0, 0],
        "target": target,
        "known": [True] * len(vocabulary.heads),
    }


def dataset(vocabulary: Vocabulary, rows: int = 24) -> DatasetDict:
    sources = ["own", "large", "large"]
    made = Dataset.from_list([row(n, vocabulary, sources[n % 3]) for n in range(rows)], features=FEATURES)
    return DatasetDict({"train": made, "validation": made})


def start(encoder: Path, vocabulary: Vocabulary) -> SimmerModel:
    set_seed(CONFIG.seed)
    return new_model(encoder, vocabulary, CONFIG.dropout)


def test_an_interrupted_training_goes_on_to_the_same_model(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = FULL.only(HEADS)
    whole = start(tiny_encoder, vocabulary)
    done = fit(whole, dataset(vocabulary), vocabulary, CONFIG, tmp_path / "whole")

    step, steps = MultiHeadTrainer.training_step, []

    def interrupted(*args: Any, **kwargs: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == done.state.max_steps // 2 + 2:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(MultiHeadTrainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(start(tiny_encoder, vocabulary), dataset(vocabulary), vocabulary, CONFIG, tmp_path / "parts")
    resumed = start(tiny_encoder, vocabulary)
    after = fit(resumed, dataset(vocabulary), vocabulary, CONFIG, tmp_path / "parts")

    assert after.state.global_step == done.state.global_step
    assert len(steps) < 2 * done.state.max_steps
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=1e-4, rtol=1e-3, msg=name)


def test_a_disk_without_room_is_told_before_training(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000))
    vocabulary = FULL.only(HEADS)
    with pytest.raises(DiskFull, match=r"0\.0 GB free"):
        fit(start(tiny_encoder, vocabulary), dataset(vocabulary), vocabulary, CONFIG, tmp_path)


def test_an_epoch_draws_sources_at_their_rates(tiny_encoder: Path, tmp_path: Path) -> None:
    vocabulary = FULL.only(HEADS)
    done = fit(start(tiny_encoder, vocabulary), dataset(vocabulary), vocabulary, CONFIG, tmp_path)
    assert done.state.max_steps == CONFIG.epochs * 4  # 8 own rows and half of 16 others, in batches of 4


def test_validation_is_drawn_like_training_but_nothing_twice() -> None:
    rows = dataset(FULL)["validation"]
    config = CONFIG.model_copy(update={"sampling": {"large": 0.25, "own": 3.0}})
    assert sorted(sampled(rows, config)["source"]) == ["large"] * 4 + ["own"] * 8


def test_shares_count_rows_as_often_as_they_are_drawn() -> None:
    rows = [row(n, FULL, "own" if n < 4 else "large") for n in range(12)]
    for other in rows[4:]:
        other["known"] = [name == "sentiment" for name in FULL.heads]
    shares = known_shares(Dataset.from_list(rows, features=FEATURES), FULL, {"large": 0.5})
    assert shares["sentiment"] == 1.0
    assert shares["frustration"] == 0.5


def test_a_value_without_an_example_is_named() -> None:
    with pytest.raises(NoExamples, match="sentiment: no training example of positive, very_positive"):
        trained_vocabulary(DatasetDict(train=dataset(FULL)["train"].select(range(3))), FULL, CONFIG)


def test_an_auxiliary_head_whose_corpus_is_missing_is_left_out_by_name() -> None:
    config = CONFIG.model_copy(update={"head_weights": {"frustration": 1.0, "complaint": 1.0}})
    rows = [row(n, FULL) for n in range(8)]
    for one in rows:
        one["target"][FULL.slices()["complaint"].start] = 0.0
    with pytest.warns(UserWarning, match="complaint: left out"):
        kept = trained_vocabulary(DatasetDict(train=Dataset.from_list(rows, features=FEATURES)), FULL, config)
    assert list(kept.heads) == ["frustration"]
