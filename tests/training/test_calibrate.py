import numpy as np
import pytest

from pipeline.heads import no_calibration, probabilities, softmax
from pipeline.scores import expected_calibration_error
from pipeline.vocabulary import Head, Hot, Vocabulary
from training.calibrate import CalibrateConfig, best_threshold, calibrate, summary
from training.labelled import Labelled

VOCABULARY = Vocabulary(
    heads={
        "mood": Head(kind="categorical", values=("bad", "so-so", "good"), numbers=(-1, 0, 1), wording=""),
        "flags": Head(kind="multilabel", values=("loud", "late"), wording=""),
    },
    hot=Hot(frustration=2, signals=(), horizon=3),
)
CONFIG = CalibrateConfig(l2=0.0001, min_positives=10)


def overconfident(rows: int = 4000, by: float = 3.0) -> Labelled:
    """Rows drawn from known probabilities, and logits that overstate them `by` times."""
    rng = np.random.default_rng(5)
    honest = rng.normal(size=(rows, 5))
    target = np.zeros((rows, 5))
    target[np.arange(rows), [rng.choice(3, p=p) for p in softmax(honest[:, :3])]] = 1.0
    target[:, 3:] = rng.random((rows, 2)) < 1 / (1 + np.exp(-honest[:, 3:]))
    known = {name: np.ones(rows, dtype=bool) for name in VOCABULARY.heads}
    return Labelled(VOCABULARY, by * honest, target, known)


def test_it_finds_how_much_the_logits_overstate() -> None:
    found = calibrate(overconfident(), VOCABULARY, CONFIG)
    assert np.array(found.scale) == pytest.approx(1 / 3, rel=0.15)


def test_it_lowers_the_calibration_error() -> None:
    labelled = overconfident()
    found = calibrate(labelled, VOCABULARY, CONFIG)
    for name, where in VOCABULARY.slices().items():
        exclusive = VOCABULARY.heads[name].exclusive
        before, after = (
            expected_calibration_error(
                probabilities(labelled.logits, VOCABULARY, c)[:, where], labelled.target[:, where], exclusive, 10
            )
            for c in (no_calibration(VOCABULARY), found)
        )
        assert after < before / 3


def test_calibration_keeps_the_order_of_a_flag() -> None:
    labelled = overconfident(500)
    chances = probabilities(labelled.logits, VOCABULARY, calibrate(labelled, VOCABULARY, CONFIG))
    assert (np.argsort(chances[:, 3]) == np.argsort(labelled.logits[:, 3])).all()


def test_a_head_without_rows_stays_as_it_is() -> None:
    labelled = overconfident(200)
    nothing = {**labelled.known, "mood": np.zeros(200, dtype=bool)}
    found = calibrate(Labelled(VOCABULARY, labelled.logits, labelled.target, nothing), VOCABULARY, CONFIG)
    assert found.scale[:3] == (1.0, 1.0, 1.0)
    assert found.shift[:3] == (0.0, 0.0, 0.0)


def test_the_threshold_parts_what_can_be_parted() -> None:
    truth = np.array([True, True, False, False])
    assert 0.3 < best_threshold(truth, np.array([0.8, 0.7, 0.3, 0.1])) < 0.7


def test_a_rare_flag_keeps_the_usual_threshold() -> None:
    labelled = overconfident(200)
    labelled.target[:, 3] = 0.0
    labelled.target[:5, 3] = 1.0
    assert calibrate(labelled, VOCABULARY, CONFIG).thresholds[3] == 0.5


def test_the_summary_names_every_head_that_has_rows() -> None:
    labelled = overconfident(200)
    assert set(summary(labelled, VOCABULARY, no_calibration(VOCABULARY))) == set(VOCABULARY.heads)
