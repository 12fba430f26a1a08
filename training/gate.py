"""Is the challenger as good as the champion? Both score the same frozen rows, and every figure is compared in pairs.

Test sets are judged strictly: each corpus's test split, the newest held-back reviews, the behaviour suite as a whole.
There the challenger must show that it is not worse by more than the tolerance: a figure counts as worse where it fell
and the lower end of the 95 % interval of its difference lies below minus the tolerance. Slices and families are many
and small, and one of many is worse by luck; there the challenger must be shown to be worse: the difference lies below
minus the tolerance, and is so far below nothing that all slices together would rarely show it by luck (Bonferroni).
Rows too few for a set are judged as slices are; rows too few for a slice are not judged at all.

Knows nothing of the registry, and moves no alias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import Field

from pipeline.bundle import Bundle, Card
from pipeline.config import Config
from pipeline.conversation import Conversation
from pipeline.encode import read_turn
from pipeline.errors import InputError
from pipeline.heads import Calibration, Floats
from pipeline.sources import reviews
from pipeline.stage import progress
from pipeline.vocabulary import Vocabulary
from training.behaviour import read_texts
from training.bootstrap import Measures, Resampling, Weights
from training.evaluate import judged_heads, turns_of
from training.labelled import labelled
from training.measures import Bools, Judged, exclusive_measures, flag_measures, ranking_measures
from training.paired import Difference, paired
from training.slices import slices
from training.suite import Case

LESS_IS_BETTER = frozenset({"brier", "failure_rate"})
CHANCE = 0.025  # of calling any slice worse by luck, all slices together
LEADING = ("quadratic_kappa", "macro_f1")


class PromoteConfig(Resampling):
    """Bootstrap rounds, on slices fewer; sizes; and by how much a figure may fall.

    `tolerance` is by measure, or by head and measure, which goes before. Sizes count rows, `smallest_positives` the
    labels given among a flag head's rows, `newest_reviews` conversations, `smallest_family` cases.
    """

    slice_bootstrap: int
    newest_reviews: int = Field(ge=1)
    smallest_set: int
    smallest_slice: int
    smallest_positives: int
    smallest_family: int
    tolerance: dict[str, float]

    def tolerated(self, head: str, measure: str) -> float:
        """By how much a head's measure may fall."""
        return self.tolerance.get(f"{head} {measure}", self.tolerance[measure])


class VocabularyDiffers(InputError):
    """Champion and challenger, or the dataset, do not speak of the same labels; the message names the heads."""


class NothingToCompare(InputError):
    """No test rows, or rows whose conversations are not there."""


class Figure(Config):
    """One measure of one head on one set of rows: both models, the second minus the first with its 95 % interval.

    `judged` says whether it counts: `strictly`, `as a slice` or `no`.
    """

    where: str
    head: str
    measure: str
    rows: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    of_set: bool
    judged: str
    worse: bool

    @property
    def gain(self) -> float:
        """The difference, positive where the challenger is better."""
        return -self.difference if self.measure in LESS_IS_BETTER else self.difference

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.head} {self.measure} {self.champion:.3f} to {self.challenger:.3f}, difference "
            f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f}) on {self.rows} rows"
        )


@dataclass(frozen=True)
class Found:
    """A difference before it is judged. `positives` counts labels given, None where every row gives one.

    `of_set` tells test sets from slices.
    """

    where: str
    head: str
    measure: str
    rows: int
    positives: int | None
    difference: Difference
    of_set: bool

    def judged(self, config: PromoteConfig) -> str:
        """Whether it counts: `strictly`, `as a slice` or `no`."""
        if self.positives is not None and self.positives < config.smallest_positives:
            return "no"
        if self.of_set and self.rows >= config.smallest_set:
            return "strictly"
        smallest = config.smallest_family if self.measure == "failure_rate" else config.smallest_slice
        return "as a slice" if self.rows >= smallest else "no"


