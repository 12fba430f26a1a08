"""The scorer answers in one shape, says when it will not judge, and nothing that a customer writes upsets it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.bundle import Bundle
from pipeline.conversation import MAX_TEXT, Channel, Conversation, Role, Turn
from pipeline.predictor import Predictor
from pipeline.vocabulary import Vocabulary, load_vocabulary
from serving.answers import Answer
from serving.policy import load_policy
from serving.scorer import Job, Scorer, every_turn, last_turn, waiting_minutes

BATCH_TOLERANCE = 0.02
"""How far a probability may move with a message's company in its batch.

Activations are quantised to int8 as they come, and a batch's padding changes the order in which floats are added up:
a value on the edge between two of 256 steps then falls to the other side. Most answers do not move at all; over 891
customer turns of the corpus the furthest moved by 0.0064. Three times that, and well within the 0.05 by which a
golden input may drift."""

ROUNDING = 0.00005  # answers carry four decimals
CHANNELS: tuple[Channel, ...] = ("chat", "email", "social", "phone")

SENTIMENTS = ["very_negative", "negative", "neutral", "positive", "very_positive"]
SIGNALS = ["escalation_request", "churn_threat", "public_or_legal_threat", "repeat_contact", "vulnerable", "abuse"]
KEYS = ["id", "turn", "sentiment", "frustration", "urgency", "signals", "satisfaction", "boil_over", "priority"]
KEYS += ["abstained", "model"]
LEVEL = {"level": int, "expected": float, "probabilities": [float] * 4}
SHAPE = {
    "id": str,
    "turn": int,
    "sentiment": {"label": str, "score": float, "probabilities": dict.fromkeys(SENTIMENTS, float)},
    "frustration": LEVEL,
    "urgency": LEVEL,
    "signals": dict.fromkeys(SIGNALS, float),
    "satisfaction": {"expected": float, "probabilities": [float] * 5},
    "boil_over": float,
    "priority": {"score": int, "queue": str, "reasons": list},
    "abstained": type(None),
    "model": {"version": str, "bundle": str},
}

MESSAGES = [
    "Where is my parcel? It was due on Monday.",
    "thanks, that worked!",
    "This is the THIRD time I am writing. You lot are useless, I want a manager NOW!!",
    "My elderly mother is locked out and it is freezing, please hurry",
    "I'm cancelling and you will hear from my lawyer. " * 12,
    "ok",
    "Could you send me last month's invoice? No rush :)",
    "Still no refund after 6 weeks 😡😡",
]
ABSTAINED: list[tuple[str, Channel, str]] = [
    ("Bonjour, je n'ai toujours pas reçu mon colis et personne ne répond à mes messages.", "chat", "language"),
    ("Hola, todavía no he recibido mi pedido y nadie contesta el teléfono.", "social", "language"),
    ("Guten Tag, mein Paket ist immer noch nicht angekommen und niemand antwortet mir.", "email", "language"),
    ("注文した商品がまだ届いていません。返事もありません。どうなっていますか。", "chat", "language"),
    ("😡😡😡", "chat", "no_words"),
    ("???", "chat", "no_words"),
    ("12345", "phone", "no_words"),
    ("https://example.com/orders/1", "chat", "no_words"),
    ("@TransMerid", "social", "no_words"),
    ("@TransMerid https://t.co/x1", "social", "no_words"),
    ("", "chat", "no_customer_text"),
    (" \t\r\n ", "chat", "no_customer_text"),
    ("\u200b\u200e\ufeff", "chat", "no_customer_text"),
    ("Automatic reply: I am out of the office until 3 May and will answer then.", "email", "no_customer_text"),
    ("> Dear customer,\n> your order has shipped.", "email", "no_customer_text"),
]
WILD = {
    "null bytes": "\0" * MAX_TEXT,
    "right to left": "\u202eabc\u202c" * 20_000,
    "zero width": "h\u200de\u200bl\u200clo" * 12_500,
    "one word": "a" * MAX_TEXT,
    "spaces": " " * (MAX_TEXT - 1) + "x",
    "combining": "Z" + "\u0335" * (MAX_TEXT - 1),
    "emoji": "🧨" * MAX_TEXT,
    "markup": "<div>" * 20_000,
    "entities": "&amp;" * 20_000,
    "quotes": "\n>" * 50_000,
    "addresses": "a@b.co " * 14_000,
    "digits": "4" * MAX_TEXT,
    "mojibake": "â€™" * 33_000,
    "words": "still no refund " * 6_250,
}


class Uniform:
    """An engine that knows nothing, at once."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.zeros((len(ids), self.size), dtype=np.float32)


