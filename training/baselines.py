"""DVC stage `baselines`: what is worth beating, measured as `training.evaluate` measures the model.

    python -m training.baselines         metrics/baselines.json

    majority   the commonest value of a head; of flags how often each is given
    vader      a sentiment lexicon (Hutto and Gilbert 2014), for sentiment and airline sentiment alone
    tfidf      words and pairs of words, runs of three to five characters, and logistic regression
    frozen     the pretrained encoder as it comes, mean-pooled, and logistic regression

All but `vader` learn from the training split and choose thresholds on validation. Where a head has more rows than the
config allows, corpora give evenly, so that small ones stay whole; `train_rows` says how many a head was learnt from.
`tfidf` and `vader` see the message alone; `frozen` sees what came before it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_from_disk
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_union
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer
from transformers import PreTrainedModel
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from pipeline.config import current_profile, load_config
from pipeline.encode import Encoded
from pipeline.heads import Floats
from pipeline.predictor import batches
from pipeline.prepare import DATASET
from pipeline.stage import progress, run
from pipeline.text import normalise
from pipeline.vocabulary import Head, Vocabulary, load_vocabulary
from pipeline.weights import TrainedEncoder, check_weights, encoder_folder
from training.calibrate import best_threshold
from training.checkpoint import TOKENIZER, pad_of
from training.data import pad_rows
from training.labelled import encoded_rows
from training.measures import Bools, Judged, Measuring, by_source, fine_rows
from training.model import load_encoder, mean_over
from training.tracking import finish_stage
from training.train import has_bf16

UNTAUGHT = frozenset({"vader"})  # learns from no rows
LEXICON_HEADS = ("sentiment", "airline_sentiment")
FIVE_CUTS, THREE_CUTS = (-0.6, -0.05, 0.05, 0.6), (-0.05, 0.05)  # VADER's own 0.05 for neutral; 0.6 is very much so

Features: TypeAlias = Any
"""A dense or sparse matrix [rows, width]; scipy has no types."""


class BaselinesConfig(Measuring):
    """How many rows of a head are learnt from and measured on, and the classifier's strength."""

    train_rows: int
    test_rows: int
    min_positives: int
    word_features: int
    character_features: int
    inverse_penalty: float
    iterations: int


@dataclass(frozen=True)
class Part:
    """A split's rows that know one head.

    `rows` [n] are their places in the split, target is [n, values], fine [n] says whose corpus has no coarse label.
    """

    rows: NDArray[np.intp]
    target: Floats
    fine: Bools


@dataclass(frozen=True)
class Task:
    """One head with the rows to learn from, choose thresholds on and measure on."""

    name: str
    head: Head
    train: Part
    validation: Part
    test: Part


Guess = Callable[[Task], tuple[Floats, Floats] | None]
"""Probabilities [rows, values] of a task's validation and test rows; None where the baseline does not apply."""


def baselines(
    dataset: DatasetDict, vocabulary: Vocabulary, encoder: Path, config: BaselinesConfig
) -> dict[str, dict[str, Any]]:
    """Figures of every baseline, head by head and corpus by corpus."""
    tasks = make_tasks(dataset, vocabulary, config)
    return {
        name: measure_all(tasks, guess, dataset["test"], config, name)
        for name, guess in guessers(dataset, tasks, encoder, config).items()
    }


def guessers(
    dataset: DatasetDict, tasks: Mapping[str, Task], encoder: Path, config: BaselinesConfig
) -> dict[str, Guess]:
    """The baselines by name."""
    return {
        "majority": majority,
        "vader": lexicon(dataset),
        "tfidf": with_features(tfidf_features(dataset, tasks, config), config),
        "frozen": with_features(frozen_features(dataset, tasks, encoder), config),
    }


def make_tasks(dataset: DatasetDict, vocabulary: Vocabulary, config: BaselinesConfig) -> dict[str, Task]:
    """Every head that training and test rows speak of; thresholds, and so validation rows, are for flags alone."""
    tasks = {}
    for index, (name, where) in enumerate(vocabulary.slices().items()):
        head = vocabulary.heads[name]
        most = {
            "train": config.train_rows,
            "validation": 0 if head.exclusive else config.test_rows,
            "test": config.test_rows,
        }
        parts = {split: part_of(dataset[split], head, index, where, rows, config.seed) for split, rows in most.items()}
        if len(parts["train"].rows) and len(parts["test"].rows):
            tasks[name] = Task(name, head, **parts)
    return tasks


