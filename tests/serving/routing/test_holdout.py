"""The hold-out: drawn by the id alone, at the share asked for, and never against a safety rule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.policy import Decision
from serving.routing.holdout import held_out, is_exempt, place
from serving.routing.rules import HoldOut
from tests.serving.routing.made import POLICY, changed

ALL = HoldOut(share=1, salt="s", never=("vulnerable",))
HOT = Decision(80, "senior", ("frustration_severe",))
IDS = [f"c{n}" for n in range(20_000)]


@settings(deadline=None)
@given(st.text(), st.floats(0, 1), st.floats(0, 1), st.text(min_size=1))
def test_a_larger_share_keeps_those_of_a_smaller(name: str, one: float, other: float, salt: str) -> None:
    small, large = (HoldOut(share=share, salt=salt) for share in sorted((one, other)))
    assert held_out(name, small) <= held_out(name, large)


@settings(deadline=None)
@given(st.text())
def test_none_and_all(name: str) -> None:
    assert not held_out(name, HoldOut())
    assert held_out(name, ALL)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_share_is_kept(share: float) -> None:
    found = sum(held_out(name, HoldOut(share=share, salt="a")) for name in IDS) / len(IDS)
    assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / len(IDS))


def test_another_salt_draws_anew() -> None:
    both = sum(all(held_out(name, HoldOut(share=0.5, salt=salt)) for salt in "ab") for name in IDS) / len(IDS)
    assert abs(both - 0.25) < 0.02


def test_the_draw_never_changes_between_versions() -> None:
    """An experiment that runs must not be drawn anew by an upgrade."""
    drawn = [name for name in IDS[:100] if held_out(name, HoldOut(share=0.05, salt="2026-11"))]
    assert drawn == ["c20", "c36", "c73", "c74", "c80"]


def test_half_an_emoji_can_be_drawn() -> None:
    assert held_out("\ud83d", ALL)


def test_who_is_held_out_waits_in_the_base_queue_without_a_score() -> None:
    config = changed(holdout={"share": 1, "salt": "s"}).config
    found = place(HOT, "c1", config)
    assert (found.queue, found.score, found.drawn, found.held_out) == (config.queues[-1].name, 0, True, True)


def test_a_named_queue_takes_them() -> None:
    config = changed(holdout={"share": 1, "salt": "s", "queue": "priority"}).config
    assert place(HOT, "c1", config).queue == "priority"


def test_a_safety_rule_ends_it_and_the_draw_is_still_known() -> None:
    config = changed(holdout={"share": 1, "salt": "s", "never": ["vulnerable"]}).config
    found = place(Decision(60, "priority", ("frustration_mild", "vulnerable")), "c1", config)
    assert (found.queue, found.score, found.drawn, found.held_out) == ("priority", 60, True, False)


def test_who_is_not_drawn_goes_as_decided() -> None:
    config = changed(holdout={"share": 0}).config
    found = place(HOT, "c1", config)
    assert (found.queue, found.score, found.drawn, found.held_out) == (HOT.queue, HOT.score, False, False)


@pytest.mark.parametrize("reason", POLICY.config.holdout.never)
def test_the_projects_safety_rules_exempt(reason: str) -> None:
    assert is_exempt((reason,), POLICY.config.holdout)
    assert not is_exempt(("churn_threat",), POLICY.config.holdout)
