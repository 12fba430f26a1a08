"""The behaviour suite: cases as data, and what of a case does not hold given what a model said of its texts.

    tests/model/suite/<family>.yaml      one file per family of capability

minimum     a text, or a short conversation, and what must hold of its last message
invariance  texts that differ only in what must not matter: no head's expected value may spread further than `within`
direction   two texts between which a head's expected value must rise, must fall, or must not

A text is a string or a list of turns, each `role: text`, of which the customer's is the last. `{name}` in a template
stands for each entry of that list among the file's `slots`. Knows nothing of models; it is handed a `Reading` a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from pipeline.config import Config
from pipeline.conversation import Turn
from pipeline.vocabulary import Vocabulary

Texts: TypeAlias = tuple[Turn, ...]
"""The turns of one text, the customer's message that is judged last."""

Moving = Literal["sentiment", "frustration", "urgency", "boil_over"]
LEVELS = ("frustration", "urgency")

_SLOT = re.compile(r"\{(\w+)\}")


class SuiteInvalid(ValueError):
    """A file of cases that cannot be used; the message names file and case."""


@dataclass(frozen=True)
class Reading:
    """What a model says of one text: its sentiment, its levels, expected values by head, and the signals it gives."""

    sentiment: str
    levels: Mapping[str, int]
    expected: Mapping[str, float]
    signals: frozenset[str]

    def __str__(self) -> str:
        numbers = ", ".join(f"{head} {value:.2f}" for head, value in self.expected.items())
        return f"{self.sentiment}; {numbers}; {', '.join(sorted(self.signals)) or 'no signal'}"


Readings: TypeAlias = Mapping[Texts, Reading]


def _as_turns(value: object) -> object:
    if isinstance(value, str):
        return [{"role": "customer", "text": value}]
    if isinstance(value, list):
        if not all(isinstance(turn, dict) and len(turn) == 1 for turn in value):
            raise ValueError("a turn is `role: text`")
        return [{"role": role, "text": text} for turn in value for role, text in turn.items()]
    return value


def _customer_last(turns: Texts) -> Texts:
    if not turns or turns[-1].role != "customer":
        raise ValueError("the last turn must be the customer's")
    return turns


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Says = Annotated[Texts, BeforeValidator(_as_turns), AfterValidator(_customer_last)]


class Level(Config):
    """What an ordinal head must be read as."""

    exactly: int | None = Field(default=None, ge=0, le=3)
    at_least: int | None = Field(default=None, ge=0, le=3)
    at_most: int | None = Field(default=None, ge=0, le=3)

    @model_validator(mode="after")
    def _asks_something(self) -> Level:
        if not self.model_fields_set:
            raise ValueError("say exactly, at_least or at_most")
        return self

    def holds(self, level: int) -> bool:
        """Whether a level is as wanted."""
        return (
            (self.exactly is None or level == self.exactly)
            and (self.at_least is None or level >= self.at_least)
            and (self.at_most is None or level <= self.at_most)
        )


class Signals(Config):
    """Signals that must be given, and such as must not."""

    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _asks_something(self) -> Signals:
        if not self.has and not self.lacks:
            raise ValueError("say has or lacks")
        return self


class Minimum(Config):
    """A text and what must hold of it."""

    says: Says
    sentiment: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    frustration: Level | None = None
    urgency: Level | None = None
    signals: Signals | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Minimum:
        if not (self.sentiment or self.frustration or self.urgency or self.signals):
            raise ValueError("nothing is expected of the text")
        return self

    def texts(self) -> tuple[Texts, ...]:
        """The one text."""
        return (self.says,)

    def check(self, vocabulary: Vocabulary) -> None:
        """Raise LabelError naming a sentiment or a signal that the vocabulary does not have."""
        for value in self.sentiment:
            vocabulary.check({"sentiment": value})
        if self.signals:
            vocabulary.check({"signals": self.signals.has + self.signals.lacks})

    def problems(self, readings: Readings) -> list[str]:
        """What does not hold, in words."""
        found = readings[self.says]
        problems = []
        if self.sentiment and found.sentiment not in self.sentiment:
            problems.append(f"sentiment is {found.sentiment}, not {' or '.join(self.sentiment)}")
        for head, wanted in (("frustration", self.frustration), ("urgency", self.urgency)):
            if wanted and not wanted.holds(found.levels[head]):
                asked = " and ".join(f"{how} {level}" for how, level in wanted.model_dump(exclude_none=True).items())
                problems.append(f"{head} is {found.levels[head]}, not {asked}")
        if self.signals:
            problems += [f"{name} is missing" for name in self.signals.has if name not in found.signals]
            problems += [f"{name} is given" for name in self.signals.lacks if name in found.signals]
        return problems


