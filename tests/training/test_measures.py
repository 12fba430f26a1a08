import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, roc_auc_score

from pipeline.heads import Floats, choose
from pipeline.vocabulary import Head, load_vocabulary
from training.measures import Judged, Measuring, by_source, fine_rows, head_report, leading, ranking_measures

HEADS = load_vocabulary().heads
CONFIG = Measuring(bootstrap=40, seed=1, ece_bins=10)


def judged(head: Head, target: Floats, chance: Floats, sources: Sequence[str] | None = None) -> Judged:
    """Every row a conversation, and a corpus unless `sources` [rows] name them."""
    names = np.array([str(row) for row in range(len(target))] if sources is None else sources)
    groups = np.arange(len(target))
    return Judged(head, chance, target, np.full(len(head.values), 0.5), groups, fine_rows(head, target, names))


def drawn(name: str, rows: int = 300) -> Judged:
    """Random probabilities that lean towards random truths."""
    rng = np.random.default_rng(8)
    size = len(HEADS[name].values)
    if HEADS[name].exclusive:
        target = np.eye(size)[rng.integers(0, size, rows)]
        chance = rng.dirichlet(np.ones(size), rows) + target * rng.random((rows, 1))
        return judged(HEADS[name], target, chance / chance.sum(axis=1, keepdims=True))
    target = (rng.random((rows, size)) < 0.2).astype(float)
    return judged(HEADS[name], target, np.clip(rng.random((rows, size)) * 0.8 + 0.2 * target, 0, 1).round(2))


@pytest.mark.parametrize("name", ["sentiment", "frustration", "satisfaction"])
def test_figures_of_exclusive_heads_are_what_scikit_learn_says(name: str) -> None:
    given = drawn(name)
    report = head_report(given, CONFIG)
    truth, chosen = given.target.argmax(axis=1), choose(given.chance, given.head)
    kappa = cohen_kappa_score(truth, chosen, weights="quadratic")
    assert report["quadratic_kappa"]["value"] == pytest.approx(kappa, abs=1e-4)
    assert report["macro_f1"]["value"] == pytest.approx(f1_score(truth, chosen, average="macro"), abs=1e-4)
    for value, f1 in zip(given.head.values, f1_score(truth, chosen, average=None), strict=True):
        assert report["values"][value]["f1"]["value"] == pytest.approx(f1, abs=1e-4)


def test_figures_of_flags_are_what_scikit_learn_says() -> None:
    given = drawn("signals")
    report = head_report(given, CONFIG)
    truth = given.target > 0.5
    precision = [average_precision_score(truth[:, i], given.chance[:, i]) for i in range(truth.shape[1])]
    f1 = f1_score(truth, given.chance >= 0.5, average="micro")
    assert report["average_precision"]["value"] == pytest.approx(np.mean(precision), abs=1e-4)
    assert report["micro_f1"]["value"] == pytest.approx(f1, abs=1e-4)
    roc = roc_auc_score(truth[:, 2], given.chance[:, 2])
    assert report["values"]["public_or_legal_threat"]["roc_auc"] == pytest.approx(roc, abs=1e-4)


def test_resampled_rankings_are_those_of_the_resampled_rows() -> None:
    given = drawn("signals", 60)
    score, truth = given.chance[:, 0], given.target[:, 0] > 0.5
    weights = np.random.default_rng(2).integers(0, 3, (5, 60)).astype(np.float32)
    found = ranking_measures(score, truth)(weights)
    for round_, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(60), counts)
        expected = average_precision_score(truth[rows], score[rows])
        assert found["average_precision"][round_] == pytest.approx(expected, abs=1e-6)
        assert found["roc_auc"][round_] == pytest.approx(roc_auc_score(truth[rows], score[rows]), abs=1e-6)


def test_a_constant_ranks_no_better_than_chance() -> None:
    truth = np.arange(100) < 30
    found = ranking_measures(np.full(100, 0.4), truth)(np.ones((1, 100), dtype=np.float32))
    assert found["roc_auc"][0] == 0.5
    assert found["average_precision"][0] == pytest.approx(0.3)


def test_a_coarse_label_is_judged_in_three_groups_by_summed_probabilities() -> None:
    # the likeliest single value is neutral in both rows, yet together the negative ones outweigh it in the first
    chance = np.array([[0.30, 0.30, 0.40, 0.0, 0.0], [0.20, 0.20, 0.60, 0.0, 0.0]])
    target = np.array([[1.0, 1.0, 0, 0, 0], [1.0, 1.0, 0, 0, 0]])
    report = head_report(judged(HEADS["sentiment"], target, chance), CONFIG)
    assert report["three_way"]["accuracy"]["value"] == 0.5
    assert "macro_f1" not in report
    assert "ece" not in report


def test_five_level_figures_leave_coarse_rows_out() -> None:
    exact = drawn("sentiment", 50)
    coarse = np.tile([1.0, 1.0, 0, 0, 0], (50, 1))
    wrong = np.tile([0.0, 0, 0, 0, 1.0], (50, 1))
    mixed = judged(exact.head, np.vstack([exact.target, coarse]), np.vstack([exact.chance, wrong]))
    alone, report = head_report(exact, CONFIG), head_report(mixed, CONFIG)
    for measure in ("accuracy", "macro_f1", "quadratic_kappa", "ece"):
        assert report[measure] == alone[measure]
    assert report["exact_rows"] == 50
    assert report["three_way"]["rows"] == 100
    assert report["three_way"]["accuracy"]["value"] < alone["three_way"]["accuracy"]["value"]


