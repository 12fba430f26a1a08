"""Priority is policy: more heat never lowers it, every decision names its reasons, and a wrong policy is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CONFIGS, ConfigError
from pipeline.heads import Floats
from pipeline.vocabulary import load_vocabulary
from serving.policy import (
    Abstained,
    Decision,
    Factor,
    Policy,
    PolicyMismatch,
    Queue,
    RoutingConfig,
    Waiting,
    load_policy,
    read_policy,
)

VOCABULARY = load_vocabulary()
POLICY = load_policy(VOCABULARY)
FACTORS = sorted(POLICY.config.factors)
ORDINAL = [name for name in ("frustration", "urgency") if VOCABULARY.heads[name].kind == "ordinal"]
GRAIN = 1024  # probabilities are multiples of 1/1024, so that sums of them are exact

WORKED = RoutingConfig(
    factors={
        "angry": Factor(head="frustration", at_least="strong", weight=0.5, fires_at=0.5),
        "leaving": Factor(head="signals", value="churn_threat", weight=0.4, fires_at=0.4),
    },
    waiting=Waiting(reason="long_wait", weight=0.3, full_after_minutes=60, fires_at=0.5),
    queues=(
        Queue(name="first", reasons=("leaving",), score=80),
        Queue(name="second", reasons=("long_wait",), score=60),
        Queue(name="last", reasons=(), score=0),
    ),
    abstained=Abstained(score=33, queue="second"),
)


def heat(decision: Decision, policy: Policy = POLICY) -> int:
    """How hot the decision's queue is: 0 for the last one."""
    names = [queue.name for queue in policy.config.queues]
    return len(names) - 1 - names.index(decision.queue)


def assert_no_cooler(before: Decision, after: Decision) -> None:
    assert after.score >= before.score
    assert heat(after) >= heat(before)
    assert set(after.reasons) >= set(before.reasons)


def outputs(**chances: float) -> Floats:
    """Model outputs, all 0 but those named `head__value`."""
    values = np.zeros(VOCABULARY.size)
    for name, chance in chances.items():
        head, value = name.split("__")
        start = VOCABULARY.slices()[head].start
        values[start + VOCABULARY.heads[head].values.index(value)] = chance
    return values


shares = st.floats(0.0, 1.0)
strengths = st.fixed_dictionaries(dict.fromkeys(FACTORS, shares))
waits = st.floats(0.0, 10_000.0)


@st.composite
def distributions(draw: st.DrawFn) -> Floats:
    """Exact outputs: a distribution for each exclusive head, anything for the others."""
    parts: list[int] = []
    for head in VOCABULARY.heads.values():
        count = len(head.values)
        drawn = draw(st.lists(st.integers(0, GRAIN), min_size=count, max_size=count))
        cuts = [0, *sorted(drawn[1:]), GRAIN]
        parts += [high - low for low, high in pairwise(cuts)] if head.exclusive else drawn
    return np.array(parts) / GRAIN


@given(strengths, st.sampled_from(FACTORS), shares, waits)
def test_a_stronger_factor_never_cools(given: dict[str, float], name: str, strength: float, wait: float) -> None:
    raised = {**given, name: max(given[name], strength)}
    assert_no_cooler(POLICY.decide_by(given, wait), POLICY.decide_by(raised, wait))


@given(strengths, waits, waits)
def test_a_longer_wait_never_cools(given: dict[str, float], one: float, other: float) -> None:
    assert_no_cooler(POLICY.decide_by(given, min(one, other)), POLICY.decide_by(given, max(one, other)))


@given(distributions(), st.sampled_from(ORDINAL), st.integers(0, 3), st.integers(0, 3), shares)
def test_probability_moved_to_a_worse_level_never_cools(
    given: Floats, head: str, one: int, other: int, share: float
) -> None:
    start, moved = VOCABULARY.slices()[head].start, given.copy()
    low, high = start + min(one, other), start + max(one, other)
    amount = round(share * GRAIN * given[low]) / GRAIN
    moved[low] -= amount
    moved[high] += amount
    assert_no_cooler(POLICY.decide(given), POLICY.decide(moved))