class Invariance(Config):
    """Texts that must be read alike: a base and variants, or a template with one slot."""

    base: Says | None = None
    variants: tuple[Says, ...] = ()
    template: str | None = None
    within: dict[Moving, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> Invariance:
        if (self.template is None) != (self.base is not None and bool(self.variants)):
            raise ValueError("give base and variants, or template alone")
        return self

    def filled(self, slots: Mapping[str, tuple[str, ...]], within: Mapping[Moving, float]) -> Invariance:
        """The case with its template spelled out and the file's `within` where it has none. Raises ValueError."""
        given = self.model_copy(update={"within": self.within or dict(within)})
        if not given.within:
            raise ValueError("neither the case nor the file says within")
        if self.template is None:
            return given
        names = set(_SLOT.findall(self.template))
        if len(names) != 1 or not names <= set(slots):
            raise ValueError(f"a template has one slot of the file ({', '.join(slots) or 'which has none'})")
        slot = names.pop()
        base, *variants = (_customer_says(self.template.replace(f"{{{slot}}}", filling)) for filling in slots[slot])
        return given.model_copy(update={"base": base, "variants": tuple(variants)})

    def texts(self) -> tuple[Texts, ...]:
        """The base and its variants."""
        return ((self.base,) if self.base else ()) + self.variants

    def problems(self, readings: Readings) -> list[str]:
        """How far a head spreads over the texts, where that is too far, and signals that only some of them have."""
        found = [readings[text] for text in self.texts()]
        problems = []
        for head, within in self.within.items():
            values = [reading.expected[head] for reading in found]
            if max(values) - min(values) > within:
                problems.append(f"{head} goes from {min(values):.2f} to {max(values):.2f}, at most {within} apart")
        signals = [reading.signals for reading in found]
        some = sorted(frozenset().union(*signals) - signals[0].intersection(*signals))
        return problems + [f"{name} is given to some" for name in some]


class Move(Config):
    """How a head's expected value must change."""

    rises_by: float | None = Field(default=None, gt=0)
    falls_by: float | None = Field(default=None, gt=0)
    rises_at_most: float | None = Field(default=None, ge=0)
    falls_at_most: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _asks_something(self) -> Move:
        if not self.model_fields_set:
            raise ValueError("say rises_by, falls_by, rises_at_most or falls_at_most")
        return self

    def holds(self, change: float) -> bool:
        """Whether a change is as wanted."""
        return (
            (self.rises_by is None or change >= self.rises_by)
            and (self.falls_by is None or -change >= self.falls_by)
            and (self.rises_at_most is None or change <= self.rises_at_most)
            and (self.falls_at_most is None or -change <= self.falls_at_most)
        )


class Direction(Config):
    """Two texts, and how heads must change from the one to the other."""

    before: Says = Field(alias="from")
    after: Says = Field(alias="to")
    sentiment: Move | None = None
    frustration: Move | None = None
    urgency: Move | None = None
    boil_over: Move | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Direction:
        if not self.moves():
            raise ValueError("no head is said to move")
        return self

    def moves(self) -> dict[str, Move]:
        """The heads of which something is wanted."""
        given = {
            "sentiment": self.sentiment,
            "frustration": self.frustration,
            "urgency": self.urgency,
            "boil_over": self.boil_over,
        }
        return {head: move for head, move in given.items() if move}

    def texts(self) -> tuple[Texts, ...]:
        """Both texts."""
        return (self.before, self.after)

    def problems(self, readings: Readings) -> list[str]:
        """Which heads did not move as wanted."""
        before, after = (readings[text].expected for text in self.texts())
        return [
            f"{head} goes from {before[head]:.2f} to {after[head]:.2f}, not "
            + " and ".join(f"{how} {amount}" for how, amount in move.model_dump(exclude_none=True).items())
            for head, move in self.moves().items()
            if not move.holds(after[head] - before[head])
        ]


class Expectation(Protocol):
    """What every kind of case can do."""

    def texts(self) -> tuple[Texts, ...]:
        """The texts that must be read."""

    def problems(self, readings: Readings) -> list[str]:
        """What does not hold, in words."""


class FamilyFile(Config):
    """A file of the suite."""

    family: str
    about: str
    slots: dict[str, Annotated[tuple[str, ...], Field(min_length=2)]] = Field(default_factory=dict)
    within: dict[Moving, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    minimum: tuple[Minimum, ...] = ()
    invariance: tuple[Invariance, ...] = ()
    direction: tuple[Direction, ...] = ()


@dataclass(frozen=True)
class Case:
    """One case of a family; its name is kind and number, as counted in the file."""

    family: str
    name: str
    expectation: Expectation


def load_suite(folder: Path, vocabulary: Vocabulary) -> list[Case]:
    """Every case of a folder, family by family. Raises SuiteInvalid naming file and case."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise SuiteInvalid(f"{folder}: no *.yaml in it")
    return [case for path in files for case in read_family(path, vocabulary)]


def read_family(path: Path, vocabulary: Vocabulary) -> list[Case]:
    """The cases of one file. Raises SuiteInvalid naming file and case."""
    try:
        given = FamilyFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise SuiteInvalid(f"{path.name}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise SuiteInvalid(f"{path.name}: {_place(problem['loc'])}: {problem['msg']}") from None
    if given.family != path.stem:
        raise SuiteInvalid(f"{path.name}: family: {given.family} is not the file's name")
    return list(_cases(given, path.name, vocabulary))


def _cases(given: FamilyFile, file: str, vocabulary: Vocabulary) -> Iterator[Case]:
    kinds: dict[str, tuple[Minimum | Invariance | Direction, ...]] = {
        "minimum": given.minimum,
        "invariance": given.invariance,
        "direction": given.direction,
    }
    for kind, cases in kinds.items():
        for number, case in enumerate(cases, 1):
            try:
                expectation = _ready(case, given, vocabulary)
            except ValueError as error:
                raise SuiteInvalid(f"{file}: {kind} {number}: {error}") from None
            yield Case(given.family, f"{kind} {number}", expectation)


def _ready(case: Minimum | Invariance | Direction, given: FamilyFile, vocabulary: Vocabulary) -> Expectation:
    if isinstance(case, Invariance):
        return case.filled(given.slots, given.within)
    if isinstance(case, Minimum):
        case.check(vocabulary)
    return case


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in a file a problem lies, cases counted from 1."""
    if len(loc) > 1 and isinstance(loc[1], int):
        return ": ".join([f"{loc[0]} {loc[1] + 1}", *([".".join(map(str, loc[2:]))] if loc[2:] else [])])
    return ".".join(map(str, loc)) or "file"


def _customer_says(text: str) -> Texts:
    return (Turn(role="customer", text=text),)
