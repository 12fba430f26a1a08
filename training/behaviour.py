"""DVC stage `behaviour`: how often the bundle fails the behaviour suite, family by family.

    python -m training.behaviour         metrics/behaviour.json

Texts are scored as serving scores them, each once. The stage measures and never refuses; `training.register` reads the
rates, and moves no alias to a bundle of which a family fails more often than its bound allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from pipeline.bundle import load_bundle
from pipeline.config import ROOT, Config, current_profile, load_config
from pipeline.conversation import Conversation
from pipeline.encode import read_turn
from pipeline.heads import Floats, choose, expected
from pipeline.predictor import Predictor
from pipeline.stage import BUNDLE, run, steps
from training.suite import LEVELS, Case, Reading, Readings, Texts, load_suite
from training.tracking import finish_stage

DEFAULT = "default"


class Gate(Config):
    """The share of a family's cases that may fail: `max_failure_rate` by family, `default` for those not named.

    Promotion is refused where a rate lies further above its bound than `margin`.
    """

    max_failure_rate: dict[str, float]
    margin: float = Field(ge=0)

    @field_validator("max_failure_rate")
    @classmethod
    def _has_default(cls, bounds: dict[str, float]) -> dict[str, float]:
        if DEFAULT not in bounds:
            raise ValueError(f"{DEFAULT} is missing")
        return bounds

    def bound(self, family: str) -> float:
        """The share of a family's cases that may fail, the margin not counted."""
        return self.max_failure_rate.get(family, self.max_failure_rate[DEFAULT])

    def unknown(self, families: Mapping[str, Any]) -> list[str]:
        """Families with a bound of their own that the metrics file does not have: a bound that would never bind."""
        return [name for name in self.max_failure_rate if name != DEFAULT and name not in families]

    def broken(self, families: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Families of the metrics file that fail too often, each with its rate and its bound."""
        return [
            f"{name} ({figures['failure_rate']:.0%} of {figures['cases']} cases fail, at most {self.bound(name):.0%})"
            for name, figures in families.items()
            if figures["failure_rate"] > self.bound(name) + self.margin
        ]


class BehaviourConfig(Config):
    """Where the suite lies, how many failing cases a family shows, and what the gate lets pass."""

    suite: str
    examples: int = Field(ge=0)
    gate: Gate = Field(exclude=True)  # bounds are set after a run, whose parameters cannot be changed any more


def read_texts(predictor: Predictor, texts: Iterable[Texts]) -> dict[Texts, Reading]:
    """What a model says of each text, all scored at once and equal ones once."""
    wanted = list(dict.fromkeys(texts))
    given = [
        read_turn(Conversation(id=str(number), turns=turns), len(turns) - 1, predictor.encoder.config)
        for number, turns in enumerate(wanted)
    ]
    return dict(zip(wanted, readings(predictor, predictor.predict(given)), strict=True))


def readings(predictor: Predictor, chances: Floats) -> list[Reading]:
    """Calibrated probabilities [texts, outputs] as readings."""
    heads, slices = predictor.vocabulary.heads, predictor.vocabulary.slices()
    parts = {name: chances[:, slices[name]] for name in ("sentiment", *LEVELS, "signals", "boil_over")}
    chosen = {name: choose(parts[name], heads[name]) for name in ("sentiment", *LEVELS)}
    numbers = {name: expected(parts[name], heads[name]) for name in chosen} | {"boil_over": parts["boil_over"][:, 0]}
    flags = parts["signals"] >= np.array(predictor.calibration.thresholds[slices["signals"]])
    return [
        Reading(
            sentiment=heads["sentiment"].values[chosen["sentiment"][row]],
            levels={name: int(chosen[name][row]) for name in LEVELS},
            expected={name: float(values[row]) for name, values in numbers.items()},
            signals=frozenset(name for name, given in zip(heads["signals"].values, flags[row], strict=True) if given),
        )
        for row in range(len(chances))
    ]


def measure(cases: Sequence[Case], found: Readings, examples: int) -> dict[str, Any]:
    """Per family: cases, failures, failure rate and the first few failing cases; and the same counts over all."""
    problems = {(case.family, case.name): case.expectation.problems(found) for case in cases}
    families: dict[str, Any] = {}
    for family in dict.fromkeys(case.family for case in cases):
        members = [case for case in cases if case.family == family]
        failing = [case for case in members if problems[family, case.name]]
        families[family] = counts(len(members), len(failing)) | {
            "examples": [show(case, problems[family, case.name], found) for case in failing[:examples]]
        }
    return {"families": families, "overall": counts(len(cases), sum(map(bool, problems.values())))}


def counts(cases: int, failures: int) -> dict[str, float]:
    """Cases, how many failed, and which share that is."""
    return {"cases": cases, "failures": failures, "failure_rate": round(failures / cases, 4)}


def show(case: Case, problems: Sequence[str], found: Readings) -> dict[str, Any]:
    """A failing case as the metrics file shows it: what is wrong, and what came out for each text."""
    return {
        "case": case.name,
        "problems": list(problems),
        "came_out": {as_line(text): str(found[text]) for text in case.expectation.texts()},
    }


def as_line(text: Texts) -> str:
    """A text in one line: a lone message as it is, turns with their roles."""
    if len(text) == 1:
        return text[0].text
    return " / ".join(f"{turn.role}: {turn.text}" for turn in text)


def main() -> None:
    """Run the stage for the current profile."""
    config = load_config(BehaviourConfig, "train.yaml", "behaviour", current_profile())
    with steps("behaviour", 3) as begin:
        begin("bundle")
        bundle = load_bundle(BUNDLE, threads=2)
        cases = load_suite(ROOT / config.suite, bundle.card.labels)
        begin("texts")
        found = read_texts(bundle.predictor, (text for case in cases for text in case.expectation.texts()))
        begin("cases")
        metrics = measure(cases, found, config.examples)
    finish_stage("behaviour", config, {"bundle": bundle.digest, **metrics})


if __name__ == "__main__":
    run(main)
