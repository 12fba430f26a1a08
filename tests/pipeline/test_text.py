from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text import Cut, clean, decode, from_markup, has_words, normalise

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
    ("text", "plain"),
    [
        ("https://a.example/b", "https://a.example/b"),
        ("fish &amp; chips", "fish & chips"),
        ("<p>write &lt;b&gt;</p><p>twice</p>", "write <b>\n\ntwice"),
        ('<h2>Late</h2><img src="a.png"><em>again</em>', "Lateagain"),
        ("2 < 3", "2 < 3"),
        ("<style>p {}</style><!-- hidden -->", ""),
    ],
)
def test_what_is_known_to_be_markup_is_read_without_it(text: str, plain: str) -> None:
    assert from_markup(text) == plain


@given(ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_any_text_may_be_called_markup(text: str) -> None:
    assert isinstance(from_markup(text), str)


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


PIECES = st.sampled_from(
    [
        "> We are looking into it\n",
        ">:(",
        "On Mon, 3 Mar, Care <a@b.example> wrote:\n",
        "From: a\nSent: b\nTo: c\n",
        "-----Original Message-----\n",
        "_" * 40,
        "-- \n",
        "Regards,\n",
        "This e-mail is confidential",
        "Out of office: ",
        "<p>",
        "</div>",
        "<br/>",
        "<script>",
        "<![x",
        "<!--",
        "<?xml version='1.0'?>",
        "&amp;amp;lt;",
        "&#xD800;",
        "&#0;",
        "\x00",
        "\ud800",
        "\u202e",
        "\u200b",
        "\u200d",
        "שלום ",
        "â€™",
        "😡",
        "\r\n",
        "\n\n",
        "4111 1111 1111 1111 ",
        "word ",
    ]
)
INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join), st.sampled_from(["chat", "email"]))
@settings(max_examples=300, deadline=None)
def test_any_mixture_of_mail_markup_and_noise_can_be_cleaned(text: str, channel: str) -> None:
    cleaned = clean(text, channel)
    assert not INVISIBLE.search(cleaned.text)
    assert cleaned.text == cleaned.text.strip()
    assert all(cut.text.strip() for cut in cleaned.cuts)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("&lt;p&gt;I hate&lt;br&gt;waiting&lt;/p&gt;", "I hate\nwaiting"),
        ("<div>First</div><div>second</div>", "First\n\nsecond"),
        ("hi<script>alert(1)</script><style>p {}</style> there", "hi there"),
        ("<?xml version='1.0'?><p>hi</p>", "hi"),
        ("<!DOCTYPE html><html><body>hi</body></html>", "hi"),
        ("<p>hello <![x I am angry", "hello <![x I am angry"),
        ("<p>one<!-- [if mso]>x<![endif]-->two</p>", "onetwo"),
        ("CafÃ© cancelled", "Café cancelled"),
        ("so\u00adft, \ufeffmark, half \ud83d an emoji", "soft, mark, half  an emoji"),
        ("line\r\nby\rline", "line\nby\nline"),
        ("👩\u200d👧 stays a family", "👩\u200d👧 stays a family"),
    ],
)
def test_decoding_of_markup_and_broken_characters(text: str, plain: str) -> None:
    assert decode(text) == plain


HEADER = "On Mon, 3 Mar 2025 at 10:11, Care <care@shop.example> wrote:"


@pytest.mark.parametrize(
    "history",
    [
        f"{HEADER}\n> Please restart it.\n> Kind regards",
        "On Mon, 3 Mar 2025 at 10:11, The Support Team of the Shop\n<care@shop.example> wrote:\n\n> Please restart it.",
        "From: Care <care@shop.example>\nSent: Monday, March 3, 2025 10:11\nTo: Anna\nSubject: Re: TV\n\nRestart it.",
        "-----Original Message-----\nFrom: Care\nSent: Monday\nTo: Anna\nSubject: Re: TV\n\nPlease restart it.",
        "________________________________\nFrom: Care\nSent: Monday\nTo: Anna\nSubject: Re: TV\n\nPlease restart it.",
        "> Please restart it.\n>> It is broken",
    ],
)
@pytest.mark.parametrize("message", ["It is still dead.", "It is still dead,  \nas I told you.  "])
def test_quoted_history_is_cut_and_kept_for_display(message: str, history: str) -> None:
    cleaned = clean(f"{message}\n\n{history}", "email")
    assert cleaned.text.split() == message.split()
    (cut,) = cleaned.cuts
    assert cut.kind == "quoted"
    assert "estart it." in cut.text
    assert "care@shop.example" not in cut.text


def test_an_answer_below_its_quote_is_the_message() -> None:
    cleaned = clean(f"{HEADER}\n> Did you restart it?\n\nYes, twice.\n> And the cable?\nThat too.", "email")
    assert cleaned.text.split("\n") == ["Yes, twice.", "That too."]
    assert [cut.text.split("\n")[-1] for cut in cleaned.cuts] == ["> Did you restart it?", "> And the cable?"]


@pytest.mark.parametrize("text", ["> 2 weeks and nothing", ">:( answer me", "->> this way"])
def test_a_message_is_no_quote_for_beginning_like_one(text: str) -> None:
    assert clean(text, "chat").text == text


