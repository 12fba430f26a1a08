"""Personal data taken out of text before anything is stored or logged.

Each kind is replaced by its name in brackets: [EMAIL], [PHONE], [CARD], [IBAN], [NATIONAL_ID], [ADDRESS];
of a link, everything behind the path is dropped. Rules reach only so far: names are not found.
Check digits and number plans come from `python-stdnum` and `phonenumbers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import phonenumbers
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

PHONE_REGIONS = ("US", "GB")

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_URL_TAIL = re.compile(r"(\bhttps?://[^\s?#<>\"']{1,2000})[?#][^\s<>\"']+", re.I)
_URL_LOGIN = re.compile(r"(\bhttps?://)(?:[^\s/@<>\"']{0,200}@)+", re.I)
_NINO = re.compile(r"\b(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b", re.I)
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_ID_WORD = re.compile(
    r"\b(?:ssn|social security|national id|identity|passport|tax (?:id|number)|nhs"
    r"|insurance (?:no|number)|cpf|dni|nie|pesel|bsn|nir|codice fiscale|steuer)",
    re.I,
)
_STREET = (
    r"street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|place|pl|square|sq|terrace|crescent|close|"
    r"way|gardens|grove|parkway|pkwy|highway|hwy|mews|row"
)
_ADDRESS = re.compile(
    r"\b(?:(?i:flat|apt|apartment|unit|suite) ?#?\w{1,5},? )?\d{1,5}[a-z]? (?:[A-Z][\w'’-]{1,24} ){1,3}(?i:"
    + _STREET
    + r")\b\.?"
    r"(?:,? (?i:flat|apt|apartment|unit|suite) ?#?\w{1,5})?"
    r"(?:,? (?![A-Z]{2} \d|[A-Z]{1,2}\d)[A-Z][\w'’-]{1,24}){0,3}"
    r"(?:,? (?:[A-Z]{2} \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}))?"
)
_DIGITS = re.compile(r"\d")
_ISSUED = re.compile(r"[3-6]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)")  # what cards begin with; dates do not
_ENOUGH_DIGITS = 6  # a British insurance number has no more
_MOST_PASSES = 8

# by length; the named ones have checks so weak that a word must say what they are
_CHECKED_IDS: dict[int, tuple[Any, ...]] = {9: (dni, nie), 15: (nir,), 16: (codicefiscale,)}
_NAMED_IDS: dict[int, tuple[Any, ...]] = {9: (bsn, ssn), 10: (nhs,), 11: (cpf, pesel, idnr)}


@dataclass(frozen=True)
class _Grouped:
    """A number that people write in groups: what one is, what may stand between two, lengths and check of the whole."""

    name: str
    group: re.Pattern[str]
    between: frozenset[str]
    shortest: int
    longest: int
    is_valid: Callable[[str], bool]


def redact(text: str) -> str:
    """The text with personal data replaced. Idempotent; never raises."""
    for _ in range(_MOST_PASSES):  # what was replaced may have hidden its neighbour
        before, text = text, _redact_once(text)
        if text == before:
            break
    return text


def _redact_once(text: str) -> str:
    if "://" in text:
        text = _URL_LOGIN.sub(r"\1", _URL_TAIL.sub(r"\1", text))
    if "@" in text:
        text = _EMAIL.sub("[EMAIL]", text)
    if len(_DIGITS.findall(text)) >= _ENOUGH_DIGITS:
        text = _redact_numbers(text)
    return _ADDRESS.sub("[ADDRESS]", text) if _DIGITS.search(text) else text


def _redact_numbers(text: str) -> str:
    text = _replace_grouped(_replace_grouped(text, _IBAN), _CARD)
    text = _NINO.sub("[NATIONAL_ID]", _SSN.sub(_redact_ssn, text))
    text = _replace_grouped(text, _ANY_ID if _ID_WORD.search(text) else _CHECKED_ID)
    return _redact_phones(text)


def _redact_ssn(match: re.Match[str]) -> str:
    return "[NATIONAL_ID]" if ssn.is_valid(match[0]) else match[0]


def _is_card(digits: str) -> bool:
    return bool(_ISSUED.match(digits) and len(set(digits)) > 1 and luhn.is_valid(digits))


def _is_iban(value: str) -> bool:
    return value[:2].isalpha() and value[2:4].isdigit() and bool(iban.is_valid(value))


def _is_checked_id(value: str) -> bool:
    return any(kind.is_valid(value) for kind in _CHECKED_IDS.get(len(value), ()))


def _is_any_id(value: str) -> bool:
    return _is_checked_id(value) or any(kind.is_valid(value) for kind in _NAMED_IDS.get(len(value), ()))


_CARD = _Grouped("[CARD]", re.compile(r"\d+", re.A), frozenset(" -"), 13, 19, _is_card)
_IBAN = _Grouped("[IBAN]", re.compile(r"[A-Z0-9]+", re.I | re.A), frozenset(" -"), 15, 34, _is_iban)
_CHECKED_ID = _Grouped(
    "[NATIONAL_ID]",
    re.compile(r"\b(?:[A-Z]+|\w*\d\w*)\b", re.A),  # no words: "paid 12345678 a month" is no Spanish id
    frozenset(" .-"),
    9,
    16,
    _is_checked_id,
)
_ANY_ID = replace(_CHECKED_ID, is_valid=_is_any_id)


def _replace_grouped(text: str, kind: _Grouped) -> str:
    """The text with every run of whole groups that passes the check replaced, the longest first."""
    groups = list(kind.group.finditer(text))
    pieces, done, first = [], 0, 0
    while first < len(groups):
        last = _last_group(text, groups, first, kind)
        if last is not None:
            pieces += [text[done : groups[first].start()], kind.name]
            done, first = groups[last].end(), last
        first += 1
    return "".join([*pieces, text[done:]])


def _last_group(text: str, groups: Sequence[re.Match[str]], first: int, kind: _Grouped) -> int | None:
    found, value = None, ""
    for index in range(first, len(groups)):
        if index > first and text[groups[index - 1].end() : groups[index].start()] not in kind.between:
            break
        value += groups[index][0]
        if len(value) > kind.longest:
            break
        if len(value) >= kind.shortest and kind.is_valid(value):
            found = index
    return found


def _redact_phones(text: str) -> str:
    for region in PHONE_REGIONS:
        found = list(phonenumbers.PhoneNumberMatcher(text, region, max_tries=1000))
        for match in reversed(found):
            start = match.start + (match.raw_string.startswith("(") and ")" not in match.raw_string)
            text = text[:start] + "[PHONE]" + text[match.end :]
    return text
