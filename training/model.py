"""The network: a pretrained encoder, one pooled vector, one small head per label, trained together.

Output: one logit per value of every head, concatenated in vocabulary order. Exclusive heads are read by
softmax, the others by sigmoid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from pipeline.vocabulary import Head, Vocabulary


class FlatHead(nn.Module):
    """One logit per value, each with its own weights."""

    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(values, width))
        self.bias = nn.Parameter(torch.zeros(values))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, pooled: Tensor) -> Tensor:
        return functional.linear(pooled, self.weight, self.bias)


class OrdinalHead(nn.Module):
    """Logits that respect the order of the values: value k gets s(x)·k - q(x)·k² + b_k, k centred, q(x) > 0.

    One score s moves the distribution along the order; q narrows it, so that the model can be sure of a middle value
    without being pulled to an end. With q constant these are adjacent-categories logits (Agresti, Analysis of Ordinal
    Categorical Data, chapter 4).
    """

    steps: Tensor

    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        self.narrowing = nn.Linear(width, 1)
        self.bias = nn.Parameter(torch.zeros(values))
        steps = torch.arange(values, dtype=torch.float32) - (values - 1) / 2
        self.register_buffer("steps", steps, persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        towards = self.score(pooled) * self.steps
        narrow = functional.softplus(self.narrowing(pooled)) * self.steps.square()
        logits: Tensor = towards - narrow + self.bias
        return logits


def make_head(head: Head, width: int) -> nn.Module:
    """The module for a head of the vocabulary."""
    values = len(head.values)
    return OrdinalHead(width, values) if head.kind == "ordinal" else FlatHead(width, values)


def start_from_priors(model: SimmerModel, vocabulary: Vocabulary, target: Tensor, known: Tensor) -> None:
    """Set every output's bias to how often its value is given, so that training need not learn it first.

    Shapes: target [rows, outputs], known [rows, heads]. A coarse label counts in equal parts for what it covers.
    """
    for index, (name, where) in enumerate(vocabulary.slices().items()):
        given, exclusive = target[known[:, index]][:, where], vocabulary.heads[name].exclusive
        if exclusive:
            given = given / given.sum(dim=1, keepdim=True).clamp(min=1)
        share = given.mean(dim=0).clamp(1e-3, 1 - 1e-3)
        head = model.heads[name]
        with torch.no_grad():
            start = share.log() if exclusive else share.logit()
            if isinstance(head, OrdinalHead):
                start = start + functional.softplus(head.narrowing.bias) * head.steps.square()
            head.get_parameter("bias").copy_(start)


class SimmerModel(nn.Module):
    """Encoder, pooling and heads.

    The pooled vector joins the first token, the mean over the message (segment 0) and the mean over everything.
    """

    def __init__(self, encoder: PreTrainedModel, vocabulary: Vocabulary, pad: int, dropout: float) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.pad = pad
        self.segments = int(getattr(config, "type_vocab_size", 1) or 1)
        self.dropout = nn.Dropout(dropout)
        self.outputs = vocabulary.size
        width = 3 * config.hidden_size
        self.heads = nn.ModuleDict({name: make_head(head, width) for name, head in vocabulary.heads.items()})

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits [batch, outputs] of token ids and segments [batch, tokens]."""
        mask = input_ids.ne(self.pad)
        given = {"input_ids": input_ids, "attention_mask": mask.long()}
        if self.segments > 1:
            given["token_type_ids"] = token_type_ids
        hidden = self.encoder(**given).last_hidden_state
        message = mask & token_type_ids.eq(0)
        pooled = torch.cat([hidden[:, 0], mean_over(hidden, message), mean_over(hidden, mask)], dim=-1)
        pooled = self.dropout(pooled)
        return torch.cat([head(pooled) for head in self.heads.values()], dim=-1)


def mean_over(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of hidden states [batch, tokens, width] where the mask [batch, tokens] holds."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


class EncoderIncomplete(ValueError):
    """A pretrained encoder's weights lack some of its parameters."""


def load_encoder(folder: Path) -> PreTrainedModel:
    """The pretrained encoder of a folder, in float32, without a pooler of its own. Raises EncoderIncomplete."""
    config = AutoConfig.from_pretrained(folder)
    with quiet():
        encoder, report = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, **without_pooler(config)
        )
    if report["missing_keys"]:
        raise EncoderIncomplete(f"{folder}: no weights for {', '.join(sorted(report['missing_keys'])[:5])}")
    return encoder


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress, and its report of weights that nobody asked for, off the screen."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def empty_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """An encoder of this configuration with random weights."""
    return AutoModel.from_config(config, **without_pooler(config))


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """Options that keep an architecture from building a pooler of its own."""
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta") else {}
