"""How far what is learnt carries: to a corpus or a group of industries that training never saw, and from fewer rows.

    python -m training.transfer [--profile bundled] [--kind corpora industries learning_curve] [--only NAME …]

Trains the profile's model again and again, each time without some of the training rows, calibrates it on what
validation has left, and measures it on the test rows of what was left out (of the learning curve, on all). That takes
as long as so many trainings; no DVC stage waits for it. Each result is written to metrics/transfer.json as it comes,
what stands there is not done again, and an interrupted training goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, disable_caching, disable_progress_bars, load_from_disk
from numpy.typing import NDArray
from transformers import set_seed

from pipeline.config import current_profile, load_config
from pipeline.heads import probabilities
from pipeline.prepare import DATASET
from pipeline.splits import draw
from pipeline.stage import BUILD, METRICS, read_json, run, write_json
from pipeline.vocabulary import Vocabulary, load_vocabulary
from pipeline.weights import TrainedEncoder, check_weights, encoder_folder
from training.calibrate import CalibrateConfig, calibrate
from training.checkpoint import new_model
from training.evaluate import judged_heads
from training.labelled import score_split
from training.measures import Measuring, head_report
from training.model import start_from_priors
from training.train import TrainConfig, fit, narrow, recipe_hash, trained_vocabulary

TRANSFER = METRICS / "transfer.json"
WORK = BUILD / "transfer"
KINDS = ("corpora", "industries", "learning_curve")


class TransferConfig(Measuring):
    """How long each training lasts, which industries are left out together, and the learning curve's steps."""

    epochs: int
    groups: dict[str, tuple[str, ...]]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """What every one of the trainings has in common."""

    profile: str
    encoder: Path
    vocabulary: Vocabulary
    train: TrainConfig
    calibrate: CalibrateConfig
    transfer: TransferConfig

    def for_epochs(self, epochs: int) -> Recipe:
        """The same with trainings of another length."""
        return replace(self, transfer=self.transfer.model_copy(update={"epochs": epochs}))

    def digest(self, dataset: DatasetDict) -> str:
        """What results hang on: settings, encoder and data; with another digest they are measured anew."""
        # which groups and shares there are says nothing of any one result
        settings = self.transfer.model_dump_json(exclude={"groups", "shares"})
        return recipe_hash(
            self.train,
            self.calibrate,
            settings,
            str(self.encoder),
            self.vocabulary,
            *map(data_digest, dataset.values()),
        )


def data_digest(rows: Dataset) -> str:
    """A digest of what rows say and of which conversations."""
    told = hashlib.sha256()
    for column in ("conversation", "text", "target"):
        told.update(repr(rows[column][:]).encode())
    return told.hexdigest()


@dataclass(frozen=True)
class Trial:
    """One training: which rows of a split it learns from, and which test rows it is measured on."""

    kind: str
    name: str

    def learns_from(self, rows: Dataset, config: TransferConfig) -> NDArray[np.bool_]:
        """Members [rows] of training and validation."""
        if self.kind == "learning_curve":
            return np.array([draw(f"share {name}") < float(self.name) for name in rows["conversation"]], dtype=bool)
        return ~self.left_out(rows, config)

    def measured_on(self, rows: Dataset, config: TransferConfig) -> NDArray[np.bool_]:
        """Members [rows] of the test split."""
        return np.ones(len(rows), dtype=bool) if self.kind == "learning_curve" else self.left_out(rows, config)

    def left_out(self, rows: Dataset, config: TransferConfig) -> NDArray[np.bool_]:
        """Rows [rows] of the corpus, or of the bundled corpus's industries."""
        sources = np.array(rows["source"])
        if self.kind == "corpora":
            return np.asarray(sources == self.name)
        return np.asarray((sources == "bundled") & np.isin(np.array(rows["industry"]), config.groups[self.name]))


def trials(dataset: DatasetDict, config: TransferConfig, kinds: Sequence[str], only: Sequence[str]) -> Iterator[Trial]:
    """What is to be trained: leaving out what has test rows, while others are left to learn from."""
    names = {
        "corpora": sorted(set(dataset["train"]["source"])),
        "industries": list(config.groups),
        "learning_curve": [f"{share:g}" for share in config.shares],
    }
    for kind in KINDS:
        for trial in (Trial(kind, name) for name in names[kind]):
            wanted = kind in kinds and (not only or trial.name in only)
            if wanted and all(
                members.any()
                for members in (
                    trial.learns_from(dataset["train"], config),
                    trial.learns_from(dataset["validation"], config),
                    trial.measured_on(dataset["test"], config),
                )
            ):
                yield trial


