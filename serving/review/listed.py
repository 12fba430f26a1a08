"""The SQL of the list. First the ids, from what indexes hold, then the rows that are shown; nothing else is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, Select, and_, func, or_, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from serving.review.chosen import Chosen, FilterInvalid
from serving.store.schema import conversations, messages, requests, reviews, samples, verdicts

SEARCHED = 1_000  # conversations that a search looks at for one page
SEARCHED_AT_ONCE = 200
COUNTED = 1_000
SNIPPET = 160  # characters

Key = tuple[Any, ...]
"""Where a row stands in its list: (peak, id) by heat, (day, place, id) among what was drawn."""

_HEAT = (conversations.c.peak, conversations.c.id)
_DRAWN = (samples.c.day, samples.c.place, samples.c.conversation)


def cursor(key: Key) -> str:
    """A place in a list as text."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def cursor_of(text: str, chosen: Chosen) -> Key:
    """The place that `cursor` wrote for such a list. Raises FilterInvalid."""
    kinds = (str, float, str) if chosen.of == "sampled" else (int, str)
    try:
        key = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        raise FilterInvalid("after", "is no place in a list") from None
    if not isinstance(key, list) or tuple(map(type, key)) != kinds:
        raise FilterInvalid("after", "is no place in this list")
    return tuple(key)


def page(
    connection: Connection, chosen: Chosen, reviewer: str, limit: int, after: Key | None
) -> tuple[Sequence[RowMapping], Key | None]:
    """The rows of a page, and the place of the last conversation looked at where there may be more."""
    keys = [tuple(row) for row in connection.execute(_keys(chosen, reviewer, after).limit(_most(chosen, limit) + 1))]
    more, keys = len(keys) > _most(chosen, limit), keys[: _most(chosen, limit)]
    shown = list(islice(_hits(connection, keys, chosen.text), limit + 1)) if chosen.text else keys
    last = keys[-1] if keys else None
    if len(shown) > limit:
        more, shown, last = True, shown[:limit], shown[limit - 1]
    return _rows(connection, [key[-1] for key in shown]), last if more else None


def _most(chosen: Chosen, limit: int) -> int:
    return SEARCHED if chosen.text else limit


def _hits(connection: Connection, keys: Sequence[Key], text: str) -> Iterator[Key]:
    """Those of the conversations in which the text stands, in order, no more read than are asked for."""
    for first in range(0, len(keys), SEARCHED_AT_ONCE):
        some = keys[first : first + SEARCHED_AT_ONCE]
        hits = _with_text(connection, [key[-1] for key in some], text)
        yield from (key for key in some if key[-1] in hits)


def _keys(chosen: Chosen, reviewer: str, after: Key | None) -> Select[Any]:
    """The places of all that is chosen, in the order of the list."""
    order = _DRAWN if chosen.of == "sampled" else _HEAT
    query = select(*order).where(*_conditions(chosen), *_reviewed(chosen, reviewer))
    if chosen.of == "sampled":
        query = query.select_from(samples.join(conversations, conversations.c.id == samples.c.conversation))
        query = query.order_by(samples.c.day.desc(), samples.c.place, samples.c.conversation)
    else:
        query = query.order_by(conversations.c.peak.desc(), conversations.c.id.desc())
    if chosen.of == "flagged":
        query = query.where(conversations.c.first_hot_at.is_not(None))
    if after is None:
        return query
    return query.where(_behind_drawn(*after) if chosen.of == "sampled" else _behind(*after))


def _behind(peak: int, identifier: str) -> ColumnElement[bool]:
    later = or_(conversations.c.peak < peak, and_(conversations.c.peak == peak, conversations.c.id < identifier))
    return and_(conversations.c.peak <= peak, later)  # the first alone says where an index is entered


def _behind_drawn(day: str, place: float, identifier: str) -> ColumnElement[bool]:
    later = tuple_(samples.c.place, samples.c.conversation) > tuple_(place, identifier)
    return and_(samples.c.day <= day, or_(samples.c.day < day, and_(samples.c.day == day, later)))