def said(text: str, channel: Channel = "chat", **meta: Any) -> Conversation:
    return Conversation(id="c", channel=channel, turns=(Turn(role="customer", text=text),), meta=meta)


def talk(*turns: tuple[Role, str]) -> Conversation:
    return Conversation(id="c", turns=tuple(Turn(role=role, text=text) for role, text in turns))


def score(scorer: Scorer, conversation: Conversation) -> Answer:
    return scorer.score(last_turn(conversation))[0]


def numbers(value: object) -> list[float]:
    """Every float of an answer, in order."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, float) else []


def assert_shape(value: object, shape: object) -> None:
    if isinstance(shape, dict):
        assert isinstance(value, dict)
        assert list(value) == list(shape)
        for key, part in shape.items():
            assert_shape(value[key], part)
    elif isinstance(shape, list):
        assert isinstance(value, list)
        assert [type(part) for part in value] == shape
    else:
        assert isinstance(shape, type)
        assert type(value) is shape


def assert_sound(answer: Answer) -> None:
    """In order, finite, strict JSON, and either judged or abstained."""
    values = json.loads(json.dumps(answer.model_dump(), allow_nan=False))
    assert list(values) == KEYS
    assert 0 <= values["priority"]["score"] <= 100
    judged = [values[head] is not None for head in ("sentiment", "frustration", "urgency", "signals", "satisfaction")]
    assert set(judged) == {values["abstained"] is None}


def test_an_answer_has_the_shape_that_was_promised(bundle: Bundle) -> None:
    scorer = Scorer(replace(bundle, version="3"), load_policy(bundle.card.labels))
    answer = scorer.score(last_turn(said(MESSAGES[2])))[0]
    assert_shape(json.loads(answer.model_dump_json()), SHAPE)
    assert (answer.id, answer.turn, answer.model.version) == ("c", 0, "3")
    assert answer.model.bundle == bundle.digest


@pytest.mark.parametrize("text", MESSAGES)
def test_probabilities_are_probabilities(scorer: Scorer, text: str) -> None:
    answer = score(scorer, said(text))
    assert answer.sentiment
    assert answer.frustration
    assert answer.urgency
    assert answer.satisfaction
    assert answer.signals
    for part in (answer.frustration, answer.urgency, answer.satisfaction):
        assert sum(part.probabilities) == pytest.approx(1, abs=ROUNDING * len(part.probabilities))
        expected = sum(n * chance for n, chance in enumerate(part.probabilities, part is answer.satisfaction))
        assert part.expected == pytest.approx(expected, abs=ROUNDING * 20)
    assert sum(answer.sentiment.probabilities.values()) == pytest.approx(1, abs=ROUNDING * 5)
    assert -1 <= answer.sentiment.score <= 1
    assert max(answer.sentiment.probabilities, key=answer.sentiment.probabilities.__getitem__) == answer.sentiment.label
    everything = [answer.boil_over, *answer.signals.values(), *numbers(answer.sentiment.probabilities)]
    assert all(chance is not None and 0 <= chance <= 1 for chance in everything)


def test_answers_come_in_the_order_of_the_jobs(scorer: Scorer) -> None:
    texts = [text for pair in zip(MESSAGES, (a[0] for a in ABSTAINED), strict=False) for text in pair]
    jobs = [Job(said(text).model_copy(update={"id": f"m{n}"}), 0) for n, text in enumerate(texts)]
    answers = scorer.score(jobs)
    assert [answer.id for answer in answers] == [f"m{n}" for n in range(len(texts))]
    assert [answer.abstained is not None for answer in answers] == [False, True] * len(MESSAGES)


def test_a_batch_says_what_single_messages_do(scorer: Scorer) -> None:
    jobs = [Job(said(text), 0) for text in MESSAGES * 3]
    for job, together in zip(jobs, scorer.score(jobs), strict=True):
        alone = scorer.score([job])[0]
        assert numbers(together.signals) == pytest.approx(numbers(alone.signals), abs=BATCH_TOLERANCE)
        for head in ("frustration", "urgency", "satisfaction", "sentiment"):
            found, wanted = getattr(together, head).probabilities, getattr(alone, head).probabilities
            assert found == pytest.approx(wanted, abs=BATCH_TOLERANCE)
        assert together.boil_over == pytest.approx(alone.boil_over, abs=BATCH_TOLERANCE)
        assert together.priority.score == pytest.approx(alone.priority.score, abs=100 * BATCH_TOLERANCE)


def test_the_same_batch_gives_the_same_answers(scorer: Scorer) -> None:
    jobs = [Job(said(text), 0) for text in MESSAGES]
    assert scorer.score(jobs) == scorer.score(jobs)


def test_nothing_to_score_is_nothing(scorer: Scorer) -> None:
    assert scorer.score([]) == []


@pytest.mark.parametrize(("text", "channel", "reason"), ABSTAINED)
def test_it_abstains_and_says_why(scorer: Scorer, text: str, channel: Channel, reason: str) -> None:
    answer = score(scorer, said(text, channel))
    assert answer.abstained is not None
    assert answer.abstained.reason == reason
    assert answer.abstained.detail
    assert_sound(answer)
    policy = scorer.policy.config.abstained
    assert (answer.priority.score, answer.priority.queue) == (policy.score, policy.queue)
    assert answer.priority.reasons == [f"abstained_{reason}"]


@pytest.mark.parametrize(
    "text",
    [
        "ok",
        "no",
        "lol",
        "Thx!",
        "pls refund",
        "Ich liebe this phone but the charger is dead",
        "WTF",
        "idk man 😡",
        *MESSAGES,
    ],
)
def test_it_judges_english_however_short(scorer: Scorer, text: str) -> None:
    assert score(scorer, said(text)).abstained is None


def test_a_reply_above_quoted_mail_is_judged_without_it(scorer: Scorer) -> None:
    reply = "Thanks, all good now."
    quoted = reply + "\n\nOn 3 May 2024, Support <help@shop.example> wrote:\n> You useless idiots, I will sue you!"
    found, wanted = score(scorer, said(quoted, "email")), score(scorer, said(reply, "email"))
    assert found.sentiment == wanted.sentiment
    assert found.signals == wanted.signals


@pytest.mark.parametrize("role", ["agent", "bot", "system"])
def test_a_conversation_without_a_customer_is_not_judged(scorer: Scorer, role: Role) -> None:
    conversation = talk((role, "Hello?"), (role, "I am furious, get me a manager!"))
    for jobs in (last_turn(conversation), every_turn(conversation)):
        answers = scorer.score(jobs)
        assert [(a.turn, a.abstained.reason if a.abstained else None) for a in answers] == [(1, "no_customer_text")]


@pytest.mark.parametrize("role", ["agent", "bot", "system"])
def test_only_customer_turns_are_scored(scorer: Scorer, role: Role) -> None:
    conversation = talk(
        ("customer", "Hi, a question"), (role, "Go on"), ("customer", "Where is it?"), (role, "Furious!")
    )
    assert [answer.turn for answer in scorer.score(every_turn(conversation))] == [0, 2]
    assert [answer.turn for answer in scorer.score(last_turn(conversation))] == [2]


def test_what_is_said_later_changes_nothing(scorer: Scorer) -> None:
    before = talk(("customer", "Where is it?"))
    after = talk(("customer", "Where is it?"), ("bot", "I hate you all"), ("agent", "You are an idiot"))
    assert score(scorer, before) == score(scorer, after)


def test_what_was_said_before_counts(scorer: Scorer) -> None:
    calm = talk(("customer", "Thank you so much!"), ("customer", "And now?"))
    heated = talk(("customer", "You idiots lost my parcel AGAIN, third time!!"), ("customer", "And now?"))
    cool, hot = score(scorer, calm), score(scorer, heated)
    assert hot.boil_over != cool.boil_over
    assert hot.signals != cool.signals


@pytest.mark.parametrize("minutes", [600, 600.5, 10**400])
def test_waiting_raises_priority(scorer: Scorer, minutes: float) -> None:
    waited, fresh = score(scorer, said(MESSAGES[0], waiting_minutes=minutes)), score(scorer, said(MESSAGES[0]))
    assert waited.priority.score > fresh.priority.score
    assert scorer.policy.config.waiting.reason in waited.priority.reasons


@pytest.mark.parametrize("minutes", [None, True, "600", -600, -(10**400), math.nan, -math.inf, 0])
def test_a_wait_that_is_none_raises_nothing(scorer: Scorer, minutes: Any) -> None:
    assert waiting_minutes(said(MESSAGES[0], waiting_minutes=minutes)) == 0
    assert score(scorer, said(MESSAGES[0], waiting_minutes=minutes)) == score(scorer, said(MESSAGES[0]))


@pytest.mark.parametrize("channel", ["chat", "email"])
@pytest.mark.parametrize("name", WILD)
def test_huge_wild_messages_are_answered_soon(scorer: Scorer, name: str, channel: Channel) -> None:
    started = time.perf_counter()
    assert_sound(score(scorer, said(WILD[name][:MAX_TEXT], channel)))
    assert time.perf_counter() - started < 15  # a regular expression gone wrong takes minutes


FRAGMENTS = (
    *("\0", "\u202e", "\u200d", "\ufeff", "\x1b[31m", "\r\n", "\U0010ffff", "\\ud800", "{}"),
    *("<b>", "</div", "&lt;", "> ", "\nOn Mon, A wrote:\n", "--\n", "Out of office"),
    *("@a", "#NAME#", "https://x.y/?z", "a@b.co", "+1 212 555 0100", "GB82 WEST 1234 5698 7654 32", "[EMAIL]"),
    *("🧑\u200d🚀", "REFUND", "!!!!!!", "يا", "日本", "é" * 30, "no "),
)
fragments = st.sampled_from(FRAGMENTS)
wild_texts = st.lists(fragments | st.text(max_size=20), max_size=20).map("".join)
wild_turns = st.lists(
    st.tuples(st.sampled_from(["customer", "agent", "bot", "system"]), wild_texts), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(wild_turns, st.sampled_from(CHANNELS))
def test_nothing_that_is_written_upsets_it(scorer: Scorer, turns: Sequence[tuple[Role, str]], channel: Channel) -> None:
    conversation = talk(*turns).model_copy(update={"channel": channel})
    answers = scorer.score(every_turn(conversation))
    wanted = conversation.customer_turns() or [len(turns) - 1]
    assert [answer.turn for answer in answers] == wanted
    for answer in answers:
        assert_sound(answer)


def test_ten_thousand_turns_are_scored_in_bounded_time(scorer: Scorer) -> None:
    """Every tenth turn is the customer's: a thousand answers, at most 30 ms each."""
    turns: list[tuple[Role, str]] = [("agent", "Bear with me."), ("bot", "Typing…")] * 5_000
    turns[::10] = [("customer", f"Question {number}: any news?") for number in range(1_000)]
    conversation = talk(*turns)
    started = time.perf_counter()
    answers = scorer.score(every_turn(conversation))
    assert time.perf_counter() - started < 30
    assert [answer.turn for answer in answers] == list(range(0, 10_000, 10))


