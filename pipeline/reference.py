"""What messages look like, in counts: languages, lengths, vocabulary, scores, abstentions. No text, and no way back.

    describe(seen, ...)     training: the reference that travels in the bundle's card
    counted(seen, ...)      serving: live messages, cut and counted as the reference was

A message is counted by what it says itself; what came before it is left out. Messages of one conversation are alike, so
every count comes with the number of independent observations that it is worth (`effective`). Knows nothing of what a
difference means.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.config import Config
from pipeline.encode import Encoder, Input
from pipeline.heads import Floats
from pipeline.language import identify
from pipeline.vocabulary import Vocabulary

Counts = NDArray[np.int64]
Kind = Literal["text", "scores", "abstention"]

BINS = 10  # of a number, by quantiles of the reference
TOP_TOKENS = 200  # that are counted one by one
LANGUAGES = 12
SAMPLE = 500  # rows of each sample
BUCKETS = 256  # that token ids are hashed into
NOVELTY = (1e-9, 0.05, 0.1, 0.2)  # shares of a message's tokens that training never saw
FIRES_AT = 0.5  # of a signal
DIGITS = 4  # of a probability; many lie close together, and the last digit would part them
STEPS = 255  # of a probability in a sample
JUDGED = "judged"
NONE, OTHER, UNKNOWN = "none", "other", "unknown"
_SPREAD = 2_654_435_761  # Knuth's multiplicative hashing
_LEVELLED = ("sentiment", "frustration", "urgency", "satisfaction")

KINDS: Mapping[str, Kind] = {
    "language": "text",
    "characters": "text",
    "tokens": "text",
    "vocabulary": "text",
    "novelty": "text",
    **dict.fromkeys((*_LEVELLED, "boil_over", "signals", "priority"), "scores"),
    "abstention": "abstention",
}


@dataclass(frozen=True)
class Seen:
    """One message: its language's code, its size, its token ids, and what was said of it.

    `outputs` [outputs] are the model's probabilities, None where it did not judge or another model did.
    """

    conversation: str
    language: str
    characters: int
    tokens: tuple[int, ...]
    outputs: Floats | None
    abstained: str | None


def look(
    encoder: Encoder,
    conversations: Sequence[str],
    given: Sequence[Input],
    outputs: Sequence[Floats | None],
    abstained: Sequence[str | None],
) -> list[Seen]:
    """Messages as they are counted; the sequences go side by side. Probabilities are rounded as answers tell them."""
    told = [None if chances is None else np.round(chances, DIGITS) for chances in outputs]
    alone = encoder.encode_many([Input(one.message, ()) for one in given])
    return [
        Seen(name, _language(one.message.text), len(one.message.text), tuple(encoded.ids[1:-1]), chances, reason)
        for name, one, encoded, chances, reason in zip(conversations, given, alone, told, abstained, strict=True)
    ]


def _language(text: str) -> str:
    found = identify(text)
    return found.code if found else UNKNOWN


class Histogram(Config):
    """How often each bin came, and how many independent observations that is worth.

    `edges` lie between the bins of a number; `names` are those of a value, `other` taking what no other does. The
    vocabulary has neither: its bins are the reference's tokens, then the others that training saw, then new ones.
    """

    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    counts: tuple[int, ...]
    messages: int
    effective: float

    def shares(self) -> Floats:
        """The share of each bin; all zero where nothing was counted."""
        counts = np.array(self.counts, dtype=float)
        return np.asarray(counts / max(1.0, counts.sum()))


class Sample(Config):
    """Single messages as small numbers, packed: hashed tokens and sizes of some, the probabilities of others.

    Of the first there is one a conversation; of the second any, together worth `effective` independent rows.
    """

    texts: str
    outputs: str
    rows: int = Field(ge=0, description="of outputs")
    effective: float

    def vectors(self) -> Floats:
        """The texts as a classifier reads them [rows, features]."""
        found: list[Floats] = []
        packed = np.frombuffer(_unpacked(self.texts), dtype=np.uint8)
        at = 0
        while at < len(packed):
            size = int(packed[at])
            tokens, characters = packed[at + 1 : at + 5].view(np.uint16)
            found.append(_vector(packed[at + 5 : at + 5 + size], int(tokens), int(characters)))
            at += 5 + size
        return np.array(found).reshape(len(found), BUCKETS + 2)

    def chances(self) -> Floats:
        """The probabilities [rows, outputs], as `in_steps` gives them."""
        flat = np.frombuffer(_unpacked(self.outputs), dtype=np.uint8) / STEPS
        return np.asarray(flat.reshape(self.rows, -1) if self.rows else np.empty((0, 0)))


class Reference(Config):
    """What the model was made for: held-back messages of the training data, and the tokens that training saw."""

    messages: int
    conversations: int
    features: dict[str, Histogram]
    tokens: tuple[int, ...] = Field(description="the ids that are counted one by one")
    known: str = Field(description="a bit for every token id, set where training saw it; packed")
    sample: Sample

    def knows(self, size: int = 0) -> NDArray[np.bool_]:
        """Whether training saw each token id; at least `size` long."""
        bits = np.unpackbits(np.frombuffer(_unpacked(self.known), dtype=np.uint8)).astype(bool)
        return _widened(bits, size)


def describe(
    held_back: Sequence[Seen], trained_on: Iterable[Sequence[int]], vocabulary: Vocabulary, seed: int = 17
) -> Reference:
    """The reference: messages that training did not see, and the token ids of those that it did."""
    known = _widened(_bitmap(trained_on), _highest(held_back) + 1)
    cuts = _cuts(held_back, vocabulary, known)
    tokens = _commonest(held_back)
    features = _histograms(held_back, cuts, tokens, known, vocabulary)
    rng = np.random.default_rng(seed)
    return Reference(
        messages=len(held_back),
        conversations=len({one.conversation for one in held_back}),
        features=features,
        tokens=tokens,
        known=_packed(np.packbits(known).tobytes()),
        sample=_sample(held_back, features, rng),
    )


def counted(seen: Sequence[Seen], reference: Reference, vocabulary: Vocabulary) -> dict[str, Histogram]:
    """Messages in the bins of the reference, feature by feature; features of heads that are not there are left out."""
    cuts = {name: (one.edges, one.names) for name, one in reference.features.items()}
    return _histograms(seen, cuts, reference.tokens, reference.knows(_highest(seen) + 1), vocabulary)


def histogram_of(values: Sequence[float | None], conversations: Sequence[str], edges: tuple[float, ...]) -> Histogram:
    """A number in bins; messages without it are left out."""
    kept = [(value, name) for value, name in zip(values, conversations, strict=True) if value is not None]
    return _histogram(_binned([value for value, _ in kept], edges), [name for _, name in kept], edges=edges)


def quantile_edges(values: Sequence[float], bins: int = BINS) -> tuple[float, ...]:
    """What lies between bins of like size; a value that comes often has a bin of its own. Values have `DIGITS`."""
    if not values:
        return ()
    distinct, counts = np.unique(np.round(np.array(values, dtype=float), DIGITS), return_counts=True)
    step = 10.0**-DIGITS
    around = np.concatenate([[distinct[0] - step], distinct, [distinct[-1] + step]])
    middles = (around[:-1] + around[1:]) / 2  # middles[i] lies before distinct[i]
    shares = np.cumsum(counts) / counts.sum()
    ends = {int(np.searchsorted(shares, cut / bins - 1e-9)) + 1 for cut in range(1, bins)}
    often = set(np.flatnonzero(counts >= counts.sum() / bins).tolist())
    places = ends - {len(distinct)} | often | {place + 1 for place in often}
    return tuple(sorted({round(float(middles[place]), DIGITS + 1) for place in places}))


def in_steps(chances: Floats) -> Floats:
    """Probabilities as coarse as a sample keeps them, to be compared with it."""
    return np.asarray(np.round(chances * STEPS) / STEPS)


def vectors(seen: Sequence[Seen]) -> Floats:
    """Messages as a classifier reads them [messages, features]: which hashed tokens they hold, and their size."""
    rows = [_vector(_buckets(one.tokens), len(one.tokens), one.characters) for one in seen]
    return np.array(rows).reshape(len(rows), BUCKETS + 2)


def effective(rows: Counts, conversations: Sequence[str]) -> float:
    """How many independent observations counts [messages, bins] are worth, conversations being what is drawn.

    The mean design effect of a test of fit (Rao and Scott 1981), from the spread between conversations; at least 1.
    """
    total = float(rows.sum())
    _, where = np.unique(np.array(conversations, dtype=object).astype(str), return_inverse=True)
    groups = int(where.max()) + 1 if len(where) else 0
    shares = rows.sum(axis=0) / max(1.0, total)
    used = shares > 0
    if groups < 2:
        return min(total, float(groups))
    if used.sum() < 2:
        return total if total else 0.0
    sums = np.zeros((groups, int(used.sum())))
    np.add.at(sums, where, rows[:, used])
    spread = sums - sums.sum(axis=1, keepdims=True) * shares[used]
    variance = groups / (groups - 1) * (spread**2).sum(axis=0) / total**2
    effect = float((variance * total / shares[used]).sum() / (used.sum() - 1))
    return total / max(1.0, effect)


Cut = tuple[tuple[float, ...], tuple[str, ...]]


def _cuts(seen: Sequence[Seen], vocabulary: Vocabulary, known: NDArray[np.bool_]) -> dict[str, Cut]:
    cuts: dict[str, Cut] = {
        name: (quantile_edges([value for value in values if value is not None]), ())
        for name, values in _numbers(seen, vocabulary, known).items()
    }
    languages = Counter(one.language for one in seen if one.language not in (UNKNOWN, OTHER))
    cuts["novelty"] = (NOVELTY, ())
    cuts["language"] = ((), (*(code for code, _ in languages.most_common(LANGUAGES)), UNKNOWN, OTHER))
    reasons = sorted({one.abstained for one in seen if one.abstained})
    cuts["abstention"] = ((), (JUDGED, *dict.fromkeys((*reasons, "language", "no_customer_text", "no_words")), OTHER))
    if "signals" in vocabulary.heads:
        cuts["signals"] = ((), (*vocabulary.heads["signals"].values, NONE))
    cuts["vocabulary"] = ((), ())
    return cuts


def _histograms(
    seen: Sequence[Seen],
    cuts: Mapping[str, Cut],
    tokens: tuple[int, ...],
    known: NDArray[np.bool_],
    vocabulary: Vocabulary,
) -> dict[str, Histogram]:
    numbers, names = _numbers(seen, vocabulary, known), [one.conversation for one in seen]
    values = _values(seen, vocabulary)
    found = {}
    for feature, (edges, bins) in cuts.items():
        if feature == "vocabulary":
            found[feature] = _histogram(_words(seen, tokens, known), names)
        elif feature in numbers:
            found[feature] = histogram_of(numbers[feature], names, edges)
        elif feature in values:
            told = [(value, name) for value, name in zip(values[feature], names, strict=True) if value]
            rows = _named([value for value, _ in told], bins)
            found[feature] = _histogram(rows, [name for _, name in told], names=bins)
    return found


def _numbers(seen: Sequence[Seen], vocabulary: Vocabulary, known: NDArray[np.bool_]) -> dict[str, list[float | None]]:
    """Each feature that is a number, a message each."""
    found: dict[str, list[float | None]] = {
        "characters": [float(one.characters) for one in seen],
        "tokens": [float(len(one.tokens)) for one in seen],
        "novelty": [float(1 - known[list(one.tokens)].mean()) if one.tokens else None for one in seen],
    }
    where = vocabulary.slices()
    for name in _LEVELLED:
        if name in where:
            scale = np.array(vocabulary.heads[name].numbers)
            parts = [None if one.outputs is None else one.outputs[where[name]] for one in seen]
            found[name] = [None if part is None else round(float(part @ scale), DIGITS) for part in parts]
    if "boil_over" in where:
        place = where["boil_over"].start
        found["boil_over"] = [None if one.outputs is None else float(one.outputs[place]) for one in seen]
    return found


def _values(seen: Sequence[Seen], vocabulary: Vocabulary) -> dict[str, list[list[str]]]:
    """Each feature that is one or several values, a message each; empty where the message says nothing of it."""
    found = {
        "language": [[one.language] for one in seen],
        "abstention": [[one.abstained or JUDGED] for one in seen],
    }
    where = vocabulary.slices()
    if "signals" in where:
        names = vocabulary.heads["signals"].values
        found["signals"] = [
            []
            if one.outputs is None
            else [name for name, chance in zip(names, one.outputs[where["signals"]], strict=True) if chance >= FIRES_AT]
            or [NONE]
            for one in seen
        ]
    return found


def _histogram(rows: Counts, conversations: Sequence[str], **cut: Any) -> Histogram:
    return Histogram(
        counts=tuple(int(count) for count in rows.sum(axis=0)),
        messages=len(rows),
        effective=round(effective(rows, conversations), 2),
        **cut,
    )


def _binned(values: Sequence[float], edges: tuple[float, ...]) -> Counts:
    rows = np.zeros((len(values), len(edges) + 1), dtype=np.int64)
    rows[np.arange(len(values)), np.searchsorted(np.array(edges), np.array(values), side="right")] = 1
    return rows


def _named(values: Sequence[Sequence[str]], names: tuple[str, ...]) -> Counts:
    place = {name: index for index, name in enumerate(names)}
    rows = np.zeros((len(values), len(names)), dtype=np.int64)
    for row, some in enumerate(values):
        for value in some:
            rows[row, place.get(value, len(names) - 1)] += 1
    return rows


def _words(seen: Sequence[Seen], tokens: tuple[int, ...], known: NDArray[np.bool_]) -> Counts:
    """Counts [messages, bins] of the tokens given, of the others that training saw, and of new ones."""
    place = np.where(known, len(tokens), len(tokens) + 1)
    for index, token in enumerate(tokens):
        if token < len(place):
            place[token] = index
    rows = np.zeros((len(seen), len(tokens) + 2), dtype=np.int64)
    for row, one in enumerate(seen):
        np.add.at(rows[row], place[list(one.tokens)], 1)
    return rows


def _commonest(seen: Sequence[Seen]) -> tuple[int, ...]:
    return tuple(token for token, _ in Counter(t for one in seen for t in one.tokens).most_common(TOP_TOKENS))


def _bitmap(rows: Iterable[Sequence[int]]) -> NDArray[np.bool_]:
    found = {token for row in rows for token in row}
    known = np.zeros(max(found, default=0) + 1, dtype=bool)
    known[list(found)] = True
    return known


def _highest(seen: Sequence[Seen]) -> int:
    return max((max(one.tokens, default=0) for one in seen), default=0)


def _widened(bits: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    return np.pad(bits, (0, max(0, size - len(bits))))


def _sample(seen: Sequence[Seen], features: Mapping[str, Histogram], rng: np.random.Generator) -> Sample:
    """Some messages, one a conversation, and the probabilities of some that were judged."""
    order = rng.permutation(len(seen))
    alone = list({seen[index].conversation: seen[index] for index in order}.values())[:SAMPLE]
    judged = [chances for index in order if (chances := seen[index].outputs) is not None][:SAMPLE]
    effects = [one.messages / max(1.0, one.effective) for name, one in features.items() if KINDS[name] == "scores"]
    flat = np.round(np.array(judged) * STEPS).astype(np.uint8)
    return Sample(
        texts=_packed(b"".join(_row(one) for one in alone)),
        outputs=_packed(flat.tobytes()),
        rows=len(judged),
        effective=round(len(judged) / max(1.0, *effects), 2),
    )


def _row(one: Seen) -> bytes:
    buckets = _buckets(one.tokens)[:255]
    sizes = np.minimum([len(one.tokens), one.characters], 65_535).astype(np.uint16)
    return bytes([len(buckets)]) + sizes.tobytes() + buckets.tobytes()


def _buckets(tokens: Sequence[int]) -> NDArray[np.uint8]:
    spread = (np.array(tokens, dtype=np.uint64) * np.uint64(_SPREAD)) & np.uint64(0xFFFFFFFF)
    return np.unique((spread >> np.uint64(24)).astype(np.uint8))


def _vector(buckets: NDArray[np.uint8], tokens: int, characters: int) -> Floats:
    row = np.zeros(BUCKETS + 2)
    row[buckets] = 1.0
    row[BUCKETS:] = np.log1p([tokens, characters])
    return row


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def _unpacked(text: str) -> bytes:
    """Raises ValueError for what was not packed here."""
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not packed as a reference is: {error}") from None
