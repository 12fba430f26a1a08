"""DVC stage `train`: fine-tune the encoder and its heads on the prepared dataset.

    python -m training.train             build/model, build/run.json, metrics/train.json

The loop is Hugging Face's `Trainer`: bf16 where the processor has it, CUDA where there is one, batches of like
length, resumed from the last checkpoint after an interruption.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, disable_caching, disable_progress_bars, load_from_disk
from pydantic import BaseModel
from rich.progress import Progress, TextColumn
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from pipeline.config import Config, current_profile, load_config
from pipeline.errors import InputError
from pipeline.ingest import CONVERSATIONS
from pipeline.prepare import DATASET
from pipeline.stage import BUILD, METRICS, data_hash, run, write_json
from pipeline.vocabulary import Vocabulary, load_vocabulary
from pipeline.weights import TrainedEncoder, check_weights, encoder_folder
from training.checkpoint import MODEL, new_model, save_model
from training.data import PadBatch, RatedSampler
from training.loss import multi_head_loss, weights_per_known_row
from training.model import SimmerModel, start_from_priors
from training.tracking import log_config, log_history, log_metrics, start_run

CHECKPOINTS = BUILD / "checkpoints"
CHECKPOINTS_AT_ONCE = 3  # two kept, one being written


class TrainConfig(Config):
    """Everything a person may change about the fine-tune."""

    seed: int
    epochs: int
    batch_rows: int
    learning_rate: float
    head_learning_rate: float
    bias_learning_rate: float
    layer_decay: float
    weight_decay: float
    warmup_share: float
    dropout: float
    patience: int | None
    sampling: dict[str, float]
    head_weights: dict[str, float]


class DiskFull(InputError):
    """Not enough room for the checkpoints."""


class NoExamples(InputError):
    """A head has weight in training, and no row speaks of it."""


def trained_vocabulary(dataset: DatasetDict, vocabulary: Vocabulary, config: TrainConfig) -> Vocabulary:
    """The heads that have a weight; an auxiliary one whose corpus is not here is left out, with a warning.

    Raises NoExamples for another head without examples, or with a value that has none.
    """
    names = [name for name in vocabulary.heads if config.head_weights.get(name, 0) > 0]
    sums = torch.tensor(dataset["train"]["target"]).sum(dim=0)
    for name in list(names):
        if vocabulary.heads[name].auxiliary and not sums[vocabulary.slices()[name]].any():
            warnings.warn(f"{name}: left out, no training row speaks of it", stacklevel=2)
            names.remove(name)
            continue
        missing = [
            v for v, n in zip(vocabulary.heads[name].values, sums[vocabulary.slices()[name]], strict=True) if n == 0
        ]
        if missing:
            raise NoExamples(f"{name}: no training example of {', '.join(missing)}")
    return vocabulary.only(names)


def narrow(dataset: DatasetDict, full: Vocabulary, kept: Vocabulary) -> DatasetDict:
    """The dataset with targets of the kept heads alone; rows that speak of none of them are dropped."""
    heads = [index for index, name in enumerate(full.heads) if name in kept.heads]
    outputs = full.outputs(kept.heads)

    def cut(row: dict[str, Any]) -> dict[str, Any]:
        return {"target": [row["target"][i] for i in outputs], "known": [row["known"][i] for i in heads]}

    return dataset.map(cut, desc="narrowing").filter(lambda row: any(row["known"]), desc="filtering")


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """One bar over all steps, with the losses beside it."""

    def __init__(self) -> None:
        self._bar = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[losses]}"))
        self._losses: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.start()
        self._task = self._bar.add_task(f"{'training':<24}", total=state.max_steps, losses="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        shown = {"loss": logs.get("loss"), "validation": logs.get("eval_loss")}
        self._losses |= {name: float(value) for name, value in shown.items() if value is not None}
        losses = ", ".join(f"{name} {value:.2f}" for name, value in self._losses.items())
        self._bar.update(self._task, losses=losses)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.stop()


class MultiHeadTrainer(Trainer):  # type: ignore[misc]
    """`Trainer` with the masked multi-head loss, rows drawn by source and layer-wise learning rates."""

    def __init__(self, *args: Any, vocabulary: Vocabulary, config: TrainConfig, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.vocabulary = vocabulary
        self.config = config
        shares = known_shares(self.train_dataset, vocabulary, config.sampling)
        self.head_weights = weights_per_known_row(config.head_weights, shares)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> RatedSampler:
        rows = train_dataset or self.train_dataset
        lengths = [len(ids) for ids in rows["input_ids"]]
        return RatedSampler(lengths, rows["source"], self.config.sampling, self.config.batch_rows, self.config.seed)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        logits = model(inputs["input_ids"], inputs["token_type_ids"])
        loss = multi_head_loss(logits.float(), inputs["labels"], inputs["known"], self.vocabulary, self.head_weights)
        return (loss, {"logits": logits}) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        if self.optimizer is None:
            self.optimizer: Optimizer | None = AdamW(parameter_groups(self.model, self.config), fused=True)
        return self.optimizer


def parameter_groups(model: SimmerModel, config: TrainConfig) -> list[dict[str, Any]]:
    """Optimizer groups: the lower the layer, the lower its learning rate; no decay on biases and norms."""
    depth = 1 + max((layer_of(name) for name, _ in model.named_parameters()), default=0)
    groups = []
    for name, parameter in model.named_parameters():
        rate = config.head_learning_rate if parameter.ndim > 1 else config.bias_learning_rate
        if name.startswith("encoder."):
            rate = config.learning_rate * config.layer_decay ** (depth - 1 - layer_of(name))
        decay = 0.0 if parameter.ndim < 2 else config.weight_decay
        groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    return groups


def layer_of(name: str) -> int:
    """How deep a parameter stands: 0 for embeddings, then one more for each layer."""
    parts = name.split(".")
    for before, number in pairwise(parts):
        if before in ("layer", "layers") and number.isdigit():
            return int(number) + 1
    return 0


def training_arguments(config: TrainConfig, folder: Path) -> TrainingArguments:
    """The Trainer's arguments for this config and this machine."""
    return TrainingArguments(
        output_dir=str(folder),
        seed=config.seed,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_rows,
        per_device_eval_batch_size=4 * config.batch_rows,
        warmup_steps=config.warmup_share,
        lr_scheduler_type="linear",
        bf16=has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=CHECKPOINTS_AT_ONCE - 1,
        load_best_model_at_end=config.patience is not None,
        metric_for_best_model="eval_loss",
        logging_steps=10,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels", "known"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def has_bf16() -> bool:
    """Whether bf16 arithmetic is native here."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else False


def known_shares(rows: Dataset, vocabulary: Vocabulary, sampling: Mapping[str, float]) -> dict[str, float]:
    """For every head, in which share of the rows that an epoch draws it is known."""
    rates = np.array([sampling.get(source, 1.0) for source in rows["source"]])
    shares = rates @ np.array(rows["known"], dtype=float) / max(rates.sum(), 1e-9)
    return dict(zip(vocabulary.heads, shares.tolist(), strict=True))


def sampled(rows: Dataset, config: TrainConfig) -> Dataset:
    """Of every source the share of rows that one training epoch draws, and none twice."""
    rates = {source: min(1.0, rate) for source, rate in config.sampling.items()}
    return rows.select(sorted(RatedSampler([0] * len(rows), rows["source"], rates, config.batch_rows, config.seed)))


def fit(
    model: SimmerModel, dataset: DatasetDict, vocabulary: Vocabulary, config: TrainConfig, folder: Path
) -> MultiHeadTrainer:
    """Train until the epochs are over, the last one left in the model; with `patience`, the best one, or until
    validation has stopped improving for that many epochs."""
    callbacks: list[TrainerCallback] = [ProgressBar()]
    if config.patience is not None:
        callbacks.append(EarlyStoppingCallback(config.patience))
    trainer = MultiHeadTrainer(
        model=model,
        args=training_arguments(config, folder),
        train_dataset=dataset["train"],
        eval_dataset=sampled(dataset["validation"], config),
        data_collator=PadBatch(model.pad),
        callbacks=callbacks,
        vocabulary=vocabulary,
        config=config,
    )
    trainer.remove_callback(PrinterCallback)
    check_room(model, folder)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    return trainer


def recipe_hash(*parts: BaseModel | str) -> str:
    """A name for what a training comes from, so that checkpoints of another recipe are not resumed."""
    told = [part if isinstance(part, str) else part.model_dump_json() for part in parts]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def check_room(model: nn.Module, folder: Path) -> None:
    """Raise DiskFull where the checkpoints will not fit, rather than after an epoch."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = CHECKPOINTS_AT_ONCE * 3 * weights  # AdamW keeps two more numbers a weight
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(f"{folder} has {free / 1e9:.1f} GB free, checkpoints need {needed / 1e9:.1f} GB")


def summary(trainer: MultiHeadTrainer, dataset: DatasetDict, seconds: float) -> dict[str, Any]:
    """What the stage's metrics file says of the fit."""
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    kept = len(losses) - 1 if trainer.config.patience is None else losses.index(min(losses))
    return {
        "validation_loss": round(losses[kept], 4),
        "epochs_run": len(losses),
        "kept_epoch": 1 + kept,
        "rows": len(dataset["train"]),
        "rows_per_epoch": len(trainer._get_train_sampler()),
        "minutes": round(seconds / 60, 2),
    }


def main() -> None:
    """Run the stage for the current profile."""
    profile = current_profile()
    config = load_config(TrainConfig, "train.yaml", "train", profile)
    source = load_config(TrainedEncoder, "train.yaml", "encoder", profile)
    folder = encoder_folder(source)
    check_weights(source, folder)
    set_seed(config.seed)
    disable_progress_bars()
    disable_caching()  # a cache beside the dataset would change what DVC keeps
    full = load_vocabulary()
    dataset = load_from_disk(str(DATASET))
    vocabulary = trained_vocabulary(dataset, full, config)
    dataset = narrow(dataset, full, vocabulary)
    model = new_model(folder, vocabulary, config.dropout)
    start_from_priors(
        model, vocabulary, torch.tensor(dataset["train"]["target"]), torch.tensor(dataset["train"]["known"])
    )
    data = data_hash(CONVERSATIONS)
    with start_run(profile, {"data_hash": data}):
        log_config("train", config)
        log_config("encoder", source)
        started = time.perf_counter()
        trainer = fit(model, dataset, vocabulary, config, CHECKPOINTS / recipe_hash(config, source, data))
        metrics = summary(trainer, dataset, time.perf_counter() - started)
        log_history(trainer.state.log_history)
        log_metrics("train", metrics)
    save_model(MODEL, model, vocabulary, folder)
    write_json(METRICS / "train.json", metrics)
    shutil.rmtree(CHECKPOINTS)


if __name__ == "__main__":
    run(main)
