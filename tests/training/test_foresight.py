import numpy as np
import pytest

from training.bootstrap import Resampling
from training.foresight import cases, conversation_report, forecasts, sweep, turn_report
from training.hot import Turns

CONFIG = Resampling(bootstrap=50, seed=1)

# conversation: its turns' heat, and what a forecast says of each
BOILS = ([0, 0, 0, 1], [0.1, 0.8, 0.3, 0.9])
BOILS_UNSEEN = ([0, 1, 0], [0.2, 0.9, 0.9])
CALM = ([0, 0, 0], [0.1, 0.3, 0.2])
CALM_ALARMED = ([0, 0], [0.4, 0.6])
HOT_FROM_THE_START = ([1, 0], [0.9, 0.9])
ALONE = ([0], [0.99])


def turns_of(*conversations: tuple[list[int], list[float]]) -> tuple[Turns, np.ndarray]:
    hot = np.array([heat for found, _ in conversations for heat in found], dtype=bool)
    groups = np.repeat(np.arange(len(conversations)), [len(found) for found, _ in conversations])
    order = np.concatenate([np.arange(len(found)) for found, _ in conversations])
    score = np.array([chance for _, given in conversations for chance in given])
    return Turns(hot * 0.9, hot, groups, order, np.full(len(hot), "x")), score


def test_only_conversations_that_begin_calm_can_be_foreseen() -> None:
    turns, _ = turns_of(BOILS, CALM, HOT_FROM_THE_START, ALONE)
    found = cases(turns)
    assert [case.boils_over for case in found] == [True, False]
    assert [len(case.turns) for case in found] == [3, 3]


def test_the_order_of_rows_does_not_matter() -> None:
    turns, _ = turns_of(BOILS, CALM)
    mixed = np.random.default_rng(1).permutation(len(turns.hot))
    shuffled = Turns(
        turns.chance[mixed], turns.hot[mixed], turns.groups[mixed], turns.order[mixed], turns.sources[mixed]
    )
    assert [[mixed[i] for i in case.turns] for case in cases(shuffled)] == [list(case.turns) for case in cases(turns)]


def test_a_forecast_counts_before_the_first_hot_turn_alone() -> None:
    turns, score = turns_of(BOILS, BOILS_UNSEEN, CALM, CALM_ALARMED)
    found = {row[1]: row[2:] for row in sweep({"boil_over": score}, turns)}
    assert found[0.5] == (0.5, 0.5, 2.0)  # BOILS fires on its second turn, two before the fourth
    assert found[0.1] == (1.0, 1.0, 2.0)  # three turns ahead and one ahead
    assert found[0.7] == (0.0, 0.5, 2.0)
    assert found[0.9][:2] == (0.0, 0.0)  # the hot turns themselves say 0.9 and do not count
    assert found[0.9][2] is None


def test_forecasts_are_compared_at_equal_false_alarms() -> None:
    calm = [([0, 0], [0.1, i / 20]) for i in range(20)]
    turns, score = turns_of(BOILS, BOILS_UNSEEN, *calm)
    report = conversation_report(forecasts(turns, score), turns, CONFIG)
    assert (report["boiled_over"], report["stayed_calm"]) == (2, 20)
    for rate, found in report["forecasts"]["boil_over"].items():
        assert found["false_alarms"] <= float(rate)
    assert report["forecasts"]["boil_over"]["0.20"]["foreseen"]["value"] == 0.5
    assert report["forecasts"]["boil_over"]["0.20"]["turns_ahead"] == 2
    for name in ("last_turn", "constant"):  # calm turns look alike to both: no alarm that is not false
        assert report["forecasts"][name]["0.20"]["foreseen"]["value"] == 0.0


def test_without_a_conversation_that_boils_over_there_is_nothing_to_compare() -> None:
    turns, score = turns_of(CALM, CALM_ALARMED)
    assert conversation_report(forecasts(turns, score), turns, CONFIG) == {"boiled_over": 0, "stayed_calm": 2}
    assert sweep(forecasts(turns, score), turns) == []


def test_turn_figures_stand_beside_those_of_a_constant() -> None:
    turns, score = turns_of(BOILS, CALM)
    truth = np.array([True, True, True, False, False, False, False])
    report = turn_report(forecasts(turns, score), truth, turns, CONFIG)
    assert report["share"] == pytest.approx(3 / 7, abs=1e-4)
    assert report["forecasts"]["constant"]["roc_auc"]["value"] == 0.5
    assert report["forecasts"]["constant"]["average_precision"]["value"] == pytest.approx(3 / 7, abs=1e-4)
