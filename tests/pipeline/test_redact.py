from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import luhn

from pipeline.redact import redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to jo.marsh+x@mail.example.org please", "write to [EMAIL] please"),
        ("call +44 20 7946 0958 now", "call [PHONE] now"),
        ("card 4111 1111 1111 1111 exp 04/29", "card [CARD] exp 04/29"),
        ("card 5500-0000-0000-0004", "card [CARD]"),
        ("IBAN DE89 3704 0044 0532 0130 00 thanks", "IBAN [IBAN] thanks"),
        ("my nino is QQ 12 34 56 C", "my nino is QQ 12 34 56 C"),
        ("my ssn is 536-90-4399", "my ssn is [NATIONAL_ID]"),
        ("see https://acme.example/reset?token=abc123 it fails", "see https://acme.example/reset it fails"),
        ("https://jo:secret@acme.example/a", "https://acme.example/a"),
        ("I live at 12 Almond Street, Leeds", "I live at [ADDRESS]"),
    ],
)
def test_personal_data_is_replaced(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "order 48213 of 3 Nov 2025",
        "flight BA2490 at 18:45",
        "it costs $1,299.00 instead of 1.150,00 EUR",
        "since 2019 and 1200 points",
        "error 0x80070057 in version 10.4.2",
        "@acme #fail 100%",
    ],
)
def test_what_is_no_personal_data_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(st.characters(), max_size=300))
@settings(max_examples=200, deadline=None)
def test_it_never_raises_and_a_second_time_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.text("0123456789", min_size=12, max_size=18), st.sampled_from(["", " ", "-"]))
@settings(max_examples=200, deadline=None)
def test_no_card_number_survives(start: str, between: str) -> None:
    digits = "4" + start[1:]
    digits += luhn.calc_check_digit(digits)
    groups = between.join(digits[i : i + 4] for i in range(0, len(digits), 4))
    left = redact(f"my card {groups} was charged")
    assert digits not in re.sub(r"\D", "", left)
