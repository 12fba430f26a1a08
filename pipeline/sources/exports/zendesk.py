"""Zendesk: tickets with their comments, as the API and the account's JSON export give them.

Who an author is, is told by the ticket's requester, then by `users`, where the file has them beside or in the tickets;
whoever is neither counts as an agent. A chat that Zendesk keeps as one comment stays one turn.
"""

from __future__ import annotations

from functools import partial

from pipeline.conversation import Channel, Conversation, Role, Turn
from pipeline.sources.exports.desk import Desk, Reader, Row, conversation_of, each, inside, said, time_of
from pipeline.sources.source import FormatChanged, check_fields, named
from pipeline.text import from_markup

ROLES: dict[str, Role] = {"end-user": "customer", "agent": "agent", "admin": "agent"}
SYSTEM = "-1"  # the author of what Zendesk itself writes
CHANNELS: dict[str, Channel] = {  # any other, "web" and "api" among them, is a letter
    **dict.fromkeys(("chat", "messaging", "native_messaging", "mobile_sdk", "sms", "whatsapp", "line"), "chat"),
    **dict.fromkeys(("telegram", "viber", "wechat", "slack_connect", "apple_business_chat"), "chat"),
    **dict.fromkeys(("twitter", "twitter_dm", "facebook", "instagram_dm", "any_channel", "forum"), "social"),
    **dict.fromkeys(("voice", "phone", "phone_call_inbound", "phone_call_outbound", "voicemail"), "phone"),
}
_BODIES = ("plain_body", "body", "html_body")


def reader(around: Row) -> Reader:
    """What reads a ticket, given the object that holds the tickets and perhaps their users."""
    return partial(_conversation, _roles(around))


def _roles(row: Row) -> dict[str, Role]:
    if row.get("users") is None:
        return {}
    users = {str(user.get("id")): str(user.get("role")) for _, user in each(row, "users")}
    return {user: ROLES[role] for user, role in users.items() if role in ROLES}


def _conversation(roles: dict[str, Role], ticket: Row) -> Conversation | None:
    check_fields(ticket, {"id": (int, str), "comments": list})
    if "users" in ticket:
        roles = roles | _roles(ticket)
    turns = []
    for where, comment in each(ticket, "comments"):
        with named(where):
            check_fields(comment, {"public": bool})
            if comment["public"]:
                turns.append(_turn(comment, ticket, roles))
    channel = CHANNELS.get(str(inside(ticket, "via", "channel")), "email")
    return conversation_of(ticket["id"], channel, turns)


def _turn(comment: Row, ticket: Row, roles: dict[str, Role]) -> Turn:
    check_fields(comment, {"author_id": (int, str)})
    return said(_role(comment, ticket, roles), _text(comment), time_of(comment), comment.get("id"))


def _role(comment: Row, ticket: Row, roles: dict[str, Role]) -> Role:
    author, via = str(comment["author_id"]), str(inside(comment, "via", "channel"))
    if author == SYSTEM or via == "rule" or via.startswith("answer_bot"):
        return "bot"
    if author == str(ticket.get("requester_id")):
        return "customer"
    return roles.get(author, "agent")


def _text(comment: Row) -> str:
    """The comment without markup: the plain body where there is one."""
    given = {name: comment[name] for name in _BODIES if isinstance(comment.get(name), str)}
    if not given:
        raise FormatChanged("body: missing or of another type")
    name, text = next(((name, text) for name, text in given.items() if text.strip()), ("body", ""))
    return from_markup(text) if name == "html_body" else text


DESK = Desk("tickets", reader)
