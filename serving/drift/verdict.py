"""What to do about drift, in words: nothing, look at something, or retrain, each with its reasons.

Text that moved alone, or scores that moved alone, are something to look at: other products, other customers, an outage.
Both together mean that the model judges what it was not taught.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from serving.drift.config import DriftConfig
from serving.drift.shapes import Against, Feature, Told, Verdict

WORDED = {
    "language": "the languages",
    "characters": "the length in characters",
    "tokens": "the length in tokens",
    "vocabulary": "the words",
    "novelty": "the share of words that training never saw",
    "sentiment": "sentiment",
    "frustration": "frustration",
    "urgency": "urgency",
    "satisfaction": "satisfaction",
    "boil_over": "the boil-over forecast",
    "signals": "the signals",
    "priority": "priority",
    "abstention": "the share that is not judged",
}
TAUGHT = ("language", "vocabulary", "novelty")  # what a model must have been taught to judge it
SIDES: Mapping[Against, str] = {"training": "the training data", "before": "the window before"}


def judged(
    features: Sequence[Feature],
    classifiers: Sequence[Told],
    not_judged: Mapping[str, float],
    others: int,
    config: DriftConfig,
) -> Verdict:
    """What to do. `not_judged` is the share of messages by reason, `others` counts answers of other models."""
    retrain = list(_retrain(features, classifiers, not_judged, config))
    look = list(_look(features, classifiers))
    if others:
        look.append(f"{others} answers are other models': their scores were left out")
    if retrain:
        return Verdict(says="retrain", reasons=(*retrain, *look))
    moved = any(one.against_training.moved or one.against_before.moved for one in features)
    if moved or any(one.apart for one in classifiers):
        return Verdict(says="look", reasons=tuple(look))
    return Verdict(says="nothing", reasons=("live messages look as those of training did", *look))


def too_few(messages: int, conversations: int, config: DriftConfig) -> Verdict:
    """The verdict where nothing can be said."""
    found = f"{messages} messages of {conversations} conversations; "
    needed = f"at least {config.least_messages} of {config.least_conversations} are needed"
    return Verdict(says="too_few", reasons=(found + needed,))


def _retrain(
    features: Sequence[Feature], classifiers: Sequence[Told], not_judged: Mapping[str, float], config: DriftConfig
) -> Iterator[str]:
    moved = {one.name: one for one in features if one.against_training.moved}
    text = [name for name in TAUGHT if name in moved and moved[name].against_training.level == "much"]
    scores = [name for name, one in moved.items() if one.kind != "text"]
    if text and scores:
        yield f"{_listed(text)} moved far from {SIDES['training']}, and {_listed(scores)} with it"
    apart = next((one for one in classifiers if one.against == "training" and one.apart), None)
    if apart and text:
        told = f"a classifier tells live messages from those of {SIDES['training']} (AUC {apart.auc:.2f})"
        yield f"{told}, and {_listed(text)} moved"
    foreign = not_judged.get("language", 0.0)
    if foreign >= config.foreign and "abstention" in moved:
        yield f"{foreign:.0%} of the messages are in a language that the model was not validated on"


def _look(features: Sequence[Feature], classifiers: Sequence[Told]) -> Iterator[str]:
    for against, side in SIDES.items():
        for level, how in (("much", "far "), ("some", "")):
            names = [one.name for one in features if _against(one, against) == level]
            if names:
                yield f"look at {_listed(names)}: moved {how}from {side}"
    for one in classifiers:
        if one.apart:
            yield f"look at the text: a classifier tells it from that of {SIDES[one.against]} (AUC {one.auc:.2f})"


def _against(feature: Feature, against: Against) -> str:
    return (feature.against_training if against == "training" else feature.against_before).level


def _listed(names: Sequence[str]) -> str:
    words = [WORDED[name] for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