@pytest.mark.parametrize(
    "signature",
    [
        "Kind regards,\nAnna Berg\nHead of Nothing\n+1 202-555-0143",
        "Best,\nAnna",
        "Thanks,\nAnna",
        "-- \nAnna Berg\nAcme Ltd, 221 Baker Street",
        "Sent from my iPhone",
    ],
)
def test_a_signature_is_cut_and_a_list_above_it_is_not(signature: str) -> None:
    cleaned = clean(f"The list again:\n- no wifi\n- no tv\n\n{signature}", "email")
    assert cleaned.text == "The list again:\n- no wifi\n- no tv"
    (cut,) = cleaned.cuts
    assert cut.kind == "signature"
    assert cut.text.split("\n")[0] == signature.split("\n")[0].strip()
    assert not re.search(r"\d{3}", cut.text)


@pytest.mark.parametrize("text", ["Thanks", "Regards from a very unhappy person", "Best,\nAnna", "--\nAnna"])
def test_a_message_that_is_all_closing_is_kept(text: str) -> None:
    assert clean(text, "email").text == text


@pytest.mark.parametrize(
    "disclaimer",
    [
        "This e-mail and any attachments are confidential and intended solely for the addressee.",
        "CONFIDENTIALITY NOTICE: this email may be read by Anna only.",
        "If you are not the intended recipient, delete it and call +1 202-555-0143.",
        "Please consider the environment before printing.",
    ],
)
def test_disclaimers_are_kept_for_display(disclaimer: str) -> None:
    cleaned = clean(f"The fee is wrong again.\n\n{disclaimer}", "email")
    assert cleaned.text == "The fee is wrong again."
    assert cleaned.cuts == (Cut("disclaimer", disclaimer.replace("+1 202-555-0143", "[PHONE]")),)


def test_cuts_stand_in_order_of_appearance() -> None:
    assert kinds(f"> Is it on?\nNo.\n\nRegards,\nAnna\n\n{HEADER}\n> Please restart it.") == [
        "quoted",
        "signature",
        "quoted",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Automatic reply: I will be back on Monday",
        "[Automatic response] We received your e-mail",
        "Out of office: mail me at anna@shop.example later",
        "I am currently out of the office and will be back on Monday.",
        "I am on parental leave until 1 September.",
        "I'm away until Friday, for urgent matters call Bob.",
        "This is an automated message. Please do not reply.",
    ],
)
@pytest.mark.parametrize("channel", ["email", "chat"])
def test_an_auto_reply_is_kept_for_display(text: str, channel: str) -> None:
    cleaned = clean(text, channel)
    assert cleaned.text == ""
    (cut,) = cleaned.cuts
    assert cut == Cut("auto_reply", text.replace("anna@shop.example", "[EMAIL]"))


@pytest.mark.parametrize(
    "text",
    [
        "I am away from home and my card was stolen, it is urgent",
        "I am on sick leave and need my money back now",
        "I am out of the office because your app broke my laptop!",
        "I'm away until Friday, please do not deliver before that",
        "Out of office hours nobody answers, terrible",
        "Automatic response again? I want a human",
        "This is an automated message again, let me talk to a person",
    ],
)
def test_a_customer_who_speaks_of_absence_or_robots_is_heard(text: str) -> None:
    assert clean(text, "email").text == text


@pytest.mark.parametrize(
    "text", ["From: London to Paris, all late", "My boss wrote:\nbuy it. I did, it broke.", "Thanks,\nbut it broke"]
)
def test_a_chat_message_is_not_taken_for_mail(text: str) -> None:
    cleaned = clean(text, "chat")
    assert (cleaned.text, cleaned.cuts) == (text, ())


def test_personal_data_is_redacted_after_decoding() -> None:
    hidden = "mail anna&#64;shop.example, card 4111\u200b 1111 1111 1111"
    assert clean(hidden, "chat").text == "mail [EMAIL], card [CARD]"


@pytest.mark.parametrize("text", ["my USB port", "my [PHONE] and [NATIONAL_ID]", "too good", "1000000 times"])
def test_the_tokenizer_is_given_plain_words_as_they_are(text: str) -> None:
    assert normalise(text) == text


HOSTILE = {
    "breaks": "<br>" * 25_000,
    "open comments": "<p><!--" * 14_000,
    "declarations": "<p><?" + "<!" * 49_000,
    "ids": "1234567! " + "ab " * 33_000,
    "blank lines": "> abc\n" + "\n" * 99_000 + "x",
    "wide gap": "> abc\nx" + " " * 99_000 + "y",
    "a long line": "> abc\nOn " + "a " * 49_000,
    "a long quoted line": "> abc\n" + "> On a " * 14_000,
    "signatures": "x\nregards\n" + "Sent from my a b c" * 5_000,
    "headers": "On a wrote:\n" + "On a\n" * 19_000,
    "separators": "> abc\n" + ("_" * 33 + "\n\n") * 2_800,
    "warnings": "> abc\n" + ". Warning: " * 9_000,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hundred_thousand_hostile_characters_take_no_time(name: str) -> None:
    assert isinstance(normalise(clean(HOSTILE[name], "email").text), str)
    assert isinstance(from_markup(HOSTILE[name]), str)
