"""A split's rows with what the model said of them: logits beside targets, head by head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from pipeline.encode import Encoded
from pipeline.heads import Floats
from pipeline.predictor import batches
from pipeline.stage import progress
from pipeline.vocabulary import Vocabulary
from training.data import pad_rows
from training.model import SimmerModel


@dataclass(frozen=True)
class Labelled:
    """Logits and target weights [rows, outputs] in vocabulary order; `known[head]` [rows] says who knows it."""

    vocabulary: Vocabulary
    logits: Floats
    target: Floats
    known: Mapping[str, NDArray[np.bool_]]

    def of(self, head: str) -> tuple[Floats, Floats]:
        """Logits and target weights [known rows, values] of one head."""
        return self.among(head, self.logits), self.among(head, self.target)

    def among(self, head: str, values: Floats) -> Floats:
        """Of any values [rows, outputs], those of one head in the rows that know it [known rows, values]."""
        return values[self.known[head]][:, self.vocabulary.slices()[head]]

    def with_logits(self, logits: Floats) -> Labelled:
        """The same rows as another engine sees them."""
        return Labelled(self.vocabulary, logits, self.target, self.known)


def score_split(model: SimmerModel, rows: Dataset, full: Vocabulary, kept: Vocabulary, what: str) -> Labelled:
    """The split's rows scored by the float model. `full` is the dataset's vocabulary, `kept` the model's."""
    return labelled(rows, full, kept, float_logits(model, encoded_rows(rows), what))


def labelled(rows: Dataset, full: Vocabulary, kept: Vocabulary, logits: Floats) -> Labelled:
    """Logits beside the targets of the heads that the model has."""
    target = np.array(rows["target"], dtype=np.float64)[:, full.outputs(kept.heads)]
    known = np.array(rows["known"], dtype=bool)
    return Labelled(kept, logits, target, {n: known[:, i] for i, n in enumerate(full.heads) if n in kept.heads})


def encoded_rows(rows: Dataset) -> list[Encoded]:
    """The split's token ids and segments."""
    return [Encoded(i, s) for i, s in zip(rows["input_ids"], rows["token_type_ids"], strict=True)]


def float_logits(model: SimmerModel, encoded: list[Encoded], what: str) -> Floats:
    """Logits [rows, outputs] of the float model, in the rows' order."""
    device = next(model.parameters()).device
    logits = np.empty((len(encoded), model.outputs), dtype=np.float64)
    with torch.inference_mode():
        for batch in progress(list(batches([len(row.ids) for row in encoded], budget=4096)), what):
            ids = pad_rows([encoded[row].ids for row in batch], model.pad).to(device)
            segments = pad_rows([encoded[row].segments for row in batch], 0).to(device)
            logits[batch] = model(ids, segments).float().cpu().numpy()
    return logits