@given(distributions(), st.sampled_from(VOCABULARY.heads["signals"].values), shares)
def test_a_likelier_signal_never_cools(given: Floats, signal: str, chance: float) -> None:
    raised = np.maximum(given, outputs(**{f"signals__{signal}": chance}))
    assert_no_cooler(POLICY.decide(given), POLICY.decide(raised))


@given(strengths, waits)
def test_a_decision_stays_in_bounds(given: dict[str, float], wait: float) -> None:
    decision = POLICY.decide_by(given, wait)
    assert 0 <= decision.score <= 100
    assert set(decision.reasons) <= {*FACTORS, POLICY.config.waiting.reason}


@given(strengths, waits)
def test_reasons_stand_weightiest_first(given: dict[str, float], wait: float) -> None:
    waiting = POLICY.config.waiting
    weights = {name: factor.weight * given[name] for name, factor in POLICY.config.factors.items()}
    weights[waiting.reason] = waiting.weight * min(1.0, wait / waiting.full_after_minutes)
    found = [weights[reason] for reason in POLICY.decide_by(given, wait).reasons]
    assert found == sorted(found, reverse=True)


def test_the_formula_worked_by_hand() -> None:
    """0.5 strong and 0.3 severe make 0.8: 1 - 0.5*0.8 = 0.6. Churn 0.25: 0.9. Half of the wait: 1 - 0.15 = 0.85.
    0.6 * 0.9 * 0.85 = 0.459, so the score is 54. Churn is short of its 0.4 and is no reason; abuse is no factor."""
    given = outputs(
        frustration__mild=0.2,
        frustration__strong=0.5,
        frustration__severe=0.3,
        signals__churn_threat=0.25,
        signals__abuse=0.9,
    )
    decision = Policy(WORKED, VOCABULARY).decide(given, waiting_minutes=30)
    assert decision == Decision(score=54, queue="second", reasons=("angry", "long_wait"))


@pytest.mark.parametrize(
    ("given", "minutes", "queue", "reasons"),
    [
        (outputs(), 0, "last", ()),
        (outputs(frustration__severe=1.0), 0, "last", ("angry",)),
        (outputs(frustration__severe=1.0), 20, "last", ("angry",)),
        (outputs(signals__churn_threat=0.4), 0, "first", ("leaving",)),
        (outputs(signals__churn_threat=0.39), 0, "last", ()),
        (outputs(), 29.9, "last", ()),
        (outputs(), 30, "second", ("long_wait",)),
    ],
)
def test_a_queue_takes_its_reasons_and_its_scores(
    given: Floats, minutes: float, queue: str, reasons: tuple[str, ...]
) -> None:
    decision = Policy(WORKED, VOCABULARY).decide(given, minutes)
    assert (decision.queue, decision.reasons) == (queue, reasons)


def test_a_score_alone_leads_to_a_queue() -> None:
    """0.5 * 0.88 * 0.855 = 0.376: no reason of the second queue fired, but its score of 60 is reached."""
    decision = Policy(WORKED, VOCABULARY).decide_by({"angry": 1.0, "leaving": 0.3}, waiting_minutes=29)
    assert (decision.score, decision.queue) == (62, "second")


@pytest.mark.parametrize("minutes", [-1.0, -1e308, float("-inf"), float("nan"), 0.0])
def test_no_wait_adds_nothing(minutes: float) -> None:
    none = dict.fromkeys(FACTORS, 0.0)
    assert POLICY.decide_by(none, minutes) == Decision(0, POLICY.config.queues[-1].name, ())


@pytest.mark.parametrize("minutes", [1e308, float("inf")])
def test_endless_waiting_counts_once(minutes: float) -> None:
    none = dict.fromkeys(FACTORS, 0.0)
    full = POLICY.decide_by(none, POLICY.config.waiting.full_after_minutes)
    assert POLICY.decide_by(none, minutes) == full
    assert full.reasons == (POLICY.config.waiting.reason,)