def part_of(rows: Dataset, head: Head, index: int, where: slice, most: int, seed: int) -> Part:
    """The rows that know a head, the vocabulary's so-manieth, at most so many, drawn evenly from the corpora.

    Which corpora have coarse labels is seen from all rows, not from those drawn, so that it is as evaluation sees it.
    """
    known = np.flatnonzero(np.array(rows["known"], dtype=bool).reshape(len(rows), -1)[:, index])
    if not len(known):
        return Part(known, np.zeros((0, where.stop - where.start)), np.zeros(0, dtype=bool))
    sources = np.array(rows["source"])[known]
    target = np.array(rows["target"], dtype=np.float64)[known][:, where]
    drawn = drawn_evenly(sources, most, seed)
    return Part(known[drawn], target[drawn], fine_rows(head, target, sources)[drawn])


def drawn_evenly(sources: NDArray[Any], most: int, seed: int) -> NDArray[np.intp]:
    """Places of at most so many rows, in order: every corpus gives as many as the others until it has no more."""
    turn = np.empty(len(sources), dtype=np.intp)
    rng = np.random.default_rng(seed)
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        turn[rng.permutation(rows)] = np.arange(len(rows))
    return np.sort(np.argsort(turn, kind="stable")[:most])


def measure_all(
    tasks: Mapping[str, Task], guess: Guess, test: Dataset, config: BaselinesConfig, what: str
) -> dict[str, Any]:
    """Figures of one baseline for each head that it speaks of, with the number of rows that it learnt the head from."""
    conversations = np.unique(test["conversation"], return_inverse=True)[1]
    sources = np.array([str(source) for source in test["source"]])
    report = {}
    for name, task in progress(list(tasks.items()), what):
        guessed = guess(task)
        if guessed is None:
            continue
        thresholds = choose_thresholds(task, guessed[0], config)
        groups = conversations[task.test.rows]
        judged = Judged(task.head, guessed[1], task.test.target, thresholds, groups, task.test.fine)
        learnt = 0 if what in UNTAUGHT else len(task.train.rows)
        report[name] = {"train_rows": learnt, **by_source(judged, sources[task.test.rows], config)}
    return report


def choose_thresholds(task: Task, chance: Floats, config: BaselinesConfig) -> Floats:
    """Per flag the threshold with the best F1 on validation; 0.5 where it is given too rarely."""
    thresholds = np.full(len(task.head.values), 0.5)
    truth = task.validation.target > 0.5
    for index in range(0 if task.head.exclusive else len(thresholds)):
        if truth[:, index].sum() >= config.min_positives:
            thresholds[index] = best_threshold(truth[:, index], chance[:, index])
    return thresholds


def majority(task: Task) -> tuple[Floats, Floats]:
    """The commonest value for certain, or each flag's share."""
    share = single_values(task.train.target).mean(axis=0) if task.head.exclusive else task.train.target.mean(axis=0)
    said = np.eye(len(share))[share.argmax()] if task.head.exclusive else share
    return np.tile(said, (len(task.validation.rows), 1)), np.tile(said, (len(task.test.rows), 1))


def single_values(target: Floats) -> Floats:
    """Targets as shares of values [rows, values]: a coarse label stands for its values as exact rows give them."""
    exact = target[target.sum(axis=1) == 1]
    prior = exact.mean(axis=0) + 1e-3 if len(exact) else np.ones(target.shape[1])
    shares = target * prior
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def lexicon(dataset: DatasetDict) -> Guess:
    """VADER's compound score, cut into the values of a sentiment head."""
    analyser = SentimentIntensityAnalyzer()

    def read(rows: Dataset, part: Part, cuts: Sequence[float]) -> Floats:
        scores = [analyser.polarity_scores(text)["compound"] for text in rows.select(part.rows)["text"]]
        return np.asarray(np.eye(len(cuts) + 1)[np.digitize(scores, cuts)])

    def guess(task: Task) -> tuple[Floats, Floats] | None:
        if task.name not in LEXICON_HEADS:
            return None
        cuts = FIVE_CUTS if len(task.head.values) == 5 else THREE_CUTS
        return read(dataset["validation"], task.validation, cuts), read(dataset["test"], task.test, cuts)

    return guess


def with_features(features: Mapping[str, Features], config: BaselinesConfig) -> Guess:
    """Logistic regression on features [rows, width] of each split."""

    def guess(task: Task) -> tuple[Floats, Floats]:
        learn = features["train"][task.train.rows]
        seen = features["validation"][task.validation.rows], features["test"][task.test.rows]
        if task.head.exclusive:
            target = single_values(task.train.target)
            return fit_values(learn, target, seen, config)
        columns = [fit_values(learn, two_values(flag), seen, config) for flag in task.train.target.T]
        validation, test = (np.stack([found[part][:, 1] for found in columns], axis=1) for part in (0, 1))
        return validation, test

    return guess


