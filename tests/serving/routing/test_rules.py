"""The rules of a policy: what makes no sense is refused, and a file that says nothing of them means what it meant."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config import CONFIGS
from serving.policy import RoutingConfig
from serving.routing.rules import Aging, Assignment, Hard, HoldOut
from tests.serving.routing.made import POLICY

FILE = yaml.safe_load((CONFIGS / "routing.yaml").read_text(encoding="utf-8"))


def test_a_file_without_these_rules_holds_nothing_out_and_asks_for_no_tier() -> None:
    old = {name: part for name, part in FILE.items() if name not in ("aging", "holdout", "assignment")}
    config = RoutingConfig.model_validate(old)
    assert config.holdout.share == 0
    assert config.assignment.qualified == {}
    assert config.aging.points_per_hour > 0


def test_the_project_sends_hard_queues_to_qualified_people() -> None:
    rules = POLICY.config.assignment
    assert rules.hard.queues == tuple(rules.qualified)
    assert POLICY.config.holdout.share <= 0.1
    assert "urgency_critical" in POLICY.config.holdout.never


@pytest.mark.parametrize(("queue", "score", "is_hard"), [("hot", 0, True), ("calm", 85, True), ("calm", 84, False)])
def test_what_is_hard(queue: str, score: int, is_hard: bool) -> None:
    assert Hard(queues=("hot",), score=85).holds(queue, score) is is_hard


def test_no_score_is_hard_where_none_is_said_to_be() -> None:
    assert not Hard().holds("any", 100)


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"holdout": {"share": 0.1}}, "salt"),
        ({"holdout": {"share": 1.1, "salt": "x"}}, "share"),
        ({"holdout": {"share": float("nan"), "salt": "x"}}, "share"),
        ({"holdout": {"queue": "limbo"}}, "limbo"),
        ({"holdout": {"never": ["full_moon"]}}, "full_moon"),
        ({"aging": {"points_per_hour": 0}}, "points_per_hour"),
        ({"aging": {"points_per_hour": float("inf")}}, "points_per_hour"),
        ({"aging": {"points_per_day": 3}}, "points_per_day"),
        ({"assignment": {"qualified": {"limbo": ["senior"]}}}, "limbo"),
        ({"assignment": {"qualified": {"critical": []}}}, "critical"),
        ({"assignment": {"qualified": {"critical": ["kind"]}}}, "critical"),
        ({"assignment": {"hard": {"queues": ["limbo"]}}}, "limbo"),
        ({"assignment": {"relax": [{"after_minutes": 5, "drop": ["cap"]}]}}, "drop"),
        ({"assignment": {"relax": [{"after_minutes": 5, "drop": []}]}}, "drop"),
        (
            {
                "assignment": {
                    "relax": [{"after_minutes": 9, "drop": ["tier"]}, {"after_minutes": 5, "drop": ["skills"]}]
                }
            },
            "order",
        ),
        ({"queues": [*FILE["queues"], FILE["queues"][-1]]}, FILE["queues"][-1]["name"]),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(section: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        RoutingConfig.model_validate({**FILE, **section})


def test_a_language_is_read_without_its_region() -> None:
    assert Assignment(language="pt-BR").language == "pt"


def test_rules_never_change() -> None:
    for rules in (Aging(), HoldOut(), Assignment()):
        with pytest.raises(ValidationError):
            rules.share = 1.0  # type: ignore[union-attr]
