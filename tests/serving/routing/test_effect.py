"""The effect of routing: what is there is found, what is not is not claimed, and the draw decides who counts where."""

from __future__ import annotations

import numpy as np

from serving.routing.effect import Record, effects

RNG_SEED = 5


def records(held: int, routed: int, lift: float = 0.0, seed: int = RNG_SEED) -> list[Record]:
    """Conversations whose outcomes are the same on both sides, but for `lift`, better where routed."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(held + routed):
        is_held = number < held
        better = 0.0 if is_held else lift
        found.append(
            Record(
                id=f"c{number}",
                held_out=is_held,
                boiled_over=bool(rng.random() < 0.4 - 0.3 * better),
                minutes_to_human=float(rng.exponential(20.0)) * (1 - 0.6 * better),
                satisfaction=float(np.clip(rng.normal(3 + better, 1), 1, 5)),
            )
        )
    return found


def test_an_effect_is_found_on_each_outcome() -> None:
    found = effects(records(300, 700, lift=1.0), rounds=300)
    for effect, better in ((found.boiled_over, -1), (found.minutes_to_human, -1), (found.satisfaction, 1)):
        assert effect.difference is not None
        assert effect.low is not None
        assert effect.high is not None
        assert effect.difference * better > 0
        assert effect.low <= effect.difference <= effect.high
        assert effect.low * effect.high > 0
        assert effect.p is not None
        assert effect.p < 0.02


def test_chance_alone_is_seldom_called_an_effect() -> None:
    """At 5 % two or more of twenty would be no wonder; seven would be (probability below 1e-4)."""
    ps = [effects(records(40, 60, seed=seed), rounds=100).satisfaction.p or 1.0 for seed in range(20)]
    assert sum(p <= 0.05 for p in ps) < 7


def test_figures_by_hand() -> None:
    rows = [
        Record(id="a", held_out=True, boiled_over=True, minutes_to_human=30, satisfaction=2),
        Record(id="b", held_out=True, boiled_over=False, minutes_to_human=10, satisfaction=None),
        Record(id="c", held_out=True, boiled_over=None, minutes_to_human=20, satisfaction=3),
        Record(id="d", held_out=False, boiled_over=False, minutes_to_human=4, satisfaction=4),
        Record(id="e", held_out=False, boiled_over=False, minutes_to_human=6, satisfaction=5),
        Record(id="f", held_out=False, boiled_over=True, minutes_to_human=None, satisfaction=3),
    ]
    found = effects(rows, rounds=50)
    assert (found.boiled_over.held_out.value, found.boiled_over.held_out.conversations) == (0.5, 2)
    assert found.boiled_over.routed.value == 0.3333
    assert found.minutes_to_human.held_out.value == 20
    assert found.minutes_to_human.routed.value == 6  # who was never answered waited longest
    assert found.minutes_to_human.difference == -14
    assert found.satisfaction.routed.value == 4


def test_who_was_exempt_from_the_start_counts_on_neither_side() -> None:
    rows = records(50, 50)
    loud = [r.model_copy(update={"id": f"x{r.id}", "exempt": True, "boiled_over": True}) for r in rows]
    assert effects([*rows, *loud], rounds=50) == effects(rows, rounds=50)


def test_most_never_answered_has_no_figure_and_no_warning() -> None:
    rows = [Record(id=f"c{n}", held_out=n % 2 == 0, minutes_to_human=None if n % 4 else 1.0) for n in range(40)]
    found = effects(rows, rounds=50).minutes_to_human
    assert found.routed.value is None
    assert (found.difference, found.p) == (None, None)


def test_a_side_with_nobody_says_nothing() -> None:
    for rows in ([], records(0, 20), records(1, 20)):
        found = effects(rows, rounds=20).boiled_over
        assert (found.difference, found.low, found.high, found.p) == (None, None, None, None)


def test_the_same_records_give_the_same_figures() -> None:
    rows = records(30, 60, lift=0.5)
    assert effects(rows, rounds=50) == effects(rows, rounds=50)