def _conditions(chosen: Chosen) -> list[ColumnElement[bool]]:
    wanted = [
        conversations.c[name] == value
        for name in ("queue", "channel", "language", "status", "model")
        if (value := getattr(chosen, name)) is not None
    ]
    if chosen.signal is not None:
        fired = func.coalesce(conversations.c.fired, "", type_=messages.c.text.type)  # as text, not as a document
        wanted.append(fired.contains(f'"{chosen.signal}"', autoescape=True))
    return wanted


def _reviewed(chosen: Chosen, reviewer: str) -> list[ColumnElement[bool]]:
    identifier = samples.c.conversation if chosen.of == "sampled" else conversations.c.id
    mine = select(verdicts.c.conversation).where(verdicts.c.reviewer == reviewer)
    match chosen.review:
        case None:
            return []
        case "open":
            return [~select(reviews.c.conversation).where(reviews.c.conversation == identifier).exists()]
        case "mine":
            return [identifier.in_(mine)]
        case "reviewed":
            return [identifier.in_(select(reviews.c.conversation))]
        case "asked":
            return [identifier.in_(_asked(reviewer))]
        case state:
            return [identifier.in_(select(reviews.c.conversation).where(reviews.c.state == state))]


def _asked(reviewer: str) -> Select[Any]:
    """Conversations that a second verdict is wanted of, and that this reviewer may give."""
    theirs = select(verdicts.c.id).where(
        verdicts.c.conversation == reviews.c.conversation, verdicts.c.reviewer == reviewer
    )
    return (
        select(reviews.c.conversation)
        .join(requests, requests.c.conversation == reviews.c.conversation)
        .where(reviews.c.state == "asked", or_(requests.c.of.is_(None), requests.c.of == reviewer), ~theirs.exists())
    )


def _with_text(connection: Connection, identifiers: Sequence[str], text: str) -> set[str]:
    query = (
        select(messages.c.conversation)
        .where(messages.c.conversation.in_(identifiers), messages.c.text.icontains(text, autoescape=True))
        .distinct()
    )
    return {row.conversation for row in connection.execute(query)}


def _rows(connection: Connection, identifiers: Sequence[str]) -> Sequence[RowMapping]:
    c = conversations.c
    shown = (c.id, c.channel, c.language, c.status, c.queue, c.peak, c.heat, c.fired.label("reasons"), c.hot)
    query = (
        select(*shown, c.first_hot_at, c.updated_at, c.model)
        .add_columns(reviews.c.state.label("review"), samples.c.kind.label("sample"))
        .add_columns(func.substr(messages.c.text, 1, SNIPPET).label("snippet"))
        .outerjoin(reviews, reviews.c.conversation == c.id)
        .outerjoin(samples, samples.c.conversation == c.id)
        .outerjoin(messages, and_(messages.c.conversation == c.id, messages.c.id == c.latest_message))
        .where(c.id.in_(identifiers))
    )
    found = {row["id"]: row for row in connection.execute(query).mappings()}
    return [found[identifier] for identifier in identifiers]


def counts(connection: Connection, reviewer: str) -> dict[str, int]:
    """What waits for a reviewer, each counted up to `COUNTED`."""
    flagged, drawn = Chosen(review="open"), Chosen(of="sampled", review="open")
    asked, disputed = Chosen(of="any", review="asked"), Chosen(of="any", review="disputed")
    wanted = {"open": flagged, "sampled": drawn, "asked": asked, "disputed": disputed}
    return {name: _count(connection, _keys(chosen, reviewer, None)) for name, chosen in wanted.items()}


def _count(connection: Connection, query: Select[Any]) -> int:
    some = query.order_by(None).limit(COUNTED).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def languages_and_models(connection: Connection) -> tuple[list[str], list[str]]:
    """What flagged conversations are declared to be in, and the models that scored them."""
    flagged = conversations.c.first_hot_at.is_not(None)
    languages = select(conversations.c.language).where(flagged).distinct()
    models = select(conversations.c.model).where(flagged).distinct()
    return _known(connection, languages), _known(connection, models)


def _known(connection: Connection, query: Select[Any]) -> list[str]:
    return sorted(value for value in connection.scalars(query) if value is not None)
