"""The masked multi-head loss: a row speaks only of the heads it has labels for.

A coarse label allows several values of an exclusive head; its likelihood is the sum of their probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.vocabulary import Vocabulary


def multi_head_loss(
    logits: Tensor, target: Tensor, known: Tensor, vocabulary: Vocabulary, head_weights: Mapping[str, float]
) -> Tensor:
    """Weighted sum over heads of the mean negative log-likelihood of the rows that know the head.

    Shapes: logits and target [rows, outputs], known [rows, heads].
    """
    total = logits.new_zeros(())
    for index, (name, where) in enumerate(vocabulary.slices().items()):
        rows = known[:, index]
        losses = head_losses(logits[:, where], target[:, where], vocabulary.heads[name].exclusive)
        mean = (losses * rows).sum() / rows.sum().clamp(min=1)
        total = total + head_weights.get(name, 0.0) * mean
    return total


def head_losses(logits: Tensor, target: Tensor, exclusive: bool) -> Tensor:
    """Negative log-likelihood per row [rows] of one head's logits [rows, values]."""
    if not exclusive:
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1)
    allowed = target.clamp(min=1e-30).log()
    return -torch.logsumexp(functional.log_softmax(logits, dim=-1) + allowed, dim=-1)
