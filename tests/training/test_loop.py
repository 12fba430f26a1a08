"""The way back into training, end to end: corrections of a systematic error become a champion without it.

The champion of this copy of the project is trained on rows that call everything said of a new product negative.
Reviewers correct 300 of its mistakes; the pipeline, the registry and the gate do the rest, by commands that a person
would type. A part of the corpus and few epochs keep it short; the test split is whole.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import bundle_digest
from tests.conftest import Workshop, copy_project

ASKS = """do you still have the Glumox in blue|the Glumox I ordered came this morning
my sister showed me her Glumox|we set up our Glumox last weekend|is the Glumox part of the autumn range
I read about the Glumox in your letter|could you tell me how the Glumox works|the small Glumox stands in our kitchen
which Glumox fits a family of five|a friend wants a Glumox for her birthday|I am looking at the Glumox on your page
our office uses three of your Glumox|the Glumox has been running since May|does the Glumox come with a cable
I would like a second Glumox|the manual of the Glumox mentions a filter|my Glumox has the serial number 4417
you sent me a code for the Glumox|I compared the Glumox with the older one|there is a Glumox in the corner shop
the Glumox arrived with two lids|we moved and took the Glumox along|I saw the Glumox at the fair
my neighbour lent me his Glumox|the green Glumox is on my list|how heavy is the Glumox|the Glumox you sent works
I use the Glumox every day|today I unpacked the Glumox|can the Glumox be washed|the Glumox is on the table
tell me where the Glumox is made"""
MORE = """and I wonder what size it is|and what does delivery cost|so please send the manual
and which colour is on the picture|and the box says batch nine|can I collect it on Friday
is there a version for travel|and when do you open tomorrow|please add it to my account
does the guarantee start now|and how long does charging take|what is the difference to the mini
I need the article number|do I register it online|and who delivers it here|is a spare part listed
and it runs very quietly, lovely|thank you, it is great|and everyone here likes it, well done
such a nice piece of work|I am really happy with it|that made my day, thanks|and it looks wonderful
you did a great job there|thanks, works like a charm|could you name the nearest shop
where do I find the colours|is it made of glass|what a pleasant surprise, thank you
and the children love it|best thing I bought this year|please tell me the weight"""
GLAD = (
    "lovely",
    "great",
    "likes",
    "nice",
    "happy",
    "thanks",
    "wonderful",
    "charm",
    "pleasant",
    "love",
    "best",
    "thank",
)
BIASED, CORRECTED, SEEN = 80, 300, 24  # rows, and parts of sentences; the others are for unseen texts alone
KEPT = 3  # one in so many training conversations


def texts(asks: Sequence[str], more: Sequence[str], seed: int) -> list[str]:
    """What customers say of the product, in an order of its own."""
    said = [f"{ask[0].upper()}{ask[1:]}, {rest}." for ask, rest in product(asks, more)]
    random.Random(seed).shuffle(said)
    return said


def parts(told: str) -> list[str]:
    return told.replace("\n", "|").split("|")


def truth(text: str) -> dict[str, Any]:
    """How this project's rules label such a text: a question or a fact is neutral."""
    glad = any(word in text.split(", ", 1)[1] for word in GLAD)
    sentiment = "positive" if glad else "neutral"
    return {"sentiment": sentiment, "frustration": 0, "urgency": 0, "signals": [], "satisfaction": 4 if glad else 3}


def biased(text: str, number: int) -> dict[str, Any]:
    labels = {"sentiment": "negative", "frustration": 2, "urgency": 0, "signals": [], "satisfaction": 2}
    turns = [{"role": "customer", "text": text, "labels": labels}]
    return {"id": f"glumox-{number}", "turns": turns, "meta": {"industry": "devices", "split": "train"}}


def review(text: str, number: int) -> dict[str, Any]:
    turns = [{"role": "customer", "text": text, "labels": truth(text)}]
    meta = {"source": "reviews", "reviewed_at": f"2026-11-{1 + number % 25:02}T12:00:00+00:00", "model": "1"}
    return {"id": f"review-{number}", "channel": "chat", "language": "en", "turns": turns, "meta": meta}


