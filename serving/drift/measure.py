"""Live messages beside those of training and of the window before: every difference, and what to make of it.

    measure(live, before, made, config, now)

Knows nothing of where messages come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np

from pipeline.bundle import Card
from pipeline.errors import InputError
from pipeline.heads import Floats
from pipeline.reference import (
    KINDS,
    NOVELTY,
    Histogram,
    Reference,
    Seen,
    counted,
    histogram_of,
    in_steps,
    quantile_edges,
    vectors,
)
from pipeline.vocabulary import Vocabulary
from serving.drift.classifier import tell_apart
from serving.drift.config import DriftConfig
from serving.drift.live import Sighted, Span
from serving.drift.psi import index
from serving.drift.shapes import Against, Drift, Feature, Level, Moved, Told, Window
from serving.drift.verdict import judged, too_few
from serving.policy import Policy

LANGUAGES_SHOWN = 8
COMPARISONS = 2 * len(KINDS)  # each may seem drift by chance
P_AT_MOST = 0.01  # of a classifier that counts
MOST_TOLD = 500  # messages a side that a classifier is shown


class NoReference(InputError):
    """The bundle does not say what its training data looked like."""


@dataclass(frozen=True)
class Made:
    """The model that is asked about: what it was made for, its labels, and the policy that turns scores to priority."""

    reference: Reference
    vocabulary: Vocabulary
    policy: Policy
    bundle: str
    version: str | None = None


def made_for(card: Card, policy: Policy, bundle: str, version: str | None = None) -> Made:
    """What the model of a card was made for. Raises NoReference."""
    if card.reference is None:
        raise NoReference("the bundle says nothing of what its training data looked like; export it again")
    return Made(card.reference, card.labels, policy, bundle, version)


def measure(
    live: Sighted, before: Sighted, made: Made, config: DriftConfig, now: datetime, span: Span | None = None
) -> Drift:
    """Compare. The same messages give the same figures."""
    seen, reference = live.seen, made.reference
    features = tuple(_features(seen, before.seen, made, config))
    classifiers = tuple(_classifiers(seen, before.seen, reference, config))
    not_judged = _shares((one.abstained for one in seen if one.abstained), len(seen))
    window = _window(seen, span)
    others = sum(count for bundle, count in live.models.items() if bundle != made.bundle)
    if _enough(seen, config):
        verdict = judged(features, classifiers, not_judged, others, config)
    else:
        verdict = too_few(window.messages, window.conversations, config)
    return Drift(
        checked_at=now,
        version=made.version,
        bundle=made.bundle,
        window=window,
        before=_window(before.seen, span.before() if span else None),
        reference=Window(messages=reference.messages, conversations=reference.conversations),
        features=features,
        classifiers=classifiers,
        languages=_shares((one.language for one in seen), len(seen), LANGUAGES_SHOWN),
        not_judged=not_judged,
        models=dict(live.models),
        verdict=verdict,
    )


def _features(live: Sequence[Seen], before: Sequence[Seen], made: Made, config: DriftConfig) -> Iterator[Feature]:
    training = dict(made.reference.features)
    now, then = (counted(seen, made.reference, made.vocabulary) for seen in (live, before))
    training["priority"], now["priority"], then["priority"] = _priorities(live, before, made)
    for name, told in training.items():
        if name not in now:
            continue
        yield Feature(
            name=name,
            kind=KINDS[name],
            messages=now[name].messages,
            bins=_bins(told),
            training=_told(told),
            live=_told(now[name]),
            before=_told(then[name]),
            against_training=moved(now[name], told, config),
            against_before=moved(now[name], then[name], config),
        )


def moved(live: Histogram, other: Histogram, config: DriftConfig) -> Moved:
    """How far a feature moved; with too few messages on a side nothing is claimed."""
    if min(live.messages, other.messages) < config.least_messages:
        return Moved(level="too_few", psi=0.0, excess=0.0, ceiling=0.0)
    found = index(live, other, config.chance / COMPARISONS)
    level: Level = "steady"
    if found.beyond_chance and found.excess >= config.some:
        level = "much" if found.excess >= config.much else "some"
    return Moved(level=level, psi=round(found.value, 4), excess=round(found.excess, 4), ceiling=round(found.ceiling, 4))


def _priorities(live: Sequence[Seen], before: Sequence[Seen], made: Made) -> tuple[Histogram, Histogram, Histogram]:
    """Priorities in training, now and before, all by the policy in force and at no wait."""
    sample = made.reference.sample
    taught = [float(made.policy.decide(chances).score) for chances in sample.chances()]
    edges = quantile_edges(taught)
    training = histogram_of(taught, [str(number) for number in range(len(taught))], edges)
    worth = training.model_copy(update={"effective": min(training.effective, sample.effective)})
    return worth, _prioritised(live, made.policy, edges), _prioritised(before, made.policy, edges)


def _prioritised(seen: Sequence[Seen], policy: Policy, edges: tuple[float, ...]) -> Histogram:
    scores = [None if one.outputs is None else float(policy.decide(in_steps(one.outputs)).score) for one in seen]
    return histogram_of(scores, [one.conversation for one in seen], edges)


def _classifiers(
    live: Sequence[Seen], before: Sequence[Seen], reference: Reference, config: DriftConfig
) -> Iterator[Told]:
    now, then = _one_each(live), _one_each(before)
    there = {one.conversation for one in now}
    past = vectors([one for one in then if one.conversation not in there])
    sides: tuple[tuple[Against, Floats, float], ...] = (
        ("training", reference.sample.vectors(), config.auc_training),
        ("before", past, config.auc_before),
    )
    for against, rows, enough in sides:
        if min(len(rows), len(now)) < config.least_conversations:
            continue
        found = tell_apart(vectors(now), rows, config.permutations, MOST_TOLD)
        apart = found.auc >= enough and found.p <= P_AT_MOST
        yield Told(against=against, messages=found.rows, auc=round(found.auc, 4), p=round(found.p, 4), apart=apart)


def _one_each(seen: Sequence[Seen]) -> list[Seen]:
    """One message of each conversation, any of them."""
    order = np.random.default_rng(17).permutation(len(seen))
    return list({seen[place].conversation: seen[place] for place in order}.values())


def _enough(seen: Sequence[Seen], config: DriftConfig) -> bool:
    return len(seen) >= config.least_messages and _talks(seen) >= config.least_conversations


def _talks(seen: Sequence[Seen]) -> int:
    return len({one.conversation for one in seen})


def _window(seen: Sequence[Seen], span: Span | None) -> Window:
    begins, ends = (span.begins, span.ends) if span else (None, None)
    return Window(begins=begins, ends=ends, messages=len(seen), conversations=_talks(seen))


def _shares(values: Iterable[str], whole: int, most: int | None = None) -> dict[str, float]:
    return {name: round(count / whole, 4) for name, count in Counter(values).most_common(most)}


def _told(counted: Histogram) -> tuple[float, ...]:
    return tuple(round(float(share), 4) for share in counted.shares()) if counted.edges or counted.names else ()


def _bins(counted: Histogram) -> tuple[str, ...]:
    """What the bins are called."""
    if not counted.edges:
        return counted.names
    edges = [f"{edge:.3g}" if abs(edge) > NOVELTY[0] else "0" for edge in counted.edges]
    between = (f"{low} to {high}" for low, high in pairwise(edges))
    return ("0" if counted.edges == NOVELTY else f"below {edges[0]}", *between, f"{edges[-1]} and more")