def two_values(flag: Floats) -> Floats:
    """A flag [rows] as a distribution over no and yes [rows, 2]."""
    return np.stack([1 - flag, flag], axis=1)


def fit_values(
    learn: Features, target: Floats, seen: tuple[Features, Features], config: BaselinesConfig
) -> tuple[Floats, Floats]:
    """Probabilities [rows, values] in what is seen of a classifier that learnt target shares [rows, values]."""
    rows, values = np.nonzero(target)
    present = np.unique(values)
    if len(present) == 1:
        chances = [np.tile(np.eye(target.shape[1])[present[0]], (part.shape[0], 1)) for part in seen]
        return chances[0], chances[1]
    model = LogisticRegression(C=config.inverse_penalty, max_iter=config.iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(learn[rows], values, sample_weight=target[rows, values])
    chances = [np.zeros((part.shape[0], target.shape[1])) for part in seen]
    for chance, part in zip(chances, seen, strict=True):
        if part.shape[0]:
            chance[:, present] = model.predict_proba(part)
    return chances[0], chances[1]


def used_rows(tasks: Mapping[str, Task], split: str) -> NDArray[np.intp]:
    """Places of a split's rows that any task needs."""
    return np.unique(np.concatenate([getattr(task, split).rows for task in tasks.values()])).astype(np.intp)


def tfidf_features(dataset: DatasetDict, tasks: Mapping[str, Task], config: BaselinesConfig) -> dict[str, Features]:
    """Weights of words, pairs of words and runs of characters, for the rows that tasks need; zero elsewhere."""
    union = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=config.word_features),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_features=config.character_features
        ),
    )
    features: dict[str, Features] = {}
    for split in ("train", "validation", "test"):
        needed = set(used_rows(tasks, split).tolist())
        texts = [normalise(text) if row in needed else "" for row, text in enumerate(dataset[split]["text"])]
        if split == "train":
            union.fit([text for text in texts if text])
        features[split] = csr_matrix(union.transform(texts)) if texts else csr_matrix((0, 1))
    return features


def frozen_features(dataset: DatasetDict, tasks: Mapping[str, Task], encoder: Path) -> dict[str, Features]:
    """Mean-pooled vectors [rows, width], each dimension scaled alike, for the rows that tasks need; zero elsewhere."""
    features: dict[str, Features] = {}
    scaler, model = StandardScaler(), load_encoder(encoder).eval()
    pad = pad_of(Tokenizer.from_file(str(encoder / TOKENIZER)))
    for split in ("train", "validation", "test"):
        needed = used_rows(tasks, split)
        pooled = mean_pooled(model, pad, encoded_rows(dataset[split].select(needed)), f"pooling {split}")
        if split == "train":
            scaler.fit(pooled)
        whole = np.zeros((len(dataset[split]), pooled.shape[1]))
        if len(pooled):
            whole[needed] = scaler.transform(pooled)
        features[split] = whole
    return features


def mean_pooled(model: PreTrainedModel, pad: int, encoded: list[Encoded], what: str) -> Floats:
    """The mean over all tokens [rows, width] of the pretrained encoder's last layer."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    segments = int(getattr(model.config, "type_vocab_size", 1) or 1) > 1
    pooled = np.zeros((len(encoded), model.config.hidden_size))
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=has_bf16()):
        for batch in progress(list(batches([len(row.ids) for row in encoded], budget=4096)), what):
            ids = pad_rows([encoded[row].ids for row in batch], pad).to(device)
            given = {"input_ids": ids, "attention_mask": ids.ne(pad).long()}
            if segments:
                given["token_type_ids"] = pad_rows([encoded[row].segments for row in batch], 0).to(device)
            hidden = model(**given).last_hidden_state.float()
            pooled[batch] = mean_over(hidden, ids.ne(pad)).cpu().numpy()
    return pooled


def main() -> None:
    """Run the stage for the current profile."""
    profile = current_profile()
    config = load_config(BaselinesConfig, "train.yaml", "baselines", profile)
    source = load_config(TrainedEncoder, "train.yaml", "encoder", profile)
    folder = encoder_folder(source)
    check_weights(source, folder)
    report = baselines(load_from_disk(str(DATASET)), load_vocabulary(), folder, config)
    finish_stage("baselines", config, report)


if __name__ == "__main__":
    run(main)