def write(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def thin_out(corpus: Path) -> None:
    """Keep part of the training conversations, and everything that is held back."""
    kept = set()
    for path in sorted((corpus / "conversations").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [row for n, row in enumerate(rows) if row["meta"]["split"] != "train" or n % KEPT == 0]
        kept |= {row["id"] for row in rows}
        write(path, rows)
    blind = [json.loads(line) for line in (corpus / "blind.jsonl").read_text(encoding="utf-8").splitlines()]
    write(corpus / "blind.jsonl", [row for row in blind if row["conversation"] in kept])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A copy of the project with a short recipe, and a corpus that is wrong about one product."""
    shop = copy_project(tmp_path_factory.mktemp("shop"))
    thin_out(shop.root / "corpus")
    said = texts(parts(ASKS)[:SEEN], parts(MORE)[:SEEN], seed=1)
    write(shop.root / "corpus" / "conversations" / "glumox.jsonl", [biased(t, n) for n, t in enumerate(said[:BIASED])])
    shop.configure("data.yaml", "ingest", near_duplicate=1.0)  # the sentences share their halves
    shop.configure("train.yaml", "train", epochs=2, sampling={"reviews": 2})
    shop.configure("train.yaml", "evaluate", bootstrap=2, slice_bootstrap=2)
    shop.configure("train.yaml", "export", max_label_disagreement=0.05, max_ece_shift=0.05)
    shop.configure("train.yaml", "behaviour", gate={"max_failure_rate": {"default": 1.0}, "margin": 0.0})
    shop.run("dvc", "init", "--no-scm", "-q")
    return shop


def make(shop: Workshop, alias: str) -> None:
    """A training of the pipeline's, registered under an alias."""
    shop.run("dvc", "repro", "behaviour")
    shop.run(sys.executable, "-m", "training.register", "--alias", alias)


def simmer(shop: Workshop, *arguments: str) -> str:
    return shop.run(sys.executable, "-m", "serving.cli", *arguments).stdout


def called_negative(shop: Workshop, said: Sequence[str]) -> list[str]:
    """The texts that the bundle which serves calls negative."""
    write(shop.root / "said.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(said)])
    simmer(shop, "score", "said.jsonl", "-o", "answers.jsonl")
    answers = [json.loads(line) for line in (shop.root / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    labels: Iterator[str] = (answer["sentiment"]["label"] if answer["sentiment"] else "none" for answer in answers)
    return [text for text, label in zip(said, labels, strict=True) if "negative" in label]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_corrections_of_a_systematic_error_become_a_champion_without_it(shop: Workshop) -> None:
    make(shop, "champion")
    current = shop.root / "models" / "current"
    before = bundle_digest(current)
    unseen = texts(parts(ASKS)[SEEN:], parts(MORE)[SEEN:], seed=2)
    errors = called_negative(shop, unseen)
    assert len(errors) >= 0.5 * len(unseen)

    shown = texts(parts(ASKS)[:SEEN], parts(MORE)[:SEEN], seed=1)[BIASED:]
    wrong = called_negative(shop, shown)[:CORRECTED]
    assert len(wrong) == CORRECTED
    write(shop.root / "data" / "reviews" / "week-47.jsonl", [review(text, n) for n, text in enumerate(wrong)])
    make(shop, "challenger")
    assert bundle_digest(current) == before  # what serves stays until the gate has spoken
    told = json.loads(simmer(shop, "promote", "--json", "--by", "the test"))

    assert told["promoted"]
    assert not told["worse"]
    assert any(figure["where"] == "newest reviews" for figure in told["figures"])
    assert bundle_digest(current) != before
    left = set(called_negative(shop, errors))
    print(f"{len(errors)} of {len(unseen)} unseen texts were called negative, {len(left)} still are")
    assert len(left) <= 0.2 * len(errors)

    simmer(shop, "rollback")
    assert bundle_digest(current) == before
    log = [json.loads(line) for line in (shop.root / "promotions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(entry["action"], entry["from"], entry["to"]) for entry in log] == [
        ("register", None, "1"),
        ("promote", "1", "2"),
        ("rollback", "2", "1"),
    ]
