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
    """Mean over rows of the weighted negative log-likelihoods of the heads that each row knows.

    Shapes: logits and target [rows, outputs], known [rows, heads].
    """
    total = logits.new_zeros(())
    for index, (name, where) in enumerate(vocabulary.slices().items()):
        losses = head_losses(logits[:, where], target[:, where], vocabulary.heads[name].exclusive)
        total = total + head_weights.get(name, 0.0) * (losses * known[:, index]).sum()
    return total / len(logits)


def weights_per_known_row(head_weights: Mapping[str, float], known_shares: Mapping[str, float]) -> dict[str, float]:
    """Weights for the loss that let a head few rows know weigh as much over an epoch as one that all know."""
    return {name: weight / known_shares[name] for name, weight in head_weights.items() if known_shares.get(name)}


def head_losses(logits: Tensor, target: Tensor, exclusive: bool) -> Tensor:
    """Negative log-likelihood per row [rows] of one head's logits [rows, values]."""
    if not exclusive:
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1)
    allowed = target.clamp(min=1e-30).log()
    return -torch.logsumexp(functional.log_softmax(logits, dim=-1) + allowed, dim=-1)
