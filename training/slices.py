"""Named subsets of rows in which a model may be weaker: where they come from, and what makes a text hard.

Every subset is a plain rule on the text or the row. `sarcasm markers` is a word list: it finds turns of phrase that are
often meant the other way round, in no way all sarcasm, and some of what it finds is meant as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from pipeline.text import normalise

TRANSLATED = frozenset({"support_chats", "support_chats_emotion"})  # customers' turns post-edited into English

_NEGATION = re.compile(r"\b(?:not?|never|nothing|nobody|none|neither|nor|without|hardly|cannot)\b|n['’]t\b", re.I)
_SARCASM = re.compile(
    r"""(?:^|[.!?,]\s*)(?:oh|well|wow)?,?\s*(?:just\s+)?(?:great|brilliant|fantastic|wonderful|lovely|perfect|bravo)[,.!…]
      | \b(?:thanks?(?:\ you)?|cheers)\s+(?:a\s+lot\s+)?for\s+(?:nothing|ruining|wasting|ignoring|losing)
      | \b(?:yeah|sure),?\s+right\b | \bas\ if\b | \bslow\ clap\b | \bhow\ (?:nice|kind|lovely|convenient)\ of\b
      | \b(?:great|good|nice|fine|stellar|top)\s+(?:job|work|service|one)[,!.…]*\s+(?:guys|team|again|as\ always|@)
      | \b(?:love|loving)\s+(?:how|that|it\ when)\b | \bso\ (?:much\ for|helpful)\b
      | (?:^|\s)/s\b | \#(?:sarcasm|not|fail)\b | 🙄 | 👏""",
    re.I | re.X,
)


def slices(rows: Dataset) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each subset's name and its members [rows]."""
    for field in ("channel", "industry", "source"):
        values = np.array([str(value) for value in rows[field]])
        for value in np.unique(values):
            yield f"{field} {value}", values == value
    first = first_turns(list(rows["conversation"]), list(rows["turn"]))
    yield "first turns", first
    yield "later turns", ~first
    yield from text_slices(list(rows["text"]))
    translated = np.array([source in TRANSLATED for source in rows["source"]])
    yield "translated", translated
    yield "original language", ~translated


def text_slices(texts: list[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Subsets that a message alone decides."""
    seen = [normalise(text) for text in texts]
    yield "short (up to 4 words)", np.array([len(text.split()) <= 4 for text in texts])
    yield "long (over 60 words)", np.array([len(text.split()) > 60 for text in texts])
    yield "negated", np.array([bool(_NEGATION.search(text)) for text in texts])
    yield "shouted", np.array([" ^" in text for text in seen])
    yield "with emoji", np.array([view.count(" :") > text.count(" :") for view, text in zip(seen, texts, strict=True)])
    yield "sarcasm markers", np.array([bool(_SARCASM.search(text)) for text in texts])


def first_turns(conversations: list[str], turns: list[int]) -> NDArray[np.bool_]:
    """Which rows [rows] are the first labelled turn of their conversation."""
    earliest: dict[str, int] = {}
    for conversation, turn in zip(conversations, turns, strict=True):
        earliest[conversation] = min(turn, earliest.get(conversation, turn))
    return np.array([turn == earliest[name] for name, turn in zip(conversations, turns, strict=True)])
