"""What the training data looked like, for the bundle's card: the messages held back, as the exported model scores them.

Serving compares live messages with it (`serving.drift`). Holds counts, no text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from datasets import Dataset, DatasetDict, concatenate_datasets

from pipeline.abstention import why_not
from pipeline.conversation import Conversation
from pipeline.encode import read_turn
from pipeline.predictor import Predictor
from pipeline.reference import Reference, Seen, describe, look

MOST = 3_000  # messages; more tell nothing new
MOST_TRAINED_ON = 200_000
SEED = 17


def reference(
    dataset: DatasetDict, conversations: Sequence[Conversation], predictor: Predictor, languages: Sequence[str]
) -> Reference:
    """The reference of a model: validation and test messages, beside the tokens of what it was trained on."""
    held_back = concatenate_datasets([dataset["validation"], dataset["test"]])
    some = held_back.shuffle(seed=SEED).select(range(min(MOST, len(held_back))))
    seen = messages(some, {one.id: one for one in conversations}, predictor, languages)
    trained_on = dataset["train"].shuffle(seed=SEED).select(range(min(MOST_TRAINED_ON, len(dataset["train"]))))
    return describe(seen, own_tokens(trained_on), predictor.vocabulary)


def messages(
    rows: Dataset, conversations: Mapping[str, Conversation], predictor: Predictor, languages: Sequence[str]
) -> list[Seen]:
    """Rows as they would be seen live: judged with what came before, or not judged and why."""
    places = list(zip(rows["conversation"], rows["turn"], strict=True))
    talks = [conversations[name] for name, _ in places]
    given = [read_turn(talk, turn, predictor.encoder.config) for talk, (_, turn) in zip(talks, places, strict=True)]
    refused = [why_not(one, languages, talk.language) for one, talk in zip(given, talks, strict=True)]
    chances = iter(predictor.predict([one for one, why in zip(given, refused, strict=True) if why is None]))
    outputs = [None if why else next(chances) for why in refused]
    reasons = [why.reason if why else None for why in refused]
    return look(predictor.encoder, [name for name, _ in places], given, outputs, reasons)


def own_tokens(rows: Dataset) -> Iterator[list[int]]:
    """The token ids of each row, what came before the message included."""
    yield from rows["input_ids"]
