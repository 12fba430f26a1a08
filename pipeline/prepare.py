"""DVC stage `prepare`: conversations to a labelled, encoded dataset, one row a customer turn, split by conversation.

    python -m pipeline.prepare           build/dataset, metrics/prepare.json

Knows nothing of the model beyond its tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, disable_progress_bars
from datasets import Sequence as ListOf
from tokenizers import Tokenizer

from pipeline.config import Config, current_profile, load_config
from pipeline.conversation import Conversation, read_conversations
from pipeline.encode import Encoder, EncodingConfig, read_turn
from pipeline.errors import InputError
from pipeline.ingest import CONVERSATIONS
from pipeline.scores import hot_targets
from pipeline.splits import SPLITS, SplitConfig, assign_splits
from pipeline.stage import BUILD, METRICS, progress, run, write_json
from pipeline.vocabulary import Labels, Vocabulary, load_vocabulary
from pipeline.weights import TrainedEncoder, load_tokenizer

DATASET = BUILD / "dataset"

FEATURES = Features(
    {
        "conversation": Value("string"),
        "turn": Value("int32"),
        "source": Value("string"),
        "channel": Value("string"),
        "industry": Value("string"),
        "split": Value("string"),
        "text": Value("string"),
        "input_ids": ListOf(Value("int32")),
        "token_type_ids": ListOf(Value("int8")),
        "target": ListOf(Value("float32")),  # one weight per model output, vocabulary order
        "known": ListOf(Value("bool")),  # one per head: whether this row says anything of it
    }
)


class PrepareConfig(Config):
    """How conversations are split and encoded."""

    splits: SplitConfig
    encoding: EncodingConfig


class SplitLeaks(InputError):
    """The same text stands in two splits."""


class EmptySplit(InputError):
    """A split that training or measuring needs has no row."""


def prepare(
    conversations: Sequence[Conversation], config: PrepareConfig, vocabulary: Vocabulary, tokenizer: Tokenizer
) -> DatasetDict:
    """The dataset, a split each for training, validation, test and live.

    Raises UnknownSplit, SplitLeaks and EmptySplit.
    """
    encoder = Encoder(tokenizer, config.encoding)
    named = zip(conversations, assign_splits(conversations, config.splits), strict=True)
    rows = [
        {**row, "split": split}
        for conversation, split in progress(list(named), "encoding")
        for row in turn_rows(conversation, vocabulary, encoder)
    ]
    check_leaks(rows)
    check_splits(rows)
    splits = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
    return DatasetDict({split: Dataset.from_list(found, features=FEATURES) for split, found in splits.items()})


def turn_rows(conversation: Conversation, vocabulary: Vocabulary, encoder: Encoder) -> Iterator[dict[str, Any]]:
    """A row, but for its split, for every customer turn that carries a label and has text left after cleaning."""
    for index, labels in labelled_turns(conversation, vocabulary):
        given = read_turn(conversation, index, encoder.config)
        if not given.message.text:
            continue
        encoded = encoder.encode(given)
        target, known = targets(labels, vocabulary)
        yield {
            "conversation": conversation.id,
            "turn": index,
            "source": conversation.meta.get("source"),
            "channel": conversation.channel,
            "industry": conversation.meta.get("industry"),
            "text": given.message.text,
            "input_ids": encoded.ids,
            "token_type_ids": encoded.segments,
            "target": target,
            "known": known,
        }


def labelled_turns(conversation: Conversation, vocabulary: Vocabulary) -> list[tuple[int, Labels]]:
    """Index and labels of every labelled customer turn, boil-over added where it and what follows are known to be hot
    or calm.

    A message that stands alone says nothing of what would have followed.
    """
    turns = conversation.customer_turns()
    hot = [vocabulary.hot.applies(conversation.turns[i].labels or {}) for i in turns]
    ahead = hot_targets(hot, vocabulary.hot.horizon) if len(turns) > 1 else [None] * len(turns)
    result = []
    for index, here, boils in zip(turns, hot, ahead, strict=True):
        labels = dict(conversation.turns[index].labels or {})
        if here is not None and boils is not None:
            labels["boil_over"] = boils
        if labels:
            result.append((index, labels))
    return result


def targets(labels: Labels, vocabulary: Vocabulary) -> tuple[list[float], list[bool]]:
    """Labels as one weight per model output, and which heads they speak of."""
    target: list[float] = []
    known: list[bool] = []
    for name, head in vocabulary.heads.items():
        known.append(name in labels)
        target += head.target(labels[name]) if name in labels else [0.0] * len(head.values)
    return target, known


def check_leaks(rows: Sequence[dict[str, Any]]) -> None:
    """Raise SplitLeaks if a message of more than eight words stands in two splits."""
    homes: dict[str, set[str]] = {}
    for row in rows:
        words = row["text"].lower().split()
        if len(words) > 8:
            homes.setdefault(" ".join(words), set()).add(row["split"])
    leaks = [(text, splits) for text, splits in homes.items() if len(splits) > 1]
    if leaks:
        text, splits = leaks[0]
        raise SplitLeaks(
            f"{len(leaks)} messages stand in two splits, the first in {' and '.join(sorted(splits))}: {text[:60]!r}"
        )


def check_splits(rows: Sequence[dict[str, Any]]) -> None:
    """Raise EmptySplit naming the splits that have no row; `live` may be empty."""
    empty = [split for split in SPLITS if split != "live" and not any(row["split"] == split for row in rows)]
    if empty:
        raise EmptySplit(
            f"no labelled customer turn in {', '.join(empty)}: label more conversations or change the shares"
        )


def summary(dataset: DatasetDict, vocabulary: Vocabulary) -> dict[str, Any]:
    """Rows and tokens per split, and how often each value is given in training."""
    report: dict[str, Any] = {}
    for split, rows in dataset.items():
        lengths = [len(ids) for ids in rows["input_ids"]]
        report[split] = {"rows": len(lengths), "tokens": sum(lengths), "sources": dict(Counter(rows["source"]))}
    sums = [sum(column) for column in zip(*dataset["train"]["target"], strict=True)]
    report["train_values"] = {
        name: dict(zip(head.values, sums[where], strict=True))
        for (name, head), where in zip(vocabulary.heads.items(), vocabulary.slices().values(), strict=True)
    }
    return report


def main() -> None:
    """Run the stage for the current profile."""
    profile = current_profile()
    config = load_config(PrepareConfig, "data.yaml", "prepare", profile)
    trained = load_config(TrainedEncoder, "train.yaml", "encoder", profile)
    vocabulary = load_vocabulary()
    disable_progress_bars()
    dataset = prepare(read_conversations(CONVERSATIONS), config, vocabulary, load_tokenizer(trained))
    dataset.save_to_disk(str(DATASET))
    write_json(METRICS / "prepare.json", summary(dataset, vocabulary))


if __name__ == "__main__":
    run(main)
