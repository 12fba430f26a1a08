"""Dataset rows to batches of tensors: which rows an epoch draws, in which order, and their padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from pipeline import predictor


@dataclass(frozen=True)
class PadBatch:
    """Collates rows of the prepared dataset into padded tensors."""

    pad: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        return {
            "input_ids": pad_rows([row["input_ids"] for row in rows], self.pad),
            "token_type_ids": pad_rows([row["token_type_ids"] for row in rows], 0),
            "labels": torch.tensor([row["target"] for row in rows], dtype=torch.float32),
            "known": torch.tensor([row["known"] for row in rows], dtype=torch.bool),
        }


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Token rows of unequal length as one integer tensor [rows, longest]."""
    return torch.from_numpy(predictor.pad_rows(rows, value))


class RatedSampler(Sampler[int]):
    """Row numbers of one epoch: of every source as many rows as its rate says, in batches of like length.

    A rate of 0.25 draws another quarter of the source's rows each epoch, one of 2 draws each twice; sources without a
    rate have 1. The same seed and epoch give the same rows in the same order, so that a resumed training sees what it
    would have seen.
    """

    def __init__(
        self, lengths: Sequence[int], sources: Sequence[str], rates: Mapping[str, float], batch_rows: int, seed: int
    ) -> None:
        self._lengths = np.asarray(lengths)
        names = np.asarray(sources)
        self._drawn_from = [(np.flatnonzero(names == name), rates.get(name, 1.0)) for name in dict.fromkeys(sources)]
        self._batch_rows = batch_rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(round(rate * len(rows)) for rows, rate in self._drawn_from)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        drawn = rng.permutation(np.concatenate([draw(rows, rate, rng) for rows, rate in self._drawn_from]))
        batches = [batch for pool in self._pools(drawn) for batch in self._batches(pool)]
        # the one short batch stays at the end, where the loader expects it
        full, short = ([b for b in batches if (len(b) == self._batch_rows) is whole] for whole in (True, False))
        yield from (int(row) for index in rng.permutation(len(full)) for row in full[index])
        yield from (int(row) for batch in short for row in batch)

    def _pools(self, drawn: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """The rows in pools of many batches; within a pool they are sorted by length."""
        size = 50 * self._batch_rows
        return [drawn[start : start + size] for start in range(0, len(drawn), size)]

    def _batches(self, pool: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        ordered = pool[np.argsort(self._lengths[pool], kind="stable")]
        return [ordered[start : start + self._batch_rows] for start in range(0, len(ordered), self._batch_rows)]


def draw(rows: NDArray[np.intp], rate: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """`rate` times as many of the rows, each as often as any other, give or take one."""
    wanted = round(rate * len(rows))
    whole, rest = divmod(wanted, max(1, len(rows)))
    return np.concatenate([*[rows] * whole, rng.permutation(rows)[:rest]])
