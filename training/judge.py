"""How a bundle does on labelled corpora of other people: real text that is not the project's own.

    python -m training.judge DATA [--model models/current] [--source airline_tweets …]

Prints one figure a line with its 95 % interval from resampling conversations. Reads labels, never trains on them;
a bundle of the `public` profile has seen part of these corpora, so only its held-out rows mean anything here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.bundle import Bundle, load_bundle
from pipeline.conversation import Conversation
from pipeline.encode import Input, read_turn
from pipeline.heads import Floats, choose
from pipeline.scores import Measure, accuracy, flags_f1, quadratic_kappa, with_interval
from pipeline.sources import SOURCES, read_sources
from pipeline.stage import CURRENT, progress
from pipeline.vocabulary import Labels, Vocabulary
from training.measures import THREE, summed

BOOTSTRAP, SEED = 1000, 17


@dataclass(frozen=True)
class Case:
    """One labelled customer turn of a corpus, with the number of its conversation."""

    conversation: int
    given: Input
    labels: Labels


@dataclass(frozen=True)
class Figure:
    """A measured figure: over which corpus and head, which measure, on how many turns."""

    source: str
    what: str
    turns: int
    value: float
    low: float
    high: float


def judge(bundle: Bundle, conversations: Sequence[Conversation], source: str) -> Iterator[Figure]:
    """Every figure that the corpus's labels allow."""
    cases = list(labelled_cases(conversations, bundle))
    chances = bundle.predictor.predict([case.given for case in progress(cases, f"scoring {source}")])
    vocabulary = bundle.card.labels
    for head in vocabulary.heads:
        rows = [i for i, case in enumerate(cases) if head in case.labels]
        if rows:
            measure_name, measure = compare(head, [cases[i].labels for i in rows], chances[rows], vocabulary)
            yield figure(source, f"{head} {measure_name}", measure, [cases[i].conversation for i in rows])
    rows = [i for i, case in enumerate(cases) if "airline_sentiment" in case.labels]
    if rows:
        measure = three_way([cases[i].labels for i in rows], chances[rows], vocabulary)
        yield figure(source, "sentiment three-way accuracy", measure, [cases[i].conversation for i in rows])


def labelled_cases(conversations: Sequence[Conversation], bundle: Bundle) -> Iterator[Case]:
    """Labelled customer turns that have text left after cleaning."""
    for number, conversation in enumerate(conversations):
        for turn in conversation.customer_turns():
            labels = conversation.turns[turn].labels
            given = read_turn(conversation, turn, bundle.card.encoding) if labels else None
            if labels and given and given.message.text:
                yield Case(number, given, labels)


def compare(head: str, labels: Sequence[Labels], chances: Floats, vocabulary: Vocabulary) -> tuple[str, Measure]:
    """The measure that suits a head: quadratic kappa for ordered values, accuracy or micro-F1 for others."""
    spec, where = vocabulary.heads[head], vocabulary.slices()[head]
    truth = np.array([spec.target(label[head]) for label in labels])
    if not spec.exclusive:
        given = chances[:, where] >= 0.5
        return "micro-F1 at 0.5", lambda rows: flags_f1(truth[rows], given[rows])
    values, chosen = truth.argmax(axis=1), choose(chances[:, where], spec)
    if spec.auxiliary:
        return "accuracy", lambda rows: accuracy(values[rows], chosen[rows])
    return "quadratic kappa", lambda rows: quadratic_kappa(values[rows], chosen[rows])


def three_way(labels: Sequence[Labels], chances: Floats, vocabulary: Vocabulary) -> Measure:
    """Accuracy of five-level sentiment, summed to three, against the airline corpus's crowd."""
    five = chances[:, vocabulary.slices()["sentiment"]]
    chosen = summed(five, THREE).argmax(axis=1)
    truth = np.array([("negative", "neutral", "positive").index(str(label["airline_sentiment"])) for label in labels])
    return lambda rows: accuracy(truth[rows], chosen[rows])


def figure(source: str, what: str, measure: Measure, conversations: Sequence[int]) -> Figure:
    """A measure with its interval."""
    found = with_interval(measure, np.array(conversations), BOOTSTRAP, SEED)
    return Figure(source, what, len(conversations), found["value"], found["low"], found["high"])


def table(figures: Sequence[Figure]) -> Table:
    """The figures as they are shown."""
    shown = Table("corpus", "figure", "turns", "value", "95 % interval")
    for one in figures:
        shown.add_row(one.source, one.what, f"{one.turns:,}", f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}")
    return shown


def main() -> None:
    """Judge a bundle on the corpora of a folder."""
    parser = argparse.ArgumentParser(description="How a bundle does on labelled corpora of other people.")
    parser.add_argument("data", type=Path, help="folder of the corpora")
    parser.add_argument("--model", type=Path, default=CURRENT, help="folder of the bundle")
    parser.add_argument(
        "--source", nargs="*", default=[n for n, s in SOURCES.items() if s.files], choices=list(SOURCES)
    )
    given = parser.parse_args()
    bundle = load_bundle(given.model, threads=2)
    figures = [f for name in given.source for f in judge(bundle, list(read_sources([name], given.data)), name)]
    Console(width=110).print(table(figures))


if __name__ == "__main__":
    main()
