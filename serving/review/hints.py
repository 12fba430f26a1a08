"""The label rules at a reviewer's hand, a line a value. The whole rules are `corpus/LABELS.md`."""

from __future__ import annotations

from collections.abc import Mapping

RULES: Mapping[str, Mapping[str, str]] = {
    "sentiment": {
        "very_negative": "contempt, outrage, insult, a sweeping condemnation",
        "negative": "that something is wrong, bad or disappointing is the point; sarcasm by what is meant",
        "neutral": "information, a question, a request, an answer; a problem told because help needs it; bare thanks",
        "positive": "thanks with warmth, relief, approval",
        "very_positive": "delight, strong praise, a recommendation",
    },
    "frustration": {
        "none": "no irritation is expressed, even where there is a problem",
        "mild": "disappointment, impatience, a sigh; the first repeat of a question; a complaint made calmly",
        "strong": "exasperation, blame, repeated failure pointed out, “again”, “still”, cold politeness, sarcasm",
        "severe": "hostility, insult, ultimatum, a heated threat, giving up in anger; a threat made drily is strong",
    },
    "urgency": {
        "low": "nothing is lost by waiting: thanks, feedback, chat, a general question, a closing",
        "normal": "an ordinary problem or request; an answer to a question keeps the urgency of the open matter",
        "high": "a deadline within about a day; blocked from travel, work, money or a paid service; a loss that grows",
        "critical": "harm or heavy loss within hours: stranded, safety, health, fraud in progress, a business stopped",
    },
    "signals": {
        "escalation_request": "asks for a manager, a human, a formal complaint, a call from someone senior",
        "churn_threat": "will cancel, leave, switch, or did so because of this; a plain cancellation is none",
        "public_or_legal_threat": "lawyer, regulator, court, ombudsman, chargeback, press, telling everyone",
        "repeat_contact": "asked, wrote, called, tried or waited before about this, and says so",
        "vulnerable": "health, disability, bereavement, a child or an elderly person, money hardship, danger",
        "abuse": "insult or obscenity at people or at the company as “you”; harsh words on a product are sentiment",
    },
    "satisfaction": {
        "1": "asked now, would rate the contact very bad",
        "2": "bad",
        "3": "neither, or nothing to rate yet",
        "4": "good",
        "5": "very good",
    },
}
