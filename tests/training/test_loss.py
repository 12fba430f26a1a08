import math

import pytest
import torch

from pipeline.vocabulary import Head, Hot, Vocabulary
from training.loss import head_losses, multi_head_loss, weights_per_known_row

VOCABULARY = Vocabulary(
    heads={
        "mood": Head(kind="categorical", values=("bad", "so-so", "good"), numbers=(-1, 0, 1), wording=""),
        "flags": Head(kind="multilabel", values=("loud", "late"), wording=""),
    },
    hot=Hot(frustration=2, signals=(), horizon=3),
)

HALVES = (slice(0, 3), slice(3, 6))


def loss(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> float:
    return multi_head_loss(logits, target, known, VOCABULARY, {"mood": 1.0, "flags": 1.0}).item()


def test_an_exact_label_costs_its_negative_log_probability() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    expected = -torch.log_softmax(logits, dim=-1)[0, 1]
    assert head_losses(logits, torch.tensor([[0.0, 1.0, 0.0]]), exclusive=True).item() == pytest.approx(expected.item())


def test_a_coarse_label_costs_the_summed_probability() -> None:
    logits = torch.zeros(1, 3)
    coarse = head_losses(logits, torch.tensor([[1.0, 1.0, 0.0]]), exclusive=True)
    assert coarse.item() == pytest.approx(-math.log(2 / 3), abs=1e-5)


def test_a_coarse_label_pushes_only_towards_what_it_allows() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    head_losses(logits, torch.tensor([[1.0, 1.0, 0.0]]), exclusive=True).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0
    assert logits.grad[0, 1] < 0
    assert logits.grad[0, 2] > 0


def test_heads_a_row_says_nothing_of_do_not_count() -> None:
    logits, target = torch.randn(2, 5), torch.zeros(2, 5)
    target[:, 0] = 1.0
    masked = torch.tensor([[True, False], [True, False]])
    changed = target.clone()
    changed[:, 3:] = 1.0
    assert loss(logits, target, masked) == pytest.approx(loss(logits, changed, masked))
    assert loss(logits, target, ~masked | masked) != pytest.approx(loss(logits, target, masked))


def test_a_head_without_rows_costs_nothing() -> None:
    assert loss(torch.randn(2, 5), torch.zeros(2, 5), torch.zeros(2, 2, dtype=torch.bool)) == 0.0


def test_a_head_without_weight_costs_nothing() -> None:
    logits, target, known = torch.randn(2, 5), torch.ones(2, 5), torch.ones(2, 2, dtype=torch.bool)
    assert multi_head_loss(logits, target, known, VOCABULARY, {"mood": 0.0}).item() == 0.0


def test_a_head_that_few_rows_know_weighs_as_much_over_an_epoch() -> None:
    weights = weights_per_known_row({"mood": 1.0, "flags": 0.5, "gone": 1.0}, {"mood": 1.0, "flags": 0.25, "gone": 0.0})
    assert weights == {"mood": 1.0, "flags": 2.0}


def test_the_loss_is_a_mean_over_rows_whatever_the_batch() -> None:
    logits, target, known = torch.randn(6, 5), torch.eye(6)[:, :5], torch.rand(6, 2) < 0.5
    halves = [multi_head_loss(logits[p], target[p], known[p], VOCABULARY, {"mood": 1.0, "flags": 1.0}) for p in HALVES]
    assert loss(logits, target, known) == pytest.approx(float(sum(halves)) / 2, rel=1e-5)
