"""Examples that the API's documentation shows."""

from __future__ import annotations

from typing import Any

REQUESTS: dict[str, Any] = {
    "one message": {"value": {"id": "m17", "text": "Third time I am writing. Still no refund."}},
    "a conversation": {
        "value": {
            "id": "c4",
            "channel": "chat",
            "turns": [
                {"role": "customer", "text": "My parcel was due on Monday."},
                {"role": "agent", "text": "Sorry to hear that! Could you give me the tracking number?"},
                {"role": "customer", "text": "I gave it to two of your colleagues already."},
            ],
        }
    },
    "many": {
        "value": {"conversations": [{"id": "m1", "text": "thanks, that worked!"}, {"id": "m2", "text": "locked out"}]}
    },
}

ANSWER: dict[str, Any] = {
    "id": "m17",
    "turn": 0,
    "sentiment": {
        "label": "negative",
        "score": -0.61,
        "probabilities": {
            "very_negative": 0.3,
            "negative": 0.63,
            "neutral": 0.06,
            "positive": 0.01,
            "very_positive": 0.0,
        },
    },
    "frustration": {"level": 2, "expected": 1.84, "probabilities": [0.05, 0.21, 0.6, 0.14]},
    "urgency": {"level": 1, "expected": 1.1, "probabilities": [0.1, 0.72, 0.16, 0.02]},
    "signals": {
        "escalation_request": 0.02,
        "churn_threat": 0.04,
        "public_or_legal_threat": 0.0,
        "repeat_contact": 0.97,
        "vulnerable": 0.0,
        "abuse": 0.01,
    },
    "satisfaction": {"expected": 1.9, "probabilities": [0.34, 0.46, 0.17, 0.02, 0.01]},
    "boil_over": 0.31,
    "priority": {"score": 62, "queue": "senior", "reasons": ["frustration_strong", "repeat_contact"]},
    "abstained": None,
    "model": {"version": "3", "bundle": "sha256:9f2c…"},
}
