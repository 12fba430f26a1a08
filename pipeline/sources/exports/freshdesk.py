"""Freshdesk: tickets with their conversations, as the API (`include=conversations`) and the account export give them.

The account export says `helpdesk_ticket` and `notes`, and calls the plain text `body` and the other `body_html`.
"""

from __future__ import annotations

from pipeline.conversation import Channel, Conversation, Role, Turn
from pipeline.sources.exports.desk import Desk, Reader, Row, conversation_of, each, said, time_of
from pipeline.sources.source import FormatChanged, check_fields, named
from pipeline.text import from_markup

CHANNELS: dict[object, Channel] = {3: "phone", 4: "social", 5: "social", 6: "social", 7: "chat", 8: "chat", 13: "chat"}
OUTBOUND = 10  # `source` of a ticket that an agent opened by writing first
_WRAPPERS = ("helpdesk_ticket", "helpdesk_note", "note")


def reader(around: Row) -> Reader:
    """What reads a ticket; nothing around the tickets is looked at."""
    return _conversation


def _conversation(row: Row) -> Conversation | None:
    ticket = _unwrapped(row)
    key = "notes" if "notes" in ticket and "conversations" not in ticket else "conversations"
    check_fields(ticket, {"id": (int, str), key: list})
    source = ticket.get("source")
    turns = [said("agent" if source == OUTBOUND else "customer", _text(ticket, "description"), time_of(ticket))]
    for where, item in each(ticket, key):
        with named(where):
            turns.extend(_public(_unwrapped(item)))
    known = CHANNELS.get(source, "email") if isinstance(source, int) else "email"
    return conversation_of(ticket.get("display_id") or ticket["id"], known, turns)


def _unwrapped(row: Row) -> Row:
    return next((row[name] for name in _WRAPPERS if isinstance(row.get(name), dict)), row)


def _public(note: Row) -> list[Turn]:
    check_fields(note, {"private": bool})
    if note["private"]:
        return []
    check_fields(note, {"incoming": bool})
    return [said(_role(note), _text(note, "body"), time_of(note), note.get("id"))]


def _role(note: Row) -> Role:
    if note["incoming"]:
        return "customer"
    return "bot" if note.get("automation_id") else "agent"


def _text(row: Row, name: str) -> str:
    """The text without markup: the plain one where there is one."""
    marked = f"{name}_html" in row
    plain, html = (name, f"{name}_html") if marked else (f"{name}_text", name)
    given = {field: row[field] for field in (plain, html) if isinstance(row.get(field), str)}
    if not given:
        raise FormatChanged(f"{name}: missing or of another type")
    return given[plain] if given.get(plain, "").strip() else from_markup(given.get(html, ""))


DESK = Desk("tickets", reader)