def test_the_project_sends_certain_emergencies_to_its_hottest_queue() -> None:
    hottest, calmest = POLICY.config.queues[0].name, POLICY.config.queues[-1].name
    assert POLICY.decide(outputs(urgency__critical=1.0)).queue == hottest
    assert POLICY.decide(outputs(frustration__none=1.0, urgency__low=1.0)).queue == calmest
    assert POLICY.decide(outputs(frustration__severe=1.0)).queue != calmest


def test_what_the_model_would_not_judge_has_a_place() -> None:
    assert Policy(WORKED, VOCABULARY).decide_abstained("language") == Decision(33, "second", ("abstained_language",))


def test_a_digest_names_what_a_policy_says_not_how_its_file_is_laid_out(tmp_path: Path) -> None:
    same = load_policy(VOCABULARY, changed(tmp_path, lambda config: None))  # comments are gone
    assert same.digest == POLICY.digest
    other = load_policy(VOCABULARY, changed(tmp_path, lambda config: config["waiting"].update(weight=0.31)))
    assert other.digest != POLICY.digest


def test_a_policy_of_any_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes((CONFIGS / "routing.yaml").read_bytes())
    assert read_policy(path, VOCABULARY).digest == POLICY.digest
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        read_policy(tmp_path / "nowhere.yaml", VOCABULARY)
    path.write_text("queues: [")
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        read_policy(path, VOCABULARY)


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A configuration folder whose routing.yaml was changed."""
    values = yaml.safe_load((CONFIGS / "routing.yaml").read_text(encoding="utf-8"))
    change(values)
    (folder / "routing.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return folder


def factor(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Adds the factor `wrong`."""
    return lambda config: config["factors"].update(wrong={"weight": 0.1, "fires_at": 0.5, **values})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (factor(head="mood", value="bad"), ("wrong", "mood")),
        (factor(head="signals", value="shrug"), ("wrong", "signals", "shrug")),
        (factor(head="frustration", at_least="boiling"), ("wrong", "frustration", "boiling")),
        (factor(head="signals", at_least="abuse"), ("wrong", "signals", "ordinal")),
        (factor(head="frustration", value="strong"), ("wrong", "frustration", "at_least")),
    ],
)
def test_a_policy_for_another_model_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], named: tuple[str, ...]
) -> None:
    with pytest.raises(PolicyMismatch) as refused:
        load_policy(VOCABULARY, changed(tmp_path, change))
    assert all(name in str(refused.value) for name in named)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["queues"][0]["reasons"].append("full_moon"), (POLICY.config.queues[0].name, "full_moon")),
        (lambda c: c["abstained"].update(queue="limbo"), ("abstained", "limbo")),
        (lambda c: c["queues"][-1].update(score=5), ("last queue",)),
        (lambda c: c.update(queues=[]), ("queues",)),
        (lambda c: c["waiting"].update(full_after_minutes=0), ("waiting.full_after_minutes",)),
        (lambda c: c["waiting"].update(wieght=0.5), ("waiting.wieght",)),
        (lambda c: c["abstained"].update(score=101), ("abstained.score",)),
        (factor(head="signals", value="abuse", weight=1.0), ("factors.wrong.weight",)),
        (factor(head="signals", value="abuse", weight=-0.1), ("factors.wrong.weight",)),
        (factor(head="signals"), ("factors.wrong", "either")),
        (factor(head="frustration", at_least="mild", value="mild"), ("factors.wrong", "either")),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], named: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_policy(VOCABULARY, changed(tmp_path, change))
    assert "routing.yaml" in str(refused.value)
    assert all(name in str(refused.value) for name in named)


@given(strengths=st.fixed_dictionaries({name: st.floats(0, 1) for name in FACTORS}), waited=st.floats(0, 1000))
def test_contributions_add_up_to_the_decision(strengths: dict[str, float], waited: float) -> None:
    decision, parts = POLICY.decide_by(strengths, waited), POLICY.contributions(strengths, waited)
    assert {part.reason for part in parts} == {*FACTORS, POLICY.config.waiting.reason}
    assert {part.reason for part in parts if part.fired} == set(decision.reasons)
    assert decision.score == round(100 * (1 - float(np.prod([1 - part.raises for part in parts]))))
