import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertModel
from transformers.utils import logging

from pipeline.vocabulary import Vocabulary, load_vocabulary
from training.checkpoint import load_model, new_model, save_model
from training.model import EncoderIncomplete, OrdinalHead, SimmerModel, load_encoder, mean_over, start_from_priors


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_vocabulary()


@pytest.fixture(scope="module")
def model(tiny_encoder: Path, vocabulary: Vocabulary) -> SimmerModel:
    torch.manual_seed(3)
    return new_model(tiny_encoder, vocabulary, dropout=0.0).eval()


def inputs(*rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, torch.zeros_like(ids)


def test_it_gives_one_logit_per_value(model: SimmerModel, vocabulary: Vocabulary) -> None:
    assert model(*inputs([2, 5, 6, 3])).shape == (1, vocabulary.size)


def test_padding_changes_nothing(model: SimmerModel) -> None:
    alone = model(*inputs([2, 5, 6, 3]))
    padded = model(*inputs([2, 5, 6, 3], [2, 5, 6, 7, 8, 9, 10, 3]))[:1]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-5)


def test_what_came_before_is_seen(model: SimmerModel) -> None:
    ids = torch.tensor([[2, 5, 6, 3, 7, 8, 3]])
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])
    other = torch.tensor([[2, 5, 6, 3, 9, 10, 3]])
    assert not torch.allclose(model(ids, segments), model(other, segments))


def test_one_score_moves_an_ordinal_head_along_its_order() -> None:
    head = OrdinalHead(width=1, values=4)
    torch.nn.init.ones_(head.score.weight)
    torch.nn.init.zeros_(head.narrowing.weight)
    chances = torch.softmax(head(torch.linspace(-4, 4, 20).unsqueeze(1)), dim=-1)
    at_least = chances.flip(1).cumsum(dim=1).flip(1)
    assert bool((at_least.diff(dim=0)[:, 1:] > 0).all())


def test_heads_start_from_how_often_values_are_given(tiny_encoder: Path, vocabulary: Vocabulary) -> None:
    model = new_model(tiny_encoder, vocabulary, dropout=0.0).eval()
    target = torch.zeros(10, vocabulary.size)
    frustration = vocabulary.slices()["frustration"]
    target[:8, frustration.start] = 1.0
    target[8:, frustration.start + 2] = 1.0
    start_from_priors(model, vocabulary, target, torch.ones(10, len(vocabulary.heads), dtype=torch.bool))
    start = torch.softmax(model.heads["frustration"](torch.zeros(1, 3 * 16)), dim=-1)[0]
    assert start.tolist() == pytest.approx([0.8, 0.0, 0.2, 0.0], abs=0.01)


def test_a_coarse_label_counts_in_equal_parts(tiny_encoder: Path, vocabulary: Vocabulary) -> None:
    model = new_model(tiny_encoder, vocabulary, dropout=0.0).eval()
    target, known = torch.zeros(2, vocabulary.size), torch.ones(2, len(vocabulary.heads), dtype=torch.bool)
    target[0, :2] = 1.0
    target[1, 2] = 1.0
    start_from_priors(model, vocabulary, target, known)
    start = torch.softmax(model.heads["sentiment"](torch.zeros(1, 3 * 16)), dim=-1)[0]
    assert start.tolist() == pytest.approx([0.25, 0.25, 0.5, 0.0, 0.0], abs=0.01)


def test_mean_over_looks_only_where_the_mask_holds() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert mean_over(hidden, torch.tensor([[True, True, False]])).item() == 2.0


def test_mean_over_nothing_is_zero() -> None:
    assert mean_over(torch.ones(1, 2, 1), torch.zeros(1, 2, dtype=torch.bool)).item() == 0.0


def test_a_saved_model_predicts_the_same(
    model: SimmerModel, vocabulary: Vocabulary, tiny_encoder: Path, tmp_path: Path
) -> None:
    save_model(tmp_path, model, vocabulary, tiny_encoder)
    loaded, kept = load_model(tmp_path)
    given = inputs([2, 5, 6, 7, 3])
    assert kept == vocabulary
    torch.testing.assert_close(loaded(*given), model(*given))


def test_an_encoder_is_loaded_without_a_word(
    tiny_encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    BertModel(AutoConfig.from_pretrained(tiny_encoder)).save_pretrained(tmp_path)  # with a pooler nobody asks for
    capfd.readouterr()
    before = logging.get_verbosity()
    load_encoder(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == before


def test_an_encoder_that_lacks_weights_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.word_embeddings.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderIncomplete, match=r"no weights for embeddings\.word_embeddings\.weight"):
        load_encoder(folder)
