"""DVC stage `abstention`: how often the scorer would refuse, in languages it must refuse and in the one it must not.

    python -m training.abstention        metrics/abstention.json

The decision is `pipeline.abstention`'s, the one that serving takes. Chats are read twice: as the customers typed them
and in English; single messages are English. The decision's numbers were chosen on one half of the conversations, the
other half is reported. What the customer typed is taken to be in the chat's language, though some of it is English:
a sentence quoted from a screen, a notice of an upload. A corpus that is not there is left out with a warning.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.abstention import Reason, why_not
from pipeline.config import Config, current_profile, load_config
from pipeline.conversation import Conversation, Turn
from pipeline.encode import EncodingConfig, read_turn
from pipeline.language import primary
from pipeline.prepare import PrepareConfig
from pipeline.scores import share_with_interval
from pipeline.sources import SOURCES, FormatChanged, SourceMissing
from pipeline.sources.source import read_json_rows
from pipeline.stage import CORPORA, progress, run
from pipeline.text import words_only
from training.export import ExportConfig
from training.tracking import finish_stage

REASONS: tuple[Reason, ...] = ("language", "no_words", "no_customer_text")
LENGTHS: dict[str, Callable[[int], bool]] = {
    "all": lambda words: True,
    "no words": lambda words: words == 0,
    "1-2 words": lambda words: 1 <= words <= 2,
    "3-5 words": lambda words: 3 <= words <= 5,
    "6-10 words": lambda words: 6 <= words <= 10,
    "over 10 words": lambda words: words > 10,
    "4 words or more": lambda words: words >= 4,
}


class AbstentionConfig(Config):
    """Corpora whose chats carry what the customer typed beside its English, and corpora of single English messages."""

    chats: tuple[str, ...]
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One customer turn: its language by the corpus, its words, and why it would not be judged, if so."""

    corpus: str
    language: str
    words: int
    reason: Reason | None


def read_reported(config: AbstentionConfig, folder: Path) -> Iterator[tuple[str, Conversation]]:
    """(corpus, conversation) of the reported half, chats once in each language. Warns of what is not there."""
    seen: set[tuple[str, str]] = set()
    for name in (*config.chats, *config.messages):
        if not all((folder / file).exists() for file in SOURCES[name].files):
            warnings.warn(f"{name}: not measured, it is not in {folder}", SourceMissing, stacklevel=2)
            continue
        read = read_chats(name, folder) if name in config.chats else SOURCES[name].read(folder)
        for conversation in read:
            row = conversation.id.removeprefix(f"{name}-")
            if is_reported(row) and (row, str(conversation.language)) not in seen:
                seen.add((row, str(conversation.language)))
                yield name, conversation


def is_reported(row: str) -> bool:
    """Whether a row belongs to the half that is reported rather than the half that numbers were chosen on."""
    return hashlib.sha256(row.encode()).digest()[0] % 2 == 1


def read_chats(name: str, folder: Path) -> Iterator[Conversation]:
    """Every chat of a corpus in English, then as it was typed. Raises FormatChanged."""
    for file in SOURCES[name].files:
        for row in read_json_rows(folder / file, {"id": str, "turns": list}, {"role": str}):
            typed_in: Any = row.get("language") or next((turn.get("language") for turn in row["turns"]), None)
            for language, field in (("en", "text"), (typed_in, "original")):
                try:
                    turns = tuple(Turn(role=turn["role"], text=_joined(turn[field])) for turn in row["turns"])
                    yield Conversation(id=row["id"], language=primary(language), turns=turns)
                except (AttributeError, KeyError, TypeError, ValueError):
                    raise FormatChanged(f"{file} {row['id']}: no {field} in {language} to read") from None


def cases(
    conversations: Iterable[tuple[str, Conversation]], languages: Sequence[str], encoding: EncodingConfig
) -> Iterator[Case]:
    """Every customer turn, decided from what was written alone: no language is declared."""
    for corpus, conversation in conversations:
        for turn in conversation.customer_turns():
            given = read_turn(conversation, turn, encoding)
            refused = why_not(given, languages)
            words = len(words_only(given.message.text).split())
            yield Case(corpus, str(conversation.language), words, refused.reason if refused else None)


def summary(found: Sequence[Case], languages: Sequence[str]) -> dict[str, Any]:
    """Shares of turns not judged, by reason: per language and length, and per corpus and language."""
    corpora = sorted({case.corpus for case in found})
    return {
        "validated": list(languages),
        "languages": by_language(found, LENGTHS),
        "corpora": {
            name: by_language([case for case in found if case.corpus == name], {"all": LENGTHS["all"]})
            for name in corpora
        },
    }


def by_language(found: Sequence[Case], lengths: dict[str, Callable[[int], bool]]) -> dict[str, Any]:
    """Shares per language, then per length; lengths without messages are left out."""
    report: dict[str, Any] = {}
    for language in sorted({case.language for case in found}):
        for length, holds in lengths.items():
            chosen = [case for case in found if case.language == language and holds(case.words)]
            if chosen:
                report.setdefault(language, {})[length] = shares(chosen)
    return report


def shares(found: Sequence[Case]) -> dict[str, Any]:
    """How many messages, and the share that is not judged, whatever the reason and by reason."""
    counts = Counter(case.reason for case in found)
    refused = len(found) - counts[None]
    return {
        "messages": len(found),
        "abstained": share_with_interval(refused, len(found)),
        **{reason: share_with_interval(counts[reason], len(found)) for reason in REASONS},
    }


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def main() -> None:
    """Run the stage for the current profile."""
    profile = current_profile()
    config = load_config(AbstentionConfig, "train.yaml", "abstention", profile)
    languages = load_config(ExportConfig, "train.yaml", "export", profile).languages
    encoding = load_config(PrepareConfig, "data.yaml", "prepare", profile).encoding
    conversations = progress(list(read_reported(config, CORPORA)), "reading languages")
    finish_stage("abstention", config, summary(list(cases(conversations, languages, encoding)), languages))


if __name__ == "__main__":
    run(main)
