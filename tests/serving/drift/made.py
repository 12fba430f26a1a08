"""Messages as drift looks at them, drawn at random: conversations that are alike within, and kinds of change."""

from __future__ import annotations

import numpy as np

from pipeline.heads import Floats
from pipeline.reference import Reference, Seen, describe
from pipeline.vocabulary import load_vocabulary
from serving.drift.live import Sighted
from serving.drift.measure import Made
from serving.policy import load_policy

VOCABULARY = load_vocabulary()
POLICY = load_policy(VOCABULARY)
BUNDLE = "sha256:made"
WORDS = 3_000
USED = 1 / np.arange(5, WORDS + 5)  # how often a word comes, the commonest first


def talks(
    seed: int,
    count: int = 200,
    *,
    languages: dict[str, float] | None = None,
    longer: float = 1.0,
    shift: int = 0,
    anger: float = 0.0,
    refused: float = 0.01,
) -> list[Seen]:
    """Conversations of one to six messages. `shift` exchanges words, `anger` raises what the model hears."""
    rng = np.random.default_rng(seed)
    shares = languages or {"en": 0.95, "unknown": 0.05}
    chance = np.roll(USED, shift) / USED.sum()
    turns = rng.integers(1, 7, count)
    talk = np.repeat(np.arange(count), turns)
    moods, lengths = rng.normal(anger, size=count), longer * rng.gamma(4.0, 5.0, count)
    sizes = 1 + rng.poisson(lengths[talk])
    words = np.split(rng.choice(WORDS, sizes.sum(), p=chance), np.cumsum(sizes)[:-1])
    spoken = rng.choice(list(shares), len(talk), p=list(shares.values()))
    abstains = rng.random(len(talk)) < refused
    return [
        Seen(
            conversation=f"{seed}-{talk[row]}",
            language=str(spoken[row]),
            characters=int(5 * sizes[row]),
            tokens=tuple(int(token) for token in words[row]),
            outputs=None if abstains[row] else outputs(rng, moods[talk[row]]),
            abstained="language" if abstains[row] else None,
        )
        for row in range(len(talk))
    ]


def outputs(rng: np.random.Generator, mood: float) -> Floats:
    """Probabilities that get worse with the mood."""
    chances = rng.uniform(0, 0.1, VOCABULARY.size)
    where = VOCABULARY.slices()
    for name, worse in (("sentiment", -1), ("frustration", 1), ("urgency", 1), ("satisfaction", -1)):
        scale = np.linspace(-1, 1, len(VOCABULARY.heads[name].values))
        weights = np.exp(worse * scale * (2 * mood + rng.normal()) - 2 * (scale + worse * 0.5) ** 2)
        chances[where[name]] = weights / weights.sum()
    chances[where["boil_over"]] = 1 / (1 + np.exp(2 - mood - rng.normal(0, 0.3)))
    return chances


def reference(seed: int = 1_000, count: int = 600) -> Reference:
    """What a model was made for that was taught by such conversations."""
    trained_on = [one.tokens for one in talks(seed + 1, 1_500)]
    return describe(talks(seed, count), trained_on, VOCABULARY)


def made(of: Reference) -> Made:
    return Made(of, VOCABULARY, POLICY, BUNDLE, "7")


def sighted(seen: list[Seen], **models: int) -> Sighted:
    return Sighted(seen, models or {BUNDLE: len(seen)})
