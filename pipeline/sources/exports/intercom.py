"""Intercom: conversations with their parts, as the API and the data export give them.

Of what a team writes only the parts that the customer sees are read: a note, or a remark on an assignment, is private.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.conversation import Channel, Conversation, Role, Turn, writable
from pipeline.sources.exports.desk import Desk, Reader, Row, conversation_of, each, inside, said, time_of
from pipeline.sources.source import FormatChanged, check_fields, named
from pipeline.text import from_markup

ROLES: dict[str, Role] = {
    **dict.fromkeys(("user", "lead", "contact", "visitor"), "customer"),
    **dict.fromkeys(("admin", "team"), "agent"),
    "bot": "bot",
}
CHANNELS: dict[str, Channel] = {  # any other is a chat
    "email": "email",
    **dict.fromkeys(("facebook", "instagram", "twitter"), "social"),
    **dict.fromkeys(("phone_call", "phone_switch"), "phone"),
}
PUBLIC = ("comment", "open", "close", "quick_reply")
AUTOMATIC = ("automated", "campaigns_initiated", "operator_initiated")  # `delivered_as` of what no person sent


def reader(around: Row) -> Reader:
    """What reads a conversation; nothing around the conversations is looked at."""
    return _conversation


def _conversation(row: Row) -> Conversation | None:
    check_fields(row, {"id": (int, str), "source": dict, "conversation_parts": dict})
    turns = [_opening(row)]
    with named("conversation_parts."):
        turns.extend(_public(row["conversation_parts"]))
    return conversation_of(row["id"], CHANNELS.get(str(row["source"].get("type")), "chat"), turns)


def _opening(row: Row) -> Turn:
    source = row["source"]
    with named("source."):
        role = _role(source)
        automatic = role == "agent" and source.get("delivered_as") in AUTOMATIC
        opening = _turn(source, "bot" if automatic else role)
    return opening.model_copy(update={"at": time_of(row)})


def _public(parts: Row) -> Iterator[Turn]:
    for where, part in each(parts, "conversation_parts"):
        with named(where):
            check_fields(part, {"part_type": str})
            turn = _turn(part, _role(part)) if part.get("body") else None
        if turn and (part["part_type"] in PUBLIC or turn.role == "customer"):
            yield turn


def _role(part: Row) -> Role:
    check_fields(part, {"author": dict})
    kind = str(part["author"].get("type"))
    if kind not in ROLES:
        raise FormatChanged(f"author.type: {writable(kind[:40])!r} is none of {', '.join(ROLES)}")
    return "bot" if inside(part, "author", "from_ai_agent") is True else ROLES[kind]


def _turn(part: Row, role: Role) -> Turn:
    check_fields(part, {"body": (str, type(None))})
    return said(role, from_markup(part.get("body") or ""), time_of(part), part.get("id"))


DESK = Desk("conversations", reader)
