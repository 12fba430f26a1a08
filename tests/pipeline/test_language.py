import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.language import identify, primary


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "Where is my parcel? I have been waiting for three weeks now."),
        ("de", "Wo bleibt mein Paket? Ich warte schon seit drei Wochen darauf."),
        ("fr", "Où est mon colis ? J'attends depuis trois semaines maintenant."),
        ("es", "¿Dónde está mi paquete? Llevo tres semanas esperando una respuesta."),
        ("pt", "Onde está a minha encomenda? Já estou à espera há três semanas."),
        ("ru", "Где моя посылка? Я жду её уже три недели подряд."),
        ("ja", "荷物はどこですか。もう三週間も待っています。"),
    ],
)
def test_languages_are_told_apart(code: str, text: str) -> None:
    found = identify(text)
    assert found is not None
    assert found.code == code
    assert found.probability > 0.5
    assert (found.among(["en"]) > 0.5) == (code == "en")


@pytest.mark.parametrize(
    "text", ["", "ok", "4411 - 2290", "😡😡😡", "https://shop.example/a/very/long/way", "@care #NAME#"]
)
def test_of_too_few_letters_nothing_is_claimed(text: str) -> None:
    assert identify(text) is None


@pytest.mark.parametrize("noise", ["https://boutique.example/colis @service", "#NAME# #PRS_ORG#", "😡 12345 !!!"])
def test_what_is_no_language_does_not_sway(noise: str) -> None:
    found = identify(f"{noise} Where is my parcel? I am waiting for weeks.")
    assert found is not None
    assert found.code == "en"


def test_shouting_is_the_same_language() -> None:
    found = identify("WHERE IS MY PARCEL? I HAVE BEEN WAITING FOR THREE WEEKS!")
    assert found is not None
    assert found.code == "en"


def test_several_languages_count_together_and_regions_do_not_matter() -> None:
    found = identify("Où est mon colis ? J'attends depuis trois semaines maintenant.")
    assert found is not None
    assert found.among(["en", "fr-CA", "fr"]) == pytest.approx(found.among(["en"]) + found.probability)


@pytest.mark.parametrize(("tag", "code"), [("pt-BR", "pt"), (" FR ", "fr"), ("zh_Hant", "zh"), ("de", "de")])
def test_the_language_of_a_tag(tag: str, code: str) -> None:
    assert primary(tag) == code


@settings(deadline=None)
@given(text=st.text(st.characters(codec=None), max_size=600))
def test_any_text_has_a_language_or_none(text: str) -> None:
    found = identify(text)
    if found is not None:
        assert 0 < found.probability <= 1.001
        assert found.among(["en"]) <= found.probability


@pytest.mark.parametrize(
    ("text", "code"), [("退款在哪里啊我要退款", "zh"), ("где моя посылка", "ru"), ("أين طلبي", "ar")]
)
def test_another_script_is_told_from_few_letters(text: str, code: str) -> None:
    found = identify(text)
    assert found
    assert found.code == code