def common_vocabulary(before: Card, after: Card, dataset: Vocabulary, allow: bool) -> Vocabulary:
    """The heads that both bundles and the dataset have alike. Raises VocabularyDiffers, unless allowed, where one has
    heads that another lacks or has otherwise; and where the challenger lacks a head that serving answers with."""
    problems = [*_unlike("the challenger", after.labels, before.labels)]
    problems += [f"{name}: otherwise in configs/labels.yaml" for name in _otherwise(before.labels, dataset)]
    common = [n for n, h in before.labels.heads.items() if after.labels.heads.get(n) == h == dataset.heads.get(n)]
    lost = [n for n, h in dataset.heads.items() if not h.auxiliary and n not in after.labels.heads]
    if lost:
        raise VocabularyDiffers(f"the challenger has no head {', '.join(lost)}: it cannot serve")
    if problems and not allow:
        raise VocabularyDiffers(
            f"champion and challenger have other vocabularies ({'; '.join(problems)}); "
            "--allow-vocabulary compares the heads that both have"
        )
    if not common:
        raise VocabularyDiffers("champion and challenger have no head in common")
    return before.labels.only(common)


def _unlike(name: str, mine: Vocabulary, other: Vocabulary) -> Iterator[str]:
    for head in other.heads.keys() - mine.heads.keys():
        yield f"{head}: {name} does not have it"
    for head in mine.heads.keys() - other.heads.keys():
        yield f"{head}: {name} alone has it"
    for head in _otherwise(mine, other):
        yield f"{head}: other values or another kind"
    if mine.hot != other.hot:
        yield "hot: another rule"


def _otherwise(mine: Vocabulary, other: Vocabulary) -> list[str]:
    return [name for name, head in mine.heads.items() if name in other.heads and other.heads[name] != head]


def notes(before: Card, after: Card, data_hash: str) -> list[str]:
    """What a reader of the comparison should know of how the two bundles differ otherwise."""
    found = []
    if before.encoding != after.encoding:
        found.append("the two read messages by different encodings; each is measured by its own")
    if before.encoder != after.encoder:
        found.append(f"the encoder was {before.encoder} and is {after.encoder}")
    if before.languages != after.languages:
        found.append(f"validated languages were {', '.join(before.languages)} and are {', '.join(after.languages)}")
    if after.data_hash != data_hash:
        found.append("the challenger was trained on another version of the data than it is measured on")
    return found


@dataclass(frozen=True)
class Side:
    """One model on the test rows: each head's probabilities beside what holds, and the hot turns."""

    heads: dict[str, Judged]
    known: Mapping[str, Bools]
    hot: Floats
    is_hot: Bools
    hot_known: Bools
    groups: NDArray[np.intp]


def side(bundle: Bundle, rows: Dataset, talks: Mapping[str, Conversation], full: Vocabulary, kept: Vocabulary) -> Side:
    """Score the rows with a bundle, as serving would. `full` is the dataset's vocabulary, `kept` what is compared."""
    try:
        pairs = [(talks[name], turn) for name, turn in zip(rows["conversation"], rows["turn"], strict=True)]
    except KeyError as error:
        raise NothingToCompare(f"build/conversations.jsonl has no conversation {error}; run dvc repro") from None
    inputs = [read_turn(talk, turn, bundle.card.encoding) for talk, turn in progress(pairs, "reading test rows")]
    columns = bundle.card.labels.outputs(kept.heads)
    chances = bundle.predictor.predict(inputs)[:, columns]
    calibration = Calibration(**{k: tuple(np.array(v)[columns]) for k, v in bundle.card.calibration})
    here = labelled(rows, full, kept, chances)
    turns, known = turns_of(here, chances, rows)
    return Side(
        heads=judged_heads(here, chances, rows, calibration),
        known=here.known,
        hot=turns.chance,
        is_hot=turns.hot,
        hot_known=known,
        groups=np.unique(rows["conversation"], return_inverse=True)[1],
    )


