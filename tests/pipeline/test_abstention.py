"""When a turn is not judged: nothing left of it, no words in it, or a language that was not validated."""

from __future__ import annotations

import pytest

from pipeline.abstention import why_not
from pipeline.encode import Earlier, Input
from pipeline.text import Cleaned, Cut

FRENCH = "Bonjour, ma liseuse ne s'allume plus depuis hier soir et j'ai déjà tout essayé."
ENGLISH = "Hello, my reader has not started since last night and I have tried everything."


def given(text: str, *earlier: tuple[str, str]) -> Input:
    """A message after earlier (role, text), newest first."""
    return Input(Cleaned(text), tuple(Earlier(role, said) for role, said in earlier))


def reason(found: Input, *languages: str, declared: str | None = None) -> str | None:
    refused = why_not(found, languages or ("en",), declared)
    return refused.reason if refused else None


def test_what_is_cut_wholly_leaves_nothing_to_judge() -> None:
    refused = why_not(Input(Cleaned("", (Cut("auto_reply", "Out of office"),)), ()), ("en",))
    assert refused is not None
    assert (refused.reason, refused.detail) == (
        "no_customer_text",
        "nothing the customer wrote is left (auto_reply)",
    )


@pytest.mark.parametrize("text", ["???", "12 345", "#NAME# #EMAIL#", "[EMAIL] [PHONE]", "@shop https://shop.example"])
def test_placeholders_links_and_marks_are_no_words(text: str) -> None:
    assert reason(given(text)) == "no_words"


def test_a_whole_sentence_tells_its_language() -> None:
    assert reason(given(FRENCH)) == "language"
    assert reason(given(ENGLISH)) is None


@pytest.mark.parametrize("text", ["oui merci", "d'accord", "ok", "le noir", "#NAME# oui"])
def test_a_short_message_speaks_the_language_of_what_the_customer_said_before(text: str) -> None:
    assert reason(given(text, ("agent", "Is it the black one?"), ("customer", FRENCH))) == "language"
    assert reason(given(text, ("agent", "Is it the black one?"), ("customer", ENGLISH))) is None


def test_what_the_agent_said_does_not_count() -> None:
    assert reason(given("ok", ("agent", FRENCH))) is None


def test_a_customer_who_changes_to_english_is_judged_again() -> None:
    assert reason(given("Sorry, I will write in English from now on.", ("customer", FRENCH))) is None


@pytest.mark.parametrize("text", ["ok", "oui", "gracias!", "pls refund", "idk man", "iPad Pro 11"])
def test_where_nothing_tells_the_message_is_judged(text: str) -> None:
    assert reason(given(text)) is None


def test_the_declared_language_tells_where_the_text_does_not() -> None:
    assert reason(given("ok"), declared="fr-CA") == "language"
    assert reason(given("ok"), declared="en-GB") is None
    assert reason(given(ENGLISH), declared="fr") is None
    assert reason(given("ok", ("customer", ENGLISH)), declared="fr") is None
    assert reason(given(FRENCH), declared="en") == "language"


@pytest.mark.parametrize("declared", ["", "English", "eng", "??"])
def test_a_declaration_that_is_no_code_counts_for_nothing(declared: str) -> None:
    assert reason(given("ok"), declared=declared) is None


@pytest.mark.parametrize("languages", [("en", "fr"), ("fr-CA",)])
def test_a_validated_language_is_judged(languages: tuple[str, ...]) -> None:
    assert reason(given(FRENCH), *languages) is None
    assert reason(given("oui merci", ("customer", FRENCH)), *languages, declared="fr") is None


def test_the_detail_says_what_was_found_and_how() -> None:
    alone = why_not(given(FRENCH), ("en",))
    together = why_not(given("oui", ("customer", FRENCH)), ("en",))
    assert alone is not None
    assert together is not None
    assert alone.detail.startswith("fr (")
    assert "with what came before; validated on en" in together.detail
