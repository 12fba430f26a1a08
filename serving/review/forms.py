"""What a reviewer sends: a verdict on a conversation and on any of its messages, as JSON or as a page's form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field, ValidationError

from pipeline.vocabulary import Head, Labels
from serving.live.bodies import MOST_TURNS, Body, Identifier, Text

LONGEST_NOTE = 2_000
LONGEST_REVIEW = 86_400  # seconds; whoever leaves a page open all day did not review all day
_NUMBERED = re.compile(r"([a-z_]{1,40})-(\d{1,5})")


class VerdictInvalid(ValueError):
    """A verdict that says something that cannot be; `field` names where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class TurnVerdict(Body):
    """What a reviewer says of one customer's message: that the model is right, or the labels as they should be.

    Heads that are left out are not judged; no labels at all take back what the same reviewer said of the message.
    """

    message: Identifier
    agrees: bool = False
    labels: Labels | None = None


class VerdictForm(Body):
    """A reviewer's verdict on a conversation and on any of its messages, saved whole or not at all."""

    token: str = Field(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    turns: tuple[TurnVerdict, ...] = Field(default=(), max_length=MOST_TURNS)
    hot: bool | None = Field(default=None, description="whether the customer was hot at any time; null: not said")
    routing_right: bool | None = None
    note: Text | None = Field(default=None, max_length=LONGEST_NOTE)
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="from opening to saving")
    adjudicates: bool = Field(default=False, description="settles a dispute")

    @property
    def on_the_whole(self) -> bool:
        """Whether it says anything of the conversation as a whole."""
        return self.hot is not None or self.routing_right is not None or bool((self.note or "").strip())


_YES_NO = {"": None, "yes": True, "no": False, "right": True, "wrong": False}


def parse_form(fields: Iterable[tuple[str, str]], heads: Mapping[str, Head]) -> VerdictForm:
    """A form as a page sends it. Raises VerdictInvalid.

    token, seconds, note, adjudicates ("yes"), hot ("yes", "no", ""), routing ("right", "wrong", ""); and for the
    N-th message, N any number: message-N (its id), verdict-N ("agree", "correct", "withdraw", "" for none), and one
    field a head: sentiment-N (a value), frustration-N, urgency-N, satisfaction-N (a level; "" leaves it out), signals-N
    (a value, any number of times). Fields of other names are not looked at.
    """
    plain: dict[str, str] = {}
    numbered: dict[int, dict[str, list[str]]] = {}
    for name, value in fields:
        match = _NUMBERED.fullmatch(name)
        if match:
            numbered.setdefault(int(match[2]), {}).setdefault(match[1], []).append(value)
        else:
            plain[name] = value.strip()
    turns = [turn for place in sorted(numbered) if (turn := _turn(place, numbered[place], heads))]
    given = {
        "token": plain.get("token", ""),
        "turns": turns,
        "hot": _yes_no(plain, "hot"),
        "routing_right": _yes_no(plain, "routing"),
        "note": plain.get("note") or None,
        "seconds": _seconds(plain.get("seconds", "")),
        "adjudicates": plain.get("adjudicates") == "yes",
    }
    try:
        return VerdictForm.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise VerdictInvalid(".".join(map(str, first["loc"])), str(first["msg"])) from None


def _turn(place: int, given: Mapping[str, Sequence[str]], heads: Mapping[str, Head]) -> dict[str, object] | None:
    choice, message = given.get("verdict", [""])[-1], given.get("message", [""])[-1]
    if choice == "":
        return None
    if choice not in ("agree", "correct", "withdraw"):
        raise VerdictInvalid(f"verdict-{place}", "is agree, correct or withdraw")
    if choice == "agree":
        return {"message": message, "agrees": True}
    if choice == "withdraw":
        return {"message": message, "labels": {}}
    labels = {name: _label(f"{name}-{place}", head, given.get(name, [])) for name, head in heads.items()}
    return {"message": message, "labels": {name: label for name, label in labels.items() if label is not None}}


def _label(field: str, head: Head, given: Sequence[str]) -> object:
    if not head.exclusive:
        return tuple(value for value in given if value)
    value = given[-1] if given else ""
    if head.kind != "ordinal" or value == "":
        return value or None
    if not value.isascii() or not value.isdigit() or len(value) > 3:
        raise VerdictInvalid(field, "is a level")
    return int(value)


def _yes_no(plain: Mapping[str, str], field: str) -> bool | None:
    if plain.get(field, "") not in _YES_NO:
        raise VerdictInvalid(field, "is yes or no" if field == "hot" else "is right or wrong")
    return _YES_NO[plain.get(field, "")]


def _seconds(text: str) -> float | None:
    """What a page's clock says; a page that does not know it is not refused for that."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= LONGEST_REVIEW else None