def measures_of(judged: Judged) -> Measures:
    """What is compared of a head: its leading figures, and the Brier score of its probabilities (less is better)."""
    known = exclusive_measures(judged) if judged.head.exclusive else flag_measures(judged)
    distance = ((judged.chance - judged.target) ** 2).sum(axis=1)

    def measures(weights: Weights) -> dict[str, Floats]:
        found = dict(known(weights))
        if judged.head.exclusive:
            leading = next(name for name in LEADING if name in found)
            found = {leading: found[leading]}
        return found | {"brier": np.asarray(weights @ distance / weights.sum(axis=1))}

    return measures


def failure_measures(failed: NDArray[np.bool_]) -> Measures:
    """The share of cases that fail."""
    return lambda weights: {"failure_rate": np.asarray(weights @ failed.astype(float) / weights.sum(axis=1))}


def comparable(judged: Judged) -> Judged:
    """The rows that can be compared: exactly labelled ones; where a five-valued head has none, its three groups."""
    exact = judged.exact()
    coarse = judged.head.exclusive and not len(exact.chance) and len(judged.head.values) == 5
    return judged.in_three() if coarse else exact


def compare_rows(before: Side, after: Side, chosen: Bools, where: str, of_set: bool, config: Resampling) -> list[Found]:
    """Every figure of the chosen rows [rows]; on slices, of the heads that serve alone."""
    found = []
    for name, first in before.heads.items():
        if first.head.auxiliary and not of_set:
            continue
        mask = chosen[before.known[name]]
        one, two = (comparable(judged.among(mask)) for judged in (first, after.heads[name]))
        if len(one.chance):
            figures = paired(measures_of(one), measures_of(two), one.groups, config)
            given = None if one.head.exclusive else int((one.target > 0.5).sum())
            found += [Found(where, name, m, len(one.chance), given, d, of_set) for m, d in figures.items()]
    return found + compare_hot(before, after, chosen, where, of_set, config)


def compare_hot(before: Side, after: Side, chosen: Bools, where: str, of_set: bool, config: Resampling) -> list[Found]:
    """How well hot turns are ranked, in the chosen rows."""
    mask = chosen[before.hot_known]
    hot, groups = before.is_hot[mask], before.groups[before.hot_known][mask]
    if not hot.any():
        return []
    one, two = (ranking_measures(each.hot[mask], hot) for each in (before, after))
    difference = paired(one, two, groups, config)["average_precision"]
    return [Found(where, "hot", "average_precision", len(hot), int(hot.sum()), difference, of_set)]


def sets_of(rows: Dataset, newest: frozenset[str]) -> Iterator[tuple[str, Bools]]:
    """The test sets, by name: all corpora, each where there are several, and the newest reviews."""
    sources = np.array([str(name) for name in rows["source"]])
    corpora = sources != reviews.SOURCE.name
    names = np.unique(sources[corpora])
    yield "test split" if len(names) != 1 else f"test split, {names[0]}", corpora
    for name in names if len(names) > 1 else ():
        yield f"test split, {name}", sources == name
    yield "newest reviews", np.array([c in newest for c in rows["conversation"]]) & ~corpora


def newest_reviews(talks: Mapping[str, Conversation], held: Sequence[str], most: int) -> frozenset[str]:
    """Of the held-back reviews those that were reviewed last, at most so many."""
    mine = [name for name in dict.fromkeys(held) if talks[name].meta.get("source") == reviews.SOURCE.name]
    return frozenset(sorted(mine, key=lambda name: reviews.reviewed_at(talks[name]), reverse=True)[:most])


