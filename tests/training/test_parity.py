import numpy as np
import pytest

from pipeline.heads import no_calibration
from pipeline.vocabulary import Head, Hot, Vocabulary
from training.export import ExportConfig, ParityBroken, check_parity, parity
from training.labelled import Labelled

VOCABULARY = Vocabulary(
    heads={
        "level": Head(kind="ordinal", values=("low", "mid", "high"), numbers=(0, 1, 2), wording=""),
        "flags": Head(kind="multilabel", values=("loud",), wording=""),
    },
    hot=Hot(frustration=2, signals=(), horizon=3),
)
CONFIG = ExportConfig(
    max_label_disagreement=0.01,
    max_ece_shift=0.01,
    ece_bins=10,
    golden_rows=1,
    golden_tolerance=0.05,
    languages=("en",),
)


def rows(count: int = 400) -> Labelled:
    rng = np.random.default_rng(2)
    logits, target = rng.normal(size=(count, 4)) * 3, np.zeros((count, 4))
    target[np.arange(count), logits[:, :3].argmax(axis=1)] = 1.0
    target[:, 3] = logits[:, 3] > 0
    return Labelled(VOCABULARY, logits, target, {name: np.ones(count, dtype=bool) for name in VOCABULARY.heads})


def test_an_engine_that_says_the_same_passes() -> None:
    exact = rows()
    report = parity(exact, exact.with_logits(exact.logits + 1e-6), no_calibration(VOCABULARY), CONFIG)
    check_parity(report, CONFIG)
    assert report["level"]["label_disagreement"] == 0.0


def test_an_engine_that_flips_labels_is_refused_by_head() -> None:
    exact = rows()
    flipped = exact.logits.copy()
    flipped[:20, 3] *= -1
    report = parity(exact, exact.with_logits(flipped), no_calibration(VOCABULARY), CONFIG)
    with pytest.raises(ParityBroken, match=r"flags: 5\.00% of labels differ"):
        check_parity(report, CONFIG)


def test_an_engine_that_is_surer_than_it_was_is_refused() -> None:
    exact = rows()
    exact.target[:, 3] = np.random.default_rng(1).random(400) < 0.5
    report = parity(exact, exact.with_logits(exact.logits * 4), no_calibration(VOCABULARY), CONFIG)
    with pytest.raises(ParityBroken, match="calibration error moves"):
        check_parity(report, CONFIG)
