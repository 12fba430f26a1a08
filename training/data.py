"""Dataset rows to tensors: padding, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