def test_ten_thousand_customer_turns_cost_little_beside_the_network(bundle: Bundle) -> None:
    """At most 2 ms a turn of reading, encoding and answering: work that grows with a turn's past takes far longer."""
    scorer = with_vocabulary(bundle, bundle.card.labels)
    conversation = talk(*(("customer", f"Question {number}: any news?") for number in range(10_000)))
    started = time.perf_counter()
    assert len(scorer.score(every_turn(conversation))) == 10_000
    assert time.perf_counter() - started < 20


def test_eight_threads_get_the_same_answers(scorer: Scorer) -> None:
    mixed = [said(text) for text in MESSAGES] + [said(text, channel) for text, channel, _ in ABSTAINED]
    batches = [[Job(conversation, 0) for conversation in mixed[start::4]] for start in range(4)]
    wanted = [scorer.score(jobs) for jobs in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scorer.score, batches * 10))
    assert found == wanted * 10


def with_vocabulary(bundle: Bundle, vocabulary: Vocabulary, all_heads: bool = False) -> Scorer:
    """A scorer over these heads whose network gives zeros."""
    calibration = bundle.card.calibration.model_copy(
        update={"scale": (1.0,) * vocabulary.size, "shift": (0.0,) * vocabulary.size}
    )
    predictor = Predictor(bundle.predictor.encoder, Uniform(vocabulary.size), vocabulary, calibration)
    card = bundle.card.model_copy(update={"labels": vocabulary})
    return Scorer(replace(bundle, card=card, predictor=predictor), load_policy(vocabulary), all_heads)


def test_auxiliary_heads_are_given_on_request_alone(bundle: Bundle) -> None:
    vocabulary = load_vocabulary()
    asked = score(with_vocabulary(bundle, vocabulary, all_heads=True), said("hello"))
    assert json.loads(asked.model_dump_json())["auxiliary"] == {
        "airline_sentiment": [0.3333] * 3,
        "complaint": [0.5],
        "emotion": [0.5] * 8,
        "goemotions": [0.5] * 28,
    }
    unasked = score(with_vocabulary(bundle, vocabulary), said("hello"))
    assert "auxiliary" not in json.loads(unasked.model_dump_json())
    assert unasked.model_copy(update={"auxiliary": asked.auxiliary}) == asked
