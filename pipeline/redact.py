"""Personal data taken out of text before anything is stored or logged.

Each kind is replaced by its name in brackets: [EMAIL], [PHONE], [CARD], [IBAN], [NATIONAL_ID], [ADDRESS];
of a link, everything behind the path is dropped. Rules reach only so far: names are not found.
Check digits and number plans come from `python-stdnum` and `phonenumbers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
_URL_LOGIN = re.compile(r"(\bhttps?://)[^\s/@<>\"']{1,200}@", re.I)
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){3,8}\b", re.I)
_NATIONAL_ID = re.compile(r"(?<![\w-])(?=[\w .-]*\d)[A-Z0-9](?:[ .-]?[A-Z0-9]){7,16}(?![\w-])", re.I)
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
    r"\b(?:(?:flat|apt|apartment|unit|suite) ?#?\w{1,5},? )?\d{1,5}[a-z]? (?:[A-Z][\w'’-]{1,24} ){1,3}(?i:"
    + _STREET
    + r")\b\.?"
    r"(?:,? (?i:flat|apt|apartment|unit|suite) ?#?\w{1,5})?"
    r"(?:,? [A-Z][\w'’-]{1,24}){0,3}(?:,? (?:[A-Z]{2} \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}))?"
)
_DIGITS = re.compile(r"\d")
_ENOUGH_DIGITS = 7

_CHECKED_IDS: tuple[Any, ...] = (nir, codicefiscale, dni, nie)
_NAMED_IDS: tuple[Any, ...] = (cpf, pesel, bsn, nhs, idnr, ssn)


def redact(text: str) -> str:
    """The text with personal data replaced. Idempotent; never raises."""
    if "@" in text:
        text = _EMAIL.sub("[EMAIL]", text)
    if "://" in text:
        text = _URL_LOGIN.sub(r"\1", _URL_TAIL.sub(r"\1", text))
    if len(_DIGITS.findall(text)) >= _ENOUGH_DIGITS:
        text = _redact_numbers(text)
    return _ADDRESS.sub("[ADDRESS]", text) if _DIGITS.search(text) else text


def _redact_numbers(text: str) -> str:
    text = _IBAN.sub(_replace_if(iban.is_valid, "[IBAN]"), text)
    text = _CARD.sub(_replace_if(_is_card, "[CARD]"), text)
    text = _NINO.sub("[NATIONAL_ID]", _SSN.sub(_replace_if(ssn.is_valid, "[NATIONAL_ID]"), text))
    ids = _CHECKED_IDS + (_NAMED_IDS if _ID_WORD.search(text) else ())
    text = _NATIONAL_ID.sub(_replace_if(lambda value: any(kind.is_valid(value) for kind in ids), "[NATIONAL_ID]"), text)
    return _redact_phones(text)


def _is_card(digits: str) -> bool:
    return bool(luhn.is_valid(re.sub(r"\D", "", digits))) and len(set(re.sub(r"\D", "", digits))) > 1


def _replace_if(valid: Callable[[str], bool], name: str) -> Callable[[re.Match[str]], str]:
    return lambda match: name if valid(match[0]) else match[0]


def _redact_phones(text: str) -> str:
    for region in PHONE_REGIONS:
        found = list(phonenumbers.PhoneNumberMatcher(text, region, max_tries=1000))
        for match in reversed(found):
            text = text[: match.start] + "[PHONE]" + text[match.end :]
    return text
