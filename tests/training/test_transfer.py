from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import DatasetDict

from pipeline.config import load_config
from pipeline.splits import draw
from pipeline.stage import read_json, write_json
from pipeline.vocabulary import load_vocabulary
from training.calibrate import CalibrateConfig
from training.train import TrainConfig
from training.transfer import KINDS, Recipe, TransferConfig, Trial, transfer, trials

CONFIG = TransferConfig(
    bootstrap=20, seed=1, ece_bins=10, epochs=1, groups={"travel": ("rail",), "sea": ("ferry",)}, shares=(0.5,)
)
HEADS = {"complaint": 1.0, "airline_sentiment": 1.0, "frustration": 1.0}  # no example of mild or severe frustration


@pytest.fixture(scope="module")
def recipe(tiny_encoder: Path) -> Recipe:
    train = load_config(TrainConfig, "train.yaml", "train", "bundled")
    return Recipe(
        profile="tiny",
        encoder=tiny_encoder,
        vocabulary=load_vocabulary(),
        train=train.model_copy(update={"batch_rows": 16, "head_weights": HEADS}),
        calibrate=CalibrateConfig(l2=0.001, min_positives=5),
        transfer=CONFIG,
    )


@pytest.fixture(scope="module")
def found(tiny_dataset: DatasetDict, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("transfer")
    todo = [Trial("corpora", "posts"), Trial("learning_curve", "0.5")]
    report = transfer(tiny_dataset, recipe, todo, folder / "transfer.json", folder / "work")
    assert read_json(folder / "transfer.json") == report
    return report


def test_everything_that_has_rows_is_tried(tiny_dataset: DatasetDict) -> None:
    assert list(trials(tiny_dataset, CONFIG, KINDS, [])) == [
        Trial("corpora", "bundled"),
        Trial("corpora", "posts"),
        Trial("industries", "travel"),
        Trial("learning_curve", "0.5"),
    ]
    assert list(trials(tiny_dataset, CONFIG, KINDS, ["travel"])) == [Trial("industries", "travel")]


def test_a_corpus_is_either_learnt_from_or_measured_on(tiny_dataset: DatasetDict) -> None:
    rows = tiny_dataset["test"]
    for trial in (Trial("corpora", "posts"), Trial("industries", "travel")):
        learns, measured = trial.learns_from(rows, CONFIG), trial.measured_on(rows, CONFIG)
        assert (learns != measured).all()
    assert set(rows.select(Trial("corpora", "posts").measured_on(rows, CONFIG).nonzero()[0])["source"]) == {"posts"}


def test_an_industry_is_left_out_of_the_bundled_corpus_alone(tiny_dataset: DatasetDict) -> None:
    rows = tiny_dataset["train"]
    out = rows.select(Trial("industries", "travel").left_out(rows, CONFIG).nonzero()[0])
    assert set(out["industry"]) == {"rail"}
    assert set(out["source"]) == {"bundled"}


def test_larger_shares_hold_smaller_ones() -> None:
    names = [f"c{number}" for number in range(400)]
    tenth, half = ({name for name in names if draw(name) < share} for share in (0.1, 0.5))
    assert tenth < half
    assert 0.4 < len(half) / len(names) < 0.6


def test_it_measures_what_was_left_out(found: dict[str, Any], tiny_dataset: DatasetDict) -> None:
    posts = found["corpora"]["posts"]
    assert posts["rows"] == sum(source == "posts" for source in tiny_dataset["test"]["source"])
    assert posts["train_rows"] == sum(source != "posts" for source in tiny_dataset["train"]["source"])
    assert posts["heads"]["complaint"]["average_precision"]["value"] > 0
    assert found["learning_curve"]["0.5"]["rows"] == len(tiny_dataset["test"])


def test_a_head_that_lost_its_examples_is_left_out(found: dict[str, Any]) -> None:
    assert set(found["corpora"]["posts"]["heads"]) == {"airline_sentiment", "complaint"}


def test_what_is_done_is_not_done_again(
    tiny_dataset: DatasetDict, recipe: Recipe, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def record(trial: Trial, *_: Any) -> dict[str, Any]:
        ran.append(trial.name)
        return {"rows": 1}

    monkeypatch.setattr("training.transfer.run_trial", record)
    path = tmp_path / "transfer.json"
    write_json(path, found)
    todo = [Trial("corpora", "posts"), Trial("corpora", "bundled")]
    kept = transfer(tiny_dataset, recipe, todo, path, tmp_path / "work")
    assert ran == ["bundled"]
    assert kept["corpora"]["posts"] == found["corpora"]["posts"]
    longer = Recipe(**{**vars(recipe), "transfer": CONFIG.model_copy(update={"epochs": 2})})
    transfer(tiny_dataset, longer, todo[:1], path, tmp_path / "work")
    assert ran == ["bundled", "posts"]


def test_every_industry_of_the_corpus_is_in_one_group() -> None:
    config = load_config(TransferConfig, "train.yaml", "transfer", "bundled")
    grouped = [industry for group in config.groups.values() for industry in group]
    corpus = Path(__file__).parents[2] / "corpus" / "conversations"
    assert sorted(grouped) == sorted(path.stem for path in corpus.glob("*.jsonl"))
