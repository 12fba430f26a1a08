import numpy as np
import pytest

from pipeline.vocabulary import load_vocabulary
from serving.routing.history import hot_chance
from tests.serving.routing.made import answered, outputs
from training.bootstrap import Resampling
from training.hot import Turns, hot_probability, hot_report, hot_turns, queue_curve, queue_report
from training.labelled import Labelled

FULL = load_vocabulary()
CONFIG = Resampling(bootstrap=50, seed=1)


def labelled(*rows: dict[str, object]) -> Labelled:
    """Rows with these labels."""
    target, known = np.zeros((len(rows), FULL.size)), {name: np.zeros(len(rows), dtype=bool) for name in FULL.heads}
    for number, labels in enumerate(rows):
        for head, label in labels.items():
            known[head][number] = True
            target[number, FULL.slices()[head]] = FULL.heads[head].target(label)  # type: ignore[arg-type]
    return Labelled(FULL, np.zeros_like(target), target, known)


def turns(chance: list[float], hot: list[bool], groups: list[int]) -> Turns:
    return Turns(np.array(chance), np.array(hot), np.array(groups), np.arange(len(hot)), np.full(len(hot), "x"))


def test_the_hot_probability_joins_frustration_and_the_signals_that_count() -> None:
    chances = np.zeros((1, FULL.size))
    where = FULL.slices()
    chances[0, where["frustration"]] = [0.3, 0.2, 0.4, 0.1]
    signals = FULL.heads["signals"].values
    chances[0, where["signals"].start + signals.index("churn_threat")] = 0.2
    chances[0, where["signals"].start + signals.index("repeat_contact")] = 0.9  # makes nothing hot
    assert hot_probability(chances, FULL)[0] == pytest.approx(1 - 0.5 * 0.8)


@pytest.mark.parametrize("severe", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("signal", FULL.heads["signals"].values)
def test_serving_reads_the_same_hot_probability_out_of_an_answer(severe: float, signal: str) -> None:
    given = outputs(frustration__severe=severe, frustration__mild=0.0, **{f"signals__{signal}": 0.7})
    assert hot_chance(answered("c", given), FULL) == pytest.approx(hot_probability(given[None, :], FULL)[0])


def test_hot_probability_of_a_model_without_signals() -> None:
    kept = FULL.only(["frustration"])
    assert hot_probability(np.array([[0.5, 0.0, 0.25, 0.25]]), kept)[0] == pytest.approx(0.5)


def test_hot_turns_are_those_of_the_vocabulary() -> None:
    rows: list[dict[str, object]] = [
        {"frustration": 2},
        {"frustration": 1, "signals": ("abuse",)},
        {"frustration": 1, "signals": ("repeat_contact",)},
        {"signals": ()},
        {"sentiment": "negative"},
    ]
    hot, known = hot_turns(labelled(*rows))
    assert hot.tolist() == [True, True, False, False, False]
    assert known.tolist() == [True, True, True, True, False]
    for row, is_hot, is_known in zip(rows, hot, known, strict=True):
        assert FULL.hot.applies(row) == (bool(is_hot) if is_known else None)  # type: ignore[arg-type]


def test_a_perfect_order_reaches_the_ceiling() -> None:
    hot = [True] * 4 + [False] * 16
    report = queue_report(turns([0.9] * 4 + [0.1] * 16, hot, list(range(20))), CONFIG)
    assert {name: figure["value"] for name, figure in report["recall"].items()} == {
        "0.05": 0.25,
        "0.10": 0.5,
        "0.20": 1.0,
    }
    assert all(figure["value"] == figure["ceiling"] for figure in report["recall"].values())


def test_a_score_that_tells_nothing_gains_nothing_by_luck() -> None:
    report = queue_report(turns([0.5] * 20, [True] * 4 + [False] * 16, list(range(20))), CONFIG)
    assert report["recall"]["0.20"]["value"] == 0.0


def test_a_conversation_ranks_by_its_hottest_turn() -> None:
    report = queue_report(turns([0.1, 0.9, 0.5, 0.5], [False, True, False, False], [0, 0, 1, 1]), CONFIG)
    assert report["conversations"] == 2
    assert report["hot"] == 1
    assert report["recall"]["0.20"]["value"] == pytest.approx(0.4)  # two fifths of the one conversation's place


def test_the_curve_goes_from_none_to_all() -> None:
    curve = queue_curve(turns([0.9, 0.2, 0.4, 0.1], [True, False, True, False], [0, 1, 2, 3]))
    assert curve[0][:2] == (0.0, 0.0)
    assert curve[-1][:2] == (1.0, 1.0)
    assert all(reached <= most + 1e-4 for _, reached, most in curve)
    assert queue_curve(turns([0.9], [False], [0])) == []


def test_the_hot_report_says_how_rare_hot_turns_are() -> None:
    report = hot_report(turns([0.9, 0.2, 0.4, 0.1], [True, False, False, False], [0, 1, 2, 3]), CONFIG)
    assert report["share"] == 0.25
    assert report["average_precision"]["value"] == 1.0