def compare_test(
    before: Side, after: Side, rows: Dataset, newest: frozenset[str], config: PromoteConfig
) -> list[Found]:
    """Every figure of every test set and of every slice of the corpora that has rows enough."""
    found = []
    for where, chosen in progress(list(sets_of(rows, newest)), "comparing test sets"):
        found += compare_rows(before, after, chosen, where, True, config)
    corpora = np.array([name != reviews.SOURCE.name for name in rows["source"]])
    rounds = Resampling(bootstrap=config.slice_bootstrap, seed=config.seed)
    for where, chosen in progress(list(slices(rows)), "comparing slices"):
        part = chosen & corpora
        if not where.startswith("source ") and (part != corpora).any():  # those are sets
            found += compare_rows(before, after, part, where, False, rounds)
    return found


def compare_behaviour(before: Bundle, after: Bundle, cases: Sequence[Case], config: PromoteConfig) -> list[Found]:
    """How often the cases of the suite fail, over all and family by family; cases are taken as independent."""
    texts = [text for case in cases for text in case.expectation.texts()]
    failed = []
    for bundle in (before, after):
        readings = read_texts(bundle.predictor, texts)
        failed.append(np.array([bool(case.expectation.problems(readings)) for case in cases]))
    families = np.array([case.family for case in cases])
    parts = {"behaviour suite": families == families}
    parts |= {f"behaviour {name}": families == name for name in dict.fromkeys(families.tolist())}
    first, second = failed
    return [compare_cases(where, first[chosen], second[chosen], config) for where, chosen in parts.items()]


def compare_cases(where: str, before: Bools, after: Bools, config: PromoteConfig) -> Found:
    """How often some cases fail, from who failed which [cases]."""
    figures = paired(failure_measures(before), failure_measures(after), np.arange(len(before)), config)
    difference = figures["failure_rate"]
    return Found(where, "cases", "failure_rate", len(before), None, difference, where == "behaviour suite")


def judge(found: Sequence[Found], config: PromoteConfig) -> list[Figure]:
    """Every figure with whether it counts, and whether it is worse than is tolerated."""
    loose = sum(one.judged(config) == "as a slice" for one in found)
    far = NormalDist().inv_cdf(1 - CHANCE / max(1, loose))
    return [figure(one, config, far) for one in found]


def figure(one: Found, config: PromoteConfig, far: float) -> Figure:
    """A difference judged; on a slice it must lie `far` standard errors below nothing."""
    judged, difference = one.judged(config), one.difference
    return Figure(
        where=one.where,
        head=one.head,
        measure=one.measure,
        rows=one.rows,
        champion=round(difference.before, 4),
        challenger=round(difference.after, 4),
        difference=round(difference.value, 4),
        low=round(difference.low, 4),
        high=round(difference.high, 4),
        of_set=one.of_set,
        judged=judged,
        worse=judged != "no" and is_worse(one, judged == "strictly", config, far),
    )


def is_worse(one: Found, strictly: bool, config: PromoteConfig, far: float) -> bool:
    """Whether a difference is worse than is tolerated; see the module's words on sets and slices."""
    less = one.measure in LESS_IS_BETTER
    gain = -one.difference.value if less else one.difference.value
    lowest = -one.difference.high if less else one.difference.low
    tolerated = config.tolerated(one.head, one.measure)
    if strictly:
        return gain < 0 and lowest < -tolerated
    return gain < -tolerated and gain + far * one.difference.error < 0


def compare(
    before: Bundle,
    after: Bundle,
    rows: Dataset,
    talks: Mapping[str, Conversation],
    vocabularies: tuple[Vocabulary, Vocabulary],
    cases: Sequence[Case],
    config: PromoteConfig,
) -> list[Figure]:
    """Everything that is compared. `vocabularies` are the dataset's and the one that is compared."""
    if not len(rows):
        raise NothingToCompare("the test split has no rows")
    first, second = (side(bundle, rows, talks, *vocabularies) for bundle in (before, after))
    newest = newest_reviews(talks, list(rows["conversation"]), config.newest_reviews)
    found = compare_test(first, second, rows, newest, config) + compare_behaviour(before, after, cases, config)
    return judge(found, config)
