"""The label vocabulary: which heads exist, their values in order, and where they stand in the model's output.

Read from `configs/labels.yaml`; everything that names a label asks this module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["categorical", "ordinal", "multilabel", "probability"]

LABELS_FILE = Path(__file__).parent.parent / "configs" / "labels.yaml"


class AnyOf(BaseModel):
    """A coarse label: one of these values holds, which one is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    any_of: tuple[str, ...] = Field(min_length=1)


LabelValue: TypeAlias = bool | int | str | tuple[str, ...] | AnyOf
"""A value name or number, the set of flags given, a yes or no, or a coarse label."""

Labels: TypeAlias = dict[str, LabelValue]


class LabelError(ValueError):
    """A label outside the vocabulary."""


class Head(BaseModel):
    """One head: its kind and its values in the order of its outputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    values: tuple[str, ...] = Field(min_length=1)
    numbers: tuple[float, ...] = ()
    wording: str
    auxiliary: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Head:
        if len(set(self.values)) != len(self.values):
            raise ValueError("values repeat")
        if self.exclusive and len(self.numbers) != len(self.values):
            raise ValueError("a categorical or ordinal head needs one number per value")
        if self.kind == "probability" and len(self.values) != 1:
            raise ValueError("a probability head has exactly one value")
        return self

    @property
    def exclusive(self) -> bool:
        """Whether exactly one value holds (softmax), rather than each on its own (sigmoid)."""
        return self.kind in ("categorical", "ordinal")

    def target(self, label: LabelValue) -> list[float]:
        """The label as one weight per value: 1.0 for every value that may hold, 0.0 elsewhere.

        Raises LabelError if the label is not of this head.
        """
        if self.kind == "probability":
            if not isinstance(label, bool):
                raise LabelError(f"{label!r} is not true or false")
            return [float(label)]
        allowed = {self._index(value) for value in self._names(label)}
        return [float(index in allowed) for index in range(len(self.values))]

    def _names(self, label: LabelValue) -> Sequence[str | int]:
        if isinstance(label, AnyOf):
            names: Sequence[str | int] = label.any_of
        elif isinstance(label, tuple):
            names = label
        elif isinstance(label, bool):
            raise LabelError(f"{label!r} is not one of {', '.join(self.values)}")
        else:
            names = (label,)
        if self.exclusive == (isinstance(label, tuple)):
            raise LabelError(f"{label!r} does not fit a {self.kind} head")
        return names

    def _index(self, value: str | int) -> int:
        if isinstance(value, str) and value in self.values:
            return self.values.index(value)
        if isinstance(value, int) and self.kind == "ordinal" and value in self.numbers:
            return self.numbers.index(value)
        raise LabelError(f"{value!r} is not one of {', '.join(self.values)}")


class Hot(BaseModel):
    """When a customer turn counts as hot, and how far ahead boil-over looks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frustration: int
    signals: tuple[str, ...]
    horizon: int = Field(gt=0)

    def applies(self, labels: Mapping[str, LabelValue]) -> bool | None:
        """Whether these labels make a turn hot; None where neither label is known."""
        frustration, signals = labels.get("frustration"), labels.get("signals")
        if not isinstance(frustration, int) and not isinstance(signals, tuple):
            return None
        angry = isinstance(frustration, int) and frustration >= self.frustration
        flagged = isinstance(signals, tuple) and bool(set(signals) & set(self.signals))
        return angry or flagged


class Vocabulary(BaseModel):
    """All heads, in output order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heads: dict[str, Head]
    hot: Hot

    @property
    def size(self) -> int:
        """Number of model outputs, all heads together."""
        return sum(len(head.values) for head in self.heads.values())

    def slices(self) -> dict[str, slice]:
        """Where each head's outputs stand in the model's output vector."""
        result, start = {}, 0
        for name, head in self.heads.items():
            result[name] = slice(start, start + len(head.values))
            start += len(head.values)
        return result

    def outputs(self, names: Collection[str]) -> list[int]:
        """Positions of these heads' outputs in the model's output vector."""
        return [i for name, where in self.slices().items() if name in names for i in range(where.start, where.stop)]

    def only(self, names: Sequence[str]) -> Vocabulary:
        """The vocabulary restricted to these heads, order kept."""
        return Vocabulary(heads={n: h for n, h in self.heads.items() if n in names}, hot=self.hot)

    def check(self, labels: Mapping[str, LabelValue]) -> None:
        """Raise LabelError naming the head whose label is outside the vocabulary."""
        for name, label in labels.items():
            if name not in self.heads:
                raise LabelError(f"{name}: no such head (known: {', '.join(self.heads)})")
            try:
                self.heads[name].target(label)
            except LabelError as error:
                raise LabelError(f"{name}: {error}") from None


def load_vocabulary(path: Path = LABELS_FILE) -> Vocabulary:
    """The vocabulary from a labels file. Raises pydantic's ValidationError if it is malformed."""
    return Vocabulary.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