def test_exact_labels_of_a_coarse_corpus_are_a_selection_and_count_in_three_groups_alone() -> None:
    exact = drawn("sentiment", 50)
    neutral, negative = np.tile([0, 0, 1.0, 0, 0], (30, 1)), np.tile([1.0, 1.0, 0, 0, 0], (20, 1))
    posts = np.vstack([neutral, negative])
    sources = ["calls"] * 50 + ["posts"] * 50
    mixed = judged(exact.head, np.vstack([exact.target, posts]), np.vstack([exact.chance, posts]), sources)
    alone, report = head_report(exact, CONFIG), head_report(mixed, CONFIG)
    for measure in ("accuracy", "macro_f1", "quadratic_kappa", "ece", "values"):
        assert report[measure] == alone[measure]
    assert report["exact_rows"] == 50
    found = leading(mixed.among(np.arange(100) >= 50), CONFIG)
    assert found is not None
    assert (found[0], found[2]) == ("three_way", 50)
    neutral_alone = leading(mixed.among((np.arange(100) >= 50) & (np.arange(100) < 80)), CONFIG)  # a slice of them
    assert neutral_alone is not None
    assert neutral_alone[0] == "three_way"


def test_what_is_coarse_is_seen_head_by_head_and_corpus_by_corpus() -> None:
    target = np.array([[1.0, 1, 0, 0, 0], [0, 0, 1.0, 0, 0], [0, 0, 1.0, 0, 0]])
    assert fine_rows(HEADS["sentiment"], target, np.array(["posts", "posts", "calls"])).tolist() == [False, False, True]
    flags = np.ones((2, len(HEADS["signals"].values)))
    assert fine_rows(HEADS["signals"], flags, np.array(["posts", "calls"])).all()


def test_a_value_neither_true_nor_chosen_is_named_without_a_figure() -> None:
    three = np.eye(5)[[0, 1, 2]]
    report = head_report(judged(HEADS["sentiment"], three, three), CONFIG)
    assert list(report["values"]) == list(HEADS["sentiment"].values)
    assert report["values"]["positive"] == {"positives": 0, "f1": None}
    assert report["values"]["neutral"]["f1"]["value"] == 1.0


def test_the_rows_of_the_leading_figure_are_those_behind_it() -> None:
    exact = drawn("sentiment", 50)
    coarse = np.tile([1.0, 1.0, 0, 0, 0], (30, 1))
    mixed = judged(exact.head, np.vstack([exact.target, coarse]), np.vstack([exact.chance, coarse]))
    found = leading(mixed, CONFIG)
    assert found is not None
    assert (found[0], found[2]) == ("quadratic_kappa", 50)
    assert found == leading(exact, CONFIG)


def test_a_label_across_groups_is_judged_nowhere() -> None:
    across = judged(HEADS["sentiment"], np.array([[0, 0, 1.0, 1.0, 0]]), np.array([[0, 0, 1.0, 0, 0]]))
    assert head_report(across, CONFIG) == {"rows": 1}
    assert leading(across, CONFIG) is None


def test_satisfaction_in_three_puts_one_and_two_together() -> None:
    target = np.eye(5)[[0, 1, 2, 3, 4]]
    chance = np.eye(5)[[1, 0, 2, 4, 3]]
    report = head_report(judged(HEADS["satisfaction"], target, chance), CONFIG)
    assert report["three_way"]["macro_f1"]["value"] == 1.0
    assert report["accuracy"]["value"] < 1.0


def test_every_source_is_measured_by_itself() -> None:
    given = drawn("frustration", 100)
    right = np.arange(100) < 50
    chance = np.where(right[:, None], given.target, np.roll(given.target, 1, axis=1))
    report = by_source(judged(given.head, given.target, chance), np.where(right, "calls", "posts"), CONFIG)
    assert report["sources"]["calls"]["accuracy"]["value"] == 1.0
    assert report["sources"]["posts"]["accuracy"]["value"] == 0.0
    assert report["accuracy"]["value"] == 0.5
    assert report["sources"]["calls"]["rows"] == 50


def test_a_flag_that_is_never_given_breaks_nothing() -> None:
    given = drawn("signals", 30)
    given.target[:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = head_report(given, CONFIG)
    assert "average_precision" not in report
    assert report["values"]["abuse"]["average_precision"] is None


@pytest.mark.parametrize(
    ("name", "figure"),
    [("sentiment", "quadratic_kappa"), ("airline_sentiment", "macro_f1"), ("signals", "average_precision")],
)
def test_one_figure_stands_for_a_head(name: str, figure: str) -> None:
    found = leading(drawn(name), CONFIG)
    assert found is not None
    assert found[0] == figure


def test_forecasts_are_counted_by_how_sure_they_were() -> None:
    given = judged(HEADS["boil_over"], np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([[0.05], [0.09], [1.0], [0.5]]))
    bins = by_source(given, np.array(["a"] * 4), CONFIG)["bins"]
    assert [(one["low"], one["rows"], one["positives"]) for one in bins if one["rows"]] == [
        (0.0, 2, 1),
        (0.5, 1, 0),
        (0.9, 1, 1),
    ]
