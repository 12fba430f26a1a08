from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text import clean, decode, has_words, normalise

ANY_TEXT = st.text(st.characters(), max_size=400)

MAIL = """Hello,

the heater is still cold and my mother is 84.

Kind regards,
Jo Marsh
+44 20 7946 0958

On Mon, 3 Nov 2025 at 10:12, Care Team wrote:
> We will look into it.
> Best, Care
"""


def kinds(text: str, channel: str = "email") -> list[str]:
    return [cut.kind for cut in clean(text, channel).cuts]


def test_a_mail_keeps_only_what_the_customer_wrote_now() -> None:
    cleaned = clean(MAIL, "email")
    assert "still cold" in cleaned.text
    assert "We will look into it" not in cleaned.text
    assert "Jo Marsh" not in cleaned.text


def test_what_was_cut_can_be_shown_without_personal_data() -> None:
    cuts = clean(MAIL, "email").cuts
    assert {cut.kind for cut in cuts} == {"quoted", "signature"}
    assert any("We will look into it" in cut.text for cut in cuts)
    assert not any("7946" in cut.text for cut in cuts)


def test_a_disclaimer_is_cut() -> None:
    text = "Where is my refund?\n\nThis e-mail is confidential and intended for the addressee only."
    assert clean(text, "email").text == "Where is my refund?"
    assert kinds(text) == ["disclaimer"]


@pytest.mark.parametrize(
    "text",
    [
        "Automatic reply: Out of office",
        "I am out of the office and will return on Monday.",
        "Out of office until 4 May",
    ],
)
def test_an_auto_reply_leaves_nothing(text: str) -> None:
    assert clean(text, "email").text == ""
    assert kinds(text) == ["auto_reply"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("fish &amp; chips", "fish & chips"),
        ("a &amp;lt; b", "a < b"),
        ("<p>cold <b>again</b></p>", "cold again"),
        ("one<br>two", "one\ntwo"),
        ("itâ€™s late", "it's late"),
        ("zero\u200bwidth and \u202eright to left", "zerowidth and right to left"),
        ("nul\x00byte", "nulbyte"),
        ("I <3 this, 2 < 3", "I <3 this, 2 < 3"),
    ],
)
def test_decoding(text: str, plain: str) -> None:
    assert decode(text) == plain


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("@acme look https://x.example/a", "@user look http"),
        ("#NAME# called", "[NAME] called"),
        ("STILL WAITING", "STILL ^ WAITING ^"),
        ("noooooooo!!!!!!!!", "nooo!!!"),
        ("so happy 😀", "so happy :grinning face:"),
    ],
)
def test_what_the_tokenizer_is_given(text: str, seen: str) -> None:
    assert normalise(text) == seen


@pytest.mark.parametrize("text", ["😭😭", "@acme", "https://a.example/b", "12345", "#NAME#", "?!", "", "[EMAIL]"])
def test_texts_without_words(text: str) -> None:
    assert not has_words(text)


@given(ANY_TEXT, st.sampled_from(["chat", "email", "social", "phone"]))
@settings(max_examples=200, deadline=None)
def test_cleaning_never_raises_and_leaves_no_control_characters(text: str, channel: str) -> None:
    cleaned = clean(text, channel)
    normalise(cleaned.text).encode("utf-8")
    assert "\x00" not in cleaned.text
    assert not any("\ud800" <= letter <= "\udfff" for letter in cleaned.text)


@given(st.sampled_from(["thanks a lot", "no refund yet", "WHERE is it?"]), st.integers(1, 300))
@settings(max_examples=30, deadline=None)
def test_plain_text_is_left_alone(text: str, times: int) -> None:
    assert clean(" ".join([text] * times), "chat").text == " ".join([text] * times)