def transfer(dataset: DatasetDict, recipe: Recipe, todo: Sequence[Trial], path: Path, work: Path) -> dict[str, Any]:
    """Run the trials that the file does not hold under these settings, writing after each; what the file then holds.

    `work` holds checkpoints while a training runs.
    """
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    settings = {"profile": recipe.profile, "recipe": recipe.digest(dataset)}
    work = work / settings["recipe"]
    for trial in todo:
        done = found.setdefault(trial.kind, {})
        if done.get(trial.name, {}).get("settings") != settings:
            done[trial.name] = {"settings": settings, **run_trial(trial, dataset, recipe, work)}
            write_json(path, found)
    return found


def run_trial(trial: Trial, dataset: DatasetDict, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train without, measure on: how many rows were learnt from, and every head's figures."""
    chosen = {
        "train": trial.learns_from(dataset["train"], recipe.transfer),
        "validation": trial.learns_from(dataset["validation"], recipe.transfer),
        "test": trial.measured_on(dataset["test"], recipe.transfer),
    }
    rows = DatasetDict({split: dataset[split].select(np.flatnonzero(kept)) for split, kept in chosen.items()})
    # fewer rows are seen more often, so that the curve tells of data and not of steps
    times = len(dataset["train"]) / max(1, len(rows["train"])) if trial.kind == "learning_curve" else 1.0
    heads = trial_report(
        rows, recipe.for_epochs(math.ceil(recipe.transfer.epochs * times)), folder / f"{trial.kind}-{trial.name}"
    )
    return {"train_rows": len(rows["train"]), "rows": len(rows["test"]), "heads": heads}


def trial_report(rows: DatasetDict, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Fit on training rows, calibrate on validation rows, and every head's figures on test rows that know it."""
    full, config = recipe.vocabulary, taught(rows["train"], recipe)
    set_seed(config.seed)
    kept = trained_vocabulary(rows, full, config)
    narrowed = narrow(rows, full, kept)
    model = new_model(recipe.encoder, kept, config.dropout)
    train = narrowed["train"]
    start_from_priors(model, kept, torch.tensor(train["target"]), torch.tensor(train["known"]))
    fit(model, narrowed, kept, config, folder)
    model.eval()
    shutil.rmtree(folder)
    seen = score_split(model, rows["validation"], full, kept, "calibrating")
    calibration = calibrate(seen, kept, recipe.calibrate)
    labelled = score_split(model, rows["test"], full, kept, "measuring")
    heads = judged_heads(labelled, probabilities(labelled.logits, kept, calibration), rows["test"], calibration)
    return {name: head_report(judged, recipe.transfer) for name, judged in heads.items() if len(judged.chance)}


def taught(train: Dataset, recipe: Recipe) -> TrainConfig:
    """The training's config for so many epochs, without weight on heads that have lost a value's last example."""
    sums = np.array(train["target"], dtype=float).sum(axis=0)
    left = {name for name, where in recipe.vocabulary.slices().items() if (sums[where] > 0).all()}
    weights = {name: weight for name, weight in recipe.train.head_weights.items() if name in left}
    return recipe.train.model_copy(update={"epochs": recipe.transfer.epochs, "head_weights": weights})


def read_recipe(profile: str) -> Recipe:
    """The profile's recipe. Raises ConfigError and WeightsChanged."""
    source = load_config(TrainedEncoder, "train.yaml", "encoder", profile)
    folder = encoder_folder(source)
    check_weights(source, folder)
    return Recipe(
        profile=profile,
        encoder=folder,
        vocabulary=load_vocabulary(),
        train=load_config(TrainConfig, "train.yaml", "train", profile),
        calibrate=load_config(CalibrateConfig, "train.yaml", "calibrate", profile),
        transfer=load_config(TransferConfig, "train.yaml", "transfer", profile),
    )


def main() -> None:
    """Run what is asked for on the prepared dataset."""
    parser = argparse.ArgumentParser(description="Train without a corpus or an industry, and measure on it.")
    parser.add_argument("--profile", help="whose recipe; the current one unless given")
    parser.add_argument("--kind", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--only", nargs="*", default=[], help="names of corpora, groups or shares")
    parser.add_argument("--epochs", type=int, help="of each training, instead of the config's")
    given = parser.parse_args()
    recipe = read_recipe(given.profile or current_profile())
    if given.epochs:
        recipe = recipe.for_epochs(given.epochs)
    disable_progress_bars()
    disable_caching()  # a cache beside the dataset would change what DVC keeps
    dataset = load_from_disk(str(DATASET))
    todo = list(trials(dataset, recipe.transfer, given.kind, given.only))
    found = transfer(dataset, recipe, todo, TRANSFER, WORK)
    print(f"{TRANSFER}: " + ", ".join(f"{kind} {len(done)}" for kind, done in found.items()))


if __name__ == "__main__":
    run(main)
