"""What a trained model must know of language: more anger means more frustration, names mean nothing, and so on.

Each list was written for these tests and stands in no corpus. A briefly trained model may miss a case, so most of a
list must hold, not all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.conversation import Conversation, Turn
from serving.answers import Answer
from serving.scorer import Scorer, last_turn

ANGRIER = [
    ("Could you tell me when the plumber is coming?", "WHEN is your plumber coming?? I've asked FOUR times now!!"),
    ("My order has not arrived yet.", "My order STILL hasn't arrived. This is beyond a joke."),
    ("I would like to change my seat.", "Your useless staff can't even change a seat. Disgraceful."),
    ("The app closes when I open a photo.", "The app crashes AGAIN. Every single update makes this garbage worse."),
    ("Thank you for the quick answer!", "Thanks for nothing, another day wasted on your hotline."),
    ("I was charged 20 euros twice.", "You thieves charged me twice and nobody cares. I'm done with you."),
    ("How long does delivery take?", "How long does delivery take, a year?? It's been three weeks of excuses!"),
    ("Please send the invoice to this address.", "This is the fifth time I request the invoice. I expect it today."),
]
MORE_URGENT = [
    (
        "What are your opening hours at Christmas?",
        "I'm locked out of my flat at night with my baby, the key app is down",
    ),
    ("Love the new look of the website", "someone is emptying my account right now, block the card"),
    ("Last month's flight was a bit late.", "our flight boards in 40 minutes and check-in rejects the passport"),
    ("Do you also sell gift cards?", "insulin is in that parcel and he has none left for tonight"),
    ("just saying hi, great podcast", "all tills in our shop are down, we cannot take any payment since 8"),
    ("Thanks, that solved it.", "we are stranded at the station, last train cancelled, no hotel"),
]
WORSE_SENTIMENT = [
    ("Absolutely love this, best service ever!", "Absolutely hate this, worst service ever!"),
    ("I am happy with the answer.", "I am not happy with the answer."),
    ("Great, it works again!", "Great, it broke again."),
    ("You have been so helpful, thank you.", "You have been no help at all."),
    ("The crew was wonderful to my mum.", "The crew was rude to my mum."),
    ("Works like a charm now", "Worked for a day, now dead"),
]
SIGNALS = [
    ("escalation_request", "I want to speak to your manager now.", "My manager asked me to check the opening hours."),
    ("churn_threat", "I am cancelling my contract because of this and moving to a competitor.", "How do I add a line?"),
    ("public_or_legal_threat", "My lawyer will take you to court over this.", "Where do I find my invoice?"),
    (
        "repeat_contact",
        "I have written to you three times already and called twice.",
        "Hello, I have a first question.",
    ),
    ("vulnerable", "My husband is disabled and needs the machine to breathe.", "I need a new charger."),
    ("abuse", "You are a bunch of lying idiots.", "The remote has a blue button."),
]
SAME = [
    ("My order 48213 from {} has not arrived.", ("Rivello", "Marktplan", "Bo & Sons")),
    ("{} here, still waiting for my refund!", ("Anna", "Mohammed", "Wei", "Oluwaseun")),
    ("The flight to {} was cancelled today", ("Oslo", "Lagos", "Lima", "Perth")),
]


def score(scorer: Scorer, texts: Sequence[str]) -> list[Answer]:
    jobs = [
        job
        for number, text in enumerate(texts)
        for job in last_turn(Conversation(id=str(number), turns=(Turn(role="customer", text=text),)))
    ]
    return scorer.score(jobs)


def frustration(answer: Answer) -> float:
    assert answer.frustration is not None
    return answer.frustration.expected


def urgency(answer: Answer) -> float:
    assert answer.urgency is not None
    return answer.urgency.expected


def sentiment(answer: Answer) -> float:
    assert answer.sentiment is not None
    return answer.sentiment.score


def most(found: Sequence[bool]) -> bool:
    return sum(found) >= len(found) - 1


def test_anger_raises_frustration(scorer: Scorer) -> None:
    calm, angry = (score(scorer, texts) for texts in zip(*ANGRIER, strict=True))
    assert most([frustration(b) > frustration(a) + 0.3 for a, b in zip(calm, angry, strict=True)])


def test_anger_raises_priority(scorer: Scorer) -> None:
    calm, angry = (score(scorer, texts) for texts in zip(*ANGRIER, strict=True))
    assert most([b.priority.score > a.priority.score for a, b in zip(calm, angry, strict=True)])


def test_stakes_raise_urgency(scorer: Scorer) -> None:
    idle, pressing = (score(scorer, texts) for texts in zip(*MORE_URGENT, strict=True))
    assert most([urgency(b) > urgency(a) + 0.3 for a, b in zip(idle, pressing, strict=True)])


def test_sentiment_follows_the_meaning(scorer: Scorer) -> None:
    better, worse = (score(scorer, texts) for texts in zip(*WORSE_SENTIMENT, strict=True))
    assert most([sentiment(a) > sentiment(b) for a, b in zip(better, worse, strict=True)])


def test_signals_are_higher_where_they_are_expressed(scorer: Scorer) -> None:
    given, absent = (score(scorer, [case[index] for case in SIGNALS]) for index in (1, 2))
    pairs = zip((case[0] for case in SIGNALS), given, absent, strict=True)
    assert most([(a.signals or {})[name] > (b.signals or {})[name] for name, a, b in pairs])


@pytest.mark.parametrize(("template", "fillings"), SAME)
def test_names_and_places_never_cost_a_whole_level(scorer: Scorer, template: str, fillings: Sequence[str]) -> None:
    levels = [frustration(answer) for answer in score(scorer, [template.format(filling) for filling in fillings])]
    assert max(levels) - min(levels) < 1.0  # 0.5 is the aim; LOG.md says how far from it the model is


def test_what_was_said_before_matters(scorer: Scorer) -> None:
    last = Turn(role="customer", text="No.")
    calm = (Turn(role="customer", text="hi!"), Turn(role="agent", text="Hello! Anything else?"), last)
    tense = (
        Turn(role="customer", text="Third time I write. Nobody fixed it, this is ridiculous!!"),
        Turn(role="agent", text="Did the reset help this time?"),
        last,
    )
    calmly, tensely = scorer.score(
        [job for turns in (calm, tense) for job in last_turn(Conversation(id="c", turns=turns))]
    )
    assert frustration(tensely) > frustration(calmly)
    assert (tensely.boil_over or 0) > (calmly.boil_over or 0)
