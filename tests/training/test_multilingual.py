"""Another encoder by its path: XLM-R's kind, with `<s> </s> <pad>`, one segment, and languages beside English."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import XLMRobertaConfig, XLMRobertaModel

from pipeline.bundle import Bundle, load_bundle
from pipeline.conversation import Conversation, Turn
from serving.policy import load_policy
from serving.scorer import Scorer, last_turn
from tests.conftest import Workshop, copy_project

LANGUAGES = ["en", "fr", "pt", "de"]
FRENCH = "Bonjour, ma liseuse ne s'allume plus depuis hier soir et personne ne répond à mes messages !"
SENTENCES = [
    FRENCH,
    "where is my order? I want a manager ^ customer: agent: [NAME]",
    "Onde está a minha encomenda? Já estou à espera há três semanas.",
    "Wo bleibt mein Paket? Ich warte schon seit drei Wochen darauf.",
]
RUN = """
from pipeline import ingest, prepare
from training import abstention, calibrate, cards, evaluate, export, train

for stage in (ingest, prepare, train, calibrate, evaluate, export, abstention, cards):
    stage.main()
"""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder as a hub would hand it over, its pooler included."""
    folder = tmp_path_factory.mktemp("multilingual")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        SENTENCES, trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=130,
        type_vocab_size=1,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    return folder


def thin_out(folder: Path, step: int) -> None:
    """Keep one line in `step` of every file."""
    for path in folder.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[::step]), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The pipeline's stages, run one after another on a part of the corpus."""
    workshop = copy_project(tmp_path_factory.mktemp("workshop"))
    thin_out(workshop.root / "corpus" / "conversations", step=10)
    (workshop.root / "corpus" / "blind.jsonl").write_text("", encoding="utf-8")
    workshop.configure("train.yaml", "encoder", name=str(encoder), sha256=None)
    workshop.configure("train.yaml", "train", epochs=1)
    workshop.configure("train.yaml", "evaluate", bootstrap=2)
    workshop.configure(
        "train.yaml", "export", languages=LANGUAGES, max_label_disagreement=0.2, max_ece_shift=0.2
    )  # a random encoder leaves it undecided
    workshop.run(sys.executable, "-c", RUN)
    return workshop


@pytest.fixture(scope="module")
def multilingual(trained: Workshop) -> Bundle:
    return load_bundle(trained.root / "build" / "bundle")


def ask(bundle: Bundle, *texts: str) -> str | None:
    """Why the last of a customer's messages is not judged; None where it is."""
    conversation = Conversation(id="c", turns=tuple(Turn(role="customer", text=text) for text in texts))
    answer = Scorer(bundle, load_policy(bundle.card.labels)).score(last_turn(conversation))[0]
    assert (answer.sentiment is None) == (answer.abstained is not None)
    return answer.abstained.reason if answer.abstained else None


def test_the_bundle_names_encoder_and_languages(multilingual: Bundle, encoder: Path) -> None:
    assert multilingual.card.encoder == str(encoder)
    assert list(multilingual.card.languages) == LANGUAGES


@pytest.mark.parametrize("text", SENTENCES)
def test_a_validated_language_is_judged(multilingual: Bundle, text: str) -> None:
    assert ask(multilingual, text) is None
    assert ask(multilingual, text, "ok") is None


def test_other_languages_are_still_refused(multilingual: Bundle) -> None:
    assert ask(multilingual, "Где моя посылка? Я жду её уже три недели подряд.") == "language"


def test_the_same_bundle_validated_on_english_alone_refuses_french(multilingual: Bundle) -> None:
    english = replace(multilingual, card=multilingual.card.model_copy(update={"languages": ("en",)}))
    assert ask(english, FRENCH) == "language"
    assert ask(english, FRENCH, "oui") == "language"


def test_the_cards_tell_of_it(trained: Workshop, encoder: Path) -> None:
    card = (trained.root / "metrics" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"encoder: `{encoder}`" in card
    assert "validated on: en, fr, pt, de" in card


def test_a_message_fills_the_whole_encoding(multilingual: Bundle) -> None:
    assert ask(multilingual, FRENCH * 20, FRENCH * 20) is None
