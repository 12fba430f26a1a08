"""Whether a customer turn can be judged at all: the one decision that serving takes and training measures.

A language shows in a message alone only where it has letters enough. Where it has not, the customer's earlier
messages are read with it, and after them the language that the conversation declares; where nothing tells, the
message is judged. Knows nothing of answers or of priority.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.encode import Input
from pipeline.language import Language, identify, primary
from pipeline.text import has_words

Reason = Literal["no_customer_text", "no_words", "language"]

# Chosen on half of the chats that `training.abstention` measures, so that English is hardly ever refused: the fewer
# the letters, the less likely English has to be before a message counts as foreign.
UNLIKELY_PER_LETTER = 0.001
UNLIKELY_AT_MOST = 0.2
LIKELY = 0.5  # from here on a message is in a validated language, whatever was said before
_CODE = re.compile(r"[a-z]{2}")  # ISO 639-1; what else may be declared is not understood


@dataclass(frozen=True)
class NotJudged:
    """Why a turn is not judged."""

    reason: Reason
    detail: str


def why_not(given: Input, languages: Sequence[str], declared: str | None = None) -> NotJudged | None:
    """Why the model, validated on `languages`, should not judge this turn; None where it may.

    `declared` is the language that the conversation says it is in, if it says so.
    """
    text = given.message.text
    if not text:
        kinds = ", ".join(sorted({cut.kind for cut in given.message.cuts})) or "empty"
        return NotJudged("no_customer_text", f"nothing the customer wrote is left ({kinds})")
    if not has_words(text):
        return NotJudged("no_words", "no letter in it")
    return _foreign(given, languages, declared)


def _foreign(given: Input, languages: Sequence[str], declared: str | None) -> NotJudged | None:
    known = f"validated on {', '.join(languages)}"
    for text, read in _views(given):
        found = identify(text)
        if found is None:
            continue
        chance = found.among(languages)
        if chance < _unlikely(found):
            return NotJudged("language", f"{found.code} ({found.probability:.2f}){read}; {known}")
        if chance >= LIKELY:
            return None
    if declared and _CODE.fullmatch(primary(declared)) and primary(declared) not in map(primary, languages):
        return NotJudged("language", f"{primary(declared)} (declared); {known}")
    return None


def _views(given: Input) -> Iterator[tuple[str, str]]:
    """The message alone, then with what the customer said before it, and how the second is spoken of."""
    yield given.message.text, ""
    earlier = [turn.text for turn in given.earlier if turn.role == "customer"]
    if earlier:
        yield " ".join([given.message.text, *earlier]), " with what came before"


def _unlikely(found: Language) -> float:
    """Below this probability of the validated languages together the text is taken to be in another."""
    return min(UNLIKELY_AT_MOST, UNLIKELY_PER_LETTER * found.letters)
