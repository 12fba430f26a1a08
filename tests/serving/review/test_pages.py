"""The desk's pages over a made desk: who may come in, what a page shows and hides, where forms lead, what they keep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serving.api.access import Access
from serving.review.figures import Moment, Series, columns, interval, lines, timeline
from serving.review.pages import desk_pages
from serving.review.shown import Removed
from serving.review.verdicts import Gone, NotAllowed, TurnVerdict
from serving.review.web import address, inside, pieces
from serving.security.rates import RateConfig, RateLimiter
from serving.security.verifier import Verifier, VerifierConfig
from serving.store.faults import StoreUnavailable
from tests.serving.review.pretend import CSRF, INJECTION, NOW, PASSWORD, Pretend, turns, view

PAGES = ("conversations", "conversations/c-17", "conversations/c-18", "conversations/c-20", "quality", "team")
VERDICT = {"csrf": CSRF, "reviewer": "rita", "token": "form-token-0123456789", "back": "review=open"}


@pytest.fixture
def desk() -> Pretend:
    return Pretend()


@pytest.fixture
def client(desk: Pretend) -> Iterator[TestClient]:
    app = Starlette(routes=[Mount("/review", desk_pages(desk.desk))])
    with TestClient(app, cookies={"simmer_desk": "rita"}, follow_redirects=False) as client:
        yield client


class Seen(HTMLParser):
    """Everything in a page that could run, style or fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._within: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._within = None


@pytest.mark.parametrize("path", [*PAGES, "sign-in", "nothing", "conversations/c-17/words?message=m2"])
def test_pages_need_no_inline_script_or_style(client: TestClient, path: str) -> None:
    answer = client.get(f"/review/{path}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    seen = Seen(answer.text)
    assert seen.inline == ""
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action", "hx-get", "hx-post"):
            assert (attributes.get(name) or "/review/").startswith(("/review/", "#")), attributes


@pytest.mark.parametrize("path", ["conversations", "static/desk.css?v=1", "nothing", "conversations/c-17/verdict"])
def test_every_answer_is_guarded(client: TestClient, path: str) -> None:
    headers = client.get(f"/review/{path}").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("public, max-age=31536000, immutable" if "css" in path else "no-store")


def test_a_message_is_shown_as_text_alone(client: TestClient) -> None:
    for path in ("conversations", "conversations/c-17"):
        page = client.get(f"/review/{path}").text
        assert "&lt;script&gt;window.owned=1&lt;/script&gt;&lt;img src=x" in page
        assert "{{7*7}} https://evil.example/x" in page  # neither reckoned nor made a link
        assert INJECTION not in page


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_twin(client: TestClient, path: str) -> None:
    asked = client.get(f"/review/{path}", headers={"accept": "application/json"})
    assert asked.headers["content-type"] == "application/json"
    named = client.get(f"/review/{path}/view.json" if "/c-" in path else f"/review/{path}.json")
    assert named.json() == asked.json()
    assert CSRF not in named.text


def test_nobody_sees_a_page_without_a_session(client: TestClient) -> None:
    client.cookies.clear()
    for path in PAGES:
        answer = client.get(f"/review/{path}?a=b")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/review/sign-in?next=%2Freview%2F{path.replace('/', '%2F')}%3Fa%3Db"
    twin = client.get("/review/quality.json")
    assert (twin.status_code, twin.json()["error"]["code"]) == (401, "unauthenticated")


def test_signing_in_leads_to_where_one_was_going(client: TestClient) -> None:
    client.cookies.clear()
    page = client.get("/review/sign-in", params={"next": "/review/team?days=28"}).text
    assert 'value="/review/team?days=28"' in page
    sent = {"id": " rita ", "password": PASSWORD, "next": "/review/team?days=28"}
    answer = client.post("/review/sign-in", data=sent)
    assert (answer.status_code, answer.headers["location"]) == (303, "/review/team?days=28")
    assert "HttpOnly" in answer.headers["set-cookie"]
    wrong = client.post("/review/sign-in", data={**sent, "password": "guess"})
    assert wrong.status_code == 401
    assert "No reviewer has this name and password" in wrong.text
    assert 'value="/review/team?days=28"' in wrong.text


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/review//evil", "/review/\\evil", "/v1/queue", "", "/review/\n"],
)
def test_signing_in_leads_nowhere_else(target: str) -> None:
    assert inside(target) == "/review/conversations"


@pytest.mark.parametrize(
    "path", ["sign-out", "views", "views/remove", "conversations/c-17/verdict", "conversations/c-17/second"]
)
def test_a_form_of_another_site_is_refused(client: TestClient, desk: Pretend, path: str) -> None:
    forged: list[tuple[dict[str, str], dict[str, str]]] = [
        ({**VERDICT, "csrf": "another"}, {}),
        ({k: v for k, v in VERDICT.items() if k != "csrf"}, {}),
        (VERDICT, {"sec-fetch-site": "cross-site"}),
        (VERDICT, {"sec-fetch-site": "same-site"}),
        (VERDICT, {"origin": "https://evil.example"}),
        (VERDICT, {"origin": "null"}),
    ]
    for data, headers in forged:
        answer = client.post(f"/review/{path}", data=data, headers=headers)
        assert answer.status_code == 403
    assert (desk.verdicts.saved, desk.verdicts.asked, desk.sessions.over) == ([], [], False)
    assert len(desk.listing.saved_views) == 1


def test_what_another_site_sends_is_not_carried_along(client: TestClient, desk: Pretend) -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    sent = {"token": "form-token-0123456789", "note": "planted"}
    assert "planted" not in client.post("/review/conversations/c-17/verdict", data=sent, headers=foreign).text
    desk.sessions.over = True
    ended = client.post("/review/conversations/c-17/verdict", data=sent, headers=foreign)
    assert (ended.status_code, "planted" in ended.text) == (303, False)


def test_signing_in_from_another_site_is_refused(client: TestClient) -> None:
    sent = {"id": "rita", "password": PASSWORD}
    answer = client.post("/review/sign-in", data=sent, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_signing_out_takes_the_cookie_away(client: TestClient) -> None:
    answer = client.post("/review/sign-out", data={"csrf": CSRF})
    assert (answer.status_code, answer.headers["location"]) == (303, "/review/sign-in")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert client.get("/review/team").status_code == 303


def test_the_list_keeps_its_filter_from_page_to_page(client: TestClient, desk: Pretend) -> None:
    page = client.get("/review/conversations?channel=chat&queue=&review=open&unknown=1").text
    assert desk.listing.asked[-1].channel == "chat"
    assert "/review/conversations?channel=chat&amp;review=open&amp;after=20" in page
    assert "/review/conversations/c-1?from=channel%3Dchat%26review%3Dopen" in page
    assert '<option value="chat" selected>' in page
    later = client.get("/review/conversations?channel=chat&after=20").text
    assert "To the hottest" in later
    assert "hx-trigger" not in later  # only the top of the list lives


def test_a_filter_that_is_none_is_refused_in_words(client: TestClient) -> None:
    answer = client.get("/review/conversations?review=maybe")
    assert answer.status_code == 422
    assert "review: is one of" in answer.text
    twin = client.get("/review/conversations.json?review=maybe").json()["error"]
    assert (twin["code"], twin["field"]) == ("invalid", "review")


def test_rows_come_anew_only_where_they_changed(client: TestClient, desk: Pretend) -> None:
    page = client.get("/review/conversations?review=open").text
    poll = re.search(r'hx-get="([^"]+)"', page)
    assert poll is not None
    target, htmx = poll[1].replace("&amp;", "&"), {"hx-request": "true"}
    assert client.get(target, headers=htmx).status_code == 204
    desk.listing.rows = desk.listing.rows[3:]
    changed = client.get(target, headers=htmx)
    assert changed.status_code == 200
    assert changed.text.lstrip().startswith("<section")
    assert "c-3?" not in changed.text
    desk.listing.rows = []
    assert "Nothing is left to review here" in client.get("/review/conversations?review=open").text


def test_views_are_saved_and_removed(client: TestClient, desk: Pretend) -> None:
    sent = {"csrf": CSRF, "name": " Hot chats ", "query": "channel=chat&review=open"}
    answer = client.post("/review/views", data=sent)
    assert answer.headers["location"] == "/review/conversations?channel=chat&review=open"
    assert "Hot chats" in client.get("/review/conversations").text
    client.post("/review/views/remove", data={**sent, "name": "Hot chats"})
    assert [one.name for one in desk.listing.saved_views] == ["Legal, mail"]


def test_a_conversation_shows_what_the_model_says(client: TestClient) -> None:
    page = client.get("/review/conversations/c-17?from=review%3Dopen").text
    for told in (
        "Here the customer turned hot",
        "quoted, not scored",
        "weight 0.6 × strength 0.81",
        "no longer in the policy",
        "came true 44 % to 72 %",
        "Not judged: no words",
        "Judged again after a late message",
        "Band: how often such forecasts came true",
    ):
        assert told in page
    assert page.index('data-head="frustration"') < page.index(
        'data-head="sentiment"'
    )  # what is corrected most is first


def test_a_second_reviewer_is_blind(client: TestClient) -> None:
    page = client.get("/review/conversations/c-18").text
    assert "Second opinion, blind" in page
    for hidden in (
        "came true",
        "turned hot",
        "Why?",
        "What the model says",
        "strength",
        'value="agree"',
        "priority <b>",
    ):
        assert hidden not in page
    assert not re.search(r'name="frustration-\d+" value="\d" checked', page)
    twin = client.get("/review/conversations/c-18/view.json").json()["view"]
    assert all(turn["labels"] is None and turn["said"] is None and turn["heat"] is None for turn in twin["turns"])
    assert (twin["turned"], twin["rules"], twin["score"], twin["verdicts"]) == (None, [], 0, [])
    assert client.get("/review/conversations/c-18/words?message=m2").status_code == 403


def test_a_dispute_shows_both_sides_and_asks_for_a_decision(client: TestClient) -> None:
    page = client.get("/review/conversations/c-20").text
    assert "They differ on frustration." in page
    assert "Your decision" in page
    assert '<input type="hidden" name="adjudicates" value="yes">' in page
    assert page.count("Take these") == 2
    assert "Clear case." in page


def test_a_long_conversation_comes_in_parts(client: TestClient, desk: Pretend) -> None:
    desk.reading.views["long"] = view(id="long", turns=turns() * 20, turned=None)
    last = client.get("/review/conversations/long").text
    assert 'id="turn-160"' in last
    assert 'id="turn-120"' not in last
    first = client.get("/review/conversations/long?part=1").text
    assert 'id="turn-60"' in first
    assert 'id="turn-61"' not in first
    for odd in ("0", "4", "x", "9" * 50):
        assert 'id="turn-160"' in client.get(f"/review/conversations/long?part={odd}").text


def test_an_odd_id_is_reached_by_its_links(client: TestClient) -> None:
    page = client.get(address("conversations", "c 1?#%")).text
    post = re.search(r'action="(/review/conversations/[^"]+/second)"', page)
    assert post is not None
    assert client.post(post[1], data={"csrf": CSRF}).status_code == 303


def test_words_are_marked_by_head(client: TestClient) -> None:
    answer = client.get("/review/conversations/c-17/words?message=m2", headers={"hx-request": "true"}).text
    assert '<span class="up w3">Tuesday.</span>' in answer
    assert 'data-head="urgency" hidden' in answer
    assert "No single word moved it much." in answer
    unjudged = client.get("/review/conversations/c-17/words?message=m7", headers={"hx-request": "true"}).text
    assert "no letter in it" in unjudged


def test_a_verdict_is_saved_and_leads_to_the_next(client: TestClient, desk: Pretend) -> None:
    form = {**VERDICT, "message-1": "m0", "verdict-1": "agree", "hot": "yes", "note": "ok", "then": "next"}
    answer = client.post("/review/conversations/c-17/verdict", data=form)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/review/conversations/c-1?from=review%3Dopen&saved=reviewed"
    conversation, given_, reviewer = desk.verdicts.saved[0]
    assert (conversation, reviewer.id, given_.hot, given_.note) == ("c-17", "rita", True, "ok")
    assert given_.turns == (TurnVerdict(message="m0", agrees=True),)
    by_htmx = client.post(
        "/review/conversations/c-17/verdict", data={**form, "then": "stay"}, headers={"hx-request": "true"}
    )
    assert by_htmx.headers["hx-redirect"] == "/review/conversations/c-17?from=review%3Dopen&saved=reviewed"
    by_twin = client.post("/review/conversations/c-17/verdict", data=form, headers={"accept": "application/json"})
    assert by_twin.json()["review"] == "reviewed"


def test_the_last_verdict_of_a_list_leads_back_to_it(client: TestClient, desk: Pretend) -> None:
    desk.listing.rows = []
    answer = client.post("/review/conversations/c-17/verdict", data={**VERDICT, "then": "next"})
    assert answer.headers["location"] == "/review/conversations?review=open"


def test_a_form_opened_by_another_reviewer_is_refused(client: TestClient, desk: Pretend) -> None:
    answer = client.post("/review/conversations/c-17/verdict", data={**VERDICT, "reviewer": "sam"})
    assert answer.status_code == 403
    assert "signed in as Rita" in answer.text
    assert desk.verdicts.saved == []


def test_an_expired_session_keeps_the_form(client: TestClient, desk: Pretend) -> None:
    desk.sessions.over = True
    form = {**VERDICT, "note": "typed & kept <b>", "message-1": "m0", "verdict-1": "agree"}
    ended = client.post("/review/conversations/c-17/verdict", data=form)
    assert ended.status_code == 401
    assert "nothing of what you typed is lost" in ended.text
    fields = hidden(ended.text)
    again = client.post("/review/sign-in", data={**fields, "id": "rita", "password": PASSWORD})
    assert again.status_code == 200
    assert "typed &amp; kept &lt;b&gt;" in again.text
    client.cookies.set("simmer_desk", "rita")
    resent = hidden(again.text)
    assert resent["note"] == "typed & kept <b>"
    assert client.post("/review/conversations/c-17/verdict", data=resent).status_code == 303
    assert desk.verdicts.saved[0][1].note == "typed & kept <b>"


def test_an_expired_session_under_htmx_is_renewed_beside_the_form(client: TestClient, desk: Pretend) -> None:
    desk.sessions.over = True
    htmx = {"hx-request": "true"}
    ended = client.post("/review/conversations/c-17/verdict", data=VERDICT, headers=htmx)
    assert ended.status_code == 401
    assert ended.text.lstrip().startswith("<form")
    wrong = client.post("/review/sign-in", data={"id": "rita", "password": "no"}, headers=htmx)
    assert "No reviewer has this name" in wrong.text
    signed = client.post("/review/sign-in", data={"id": "rita", "password": PASSWORD}, headers=htmx)
    assert f'data-csrf="{CSRF}"' in signed.text
    assert "set-cookie" in signed.headers


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (StoreUnavailable("down"), 503, "Nothing was saved; try again."),
        (NotAllowed("only a lead settles disputes"), 403, "only a lead settles disputes"),
        (Gone("c-17"), 410, "has been erased"),
        (RuntimeError("a secret of ours"), 500, "An error of ours"),
    ],
)
def test_a_verdict_that_fails_says_why_and_loses_nothing(
    client: TestClient, desk: Pretend, error: Exception, status: int, told: str
) -> None:
    desk.verdicts.failure = error
    answer = client.post("/review/conversations/c-17/verdict", data={**VERDICT, "note": "kept"})
    assert answer.status_code == status
    assert told in answer.text
    assert "a secret of ours" not in answer.text
    if status != 410:
        assert hidden(answer.text)["note"] == "kept"
    part = client.post("/review/conversations/c-17/verdict", data=VERDICT, headers={"hx-request": "true"})
    assert part.text.startswith('<p class="refused">')


def test_what_is_not_there_is_said_as_a_page_and_as_json(client: TestClient) -> None:
    assert "There is no such page" in client.get("/review/nothing").text
    gone = client.get("/review/conversations/none")
    assert (gone.status_code, "erased" in gone.text) == (404, True)
    twin = client.get("/review/conversations/none/view.json").json()["error"]
    assert list(twin) == ["code", "message", "field", "request_id"]
    wrong = client.get("/review/conversations/c-17/verdict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_a_second_opinion_is_asked_for(client: TestClient, desk: Pretend) -> None:
    answer = client.post("/review/conversations/c-17/second", data={"csrf": CSRF})
    assert answer.headers["location"] == "/review/conversations/c-17?from=&saved=asked"
    assert desk.verdicts.asked == ["c-17"]
    assert "A second reviewer is asked" in client.get(answer.headers["location"]).text
    assert "flash" not in client.get("/review/conversations/c-17?saved=<b>").text


def test_the_team_page_takes_only_what_there_is(client: TestClient) -> None:
    page = client.get("/review/team?days=28&by=day&channel=chat").text
    assert '<option value="28" selected>' in page
    assert "chat only" in page
    odd = json.loads(client.get("/review/team.json?days=99999&by=year&channel=fax").text)
    assert (odd["days"], odd["trend"]["by"], odd["channel"]) == (84, "week", None)


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's last form that has any, and of all before it."""
    found = (a for tag, a in Seen(page).tags if tag == "input" and a.get("type") == "hidden")
    return {str(a["name"]): a.get("value") or "" for a in found}


# Figures

SHARES = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=60)
LEVELS = st.one_of(st.none(), st.floats(0, 3))


@given(st.lists(st.tuples(LEVELS, LEVELS, st.one_of(st.none(), st.floats(0, 1))), max_size=80))
def test_a_timeline_is_drawn_of_anything(points: list[tuple[Any, Any, Any]]) -> None:
    found = [
        Moment(str(n), f"turn-{n}", *point, low=point[2], high=point[2], turned=n == 3)
        for n, point in enumerate(points)
    ]
    drawn = timeline(found)
    assert drawn.startswith("<svg")
    assert "nan" not in drawn


@given(SHARES)
def test_plots_are_drawn_of_anything(values: list[float | None]) -> None:
    labels = [str(n) for n in range(len(values))]
    series = Series("a", values, values, values)
    counts = Series("a", [None if v is None else v * 10_000 for v in values])
    for drawn in (
        lines(labels, [series], "t", "%"),
        lines(labels, [counts], "t"),
        columns(labels, [counts, counts], "t"),
    ):
        assert "nan" not in drawn
        assert 'role="img"' in drawn


def test_a_timeline_says_in_words_what_it_shows() -> None:
    drawn = timeline([Moment("1", "turn-1", 0.5, 1.0, 0.2), Moment("3", "turn-3", 2.5, 1.0, 0.6, turned=True)])
    assert "The customer turned hot at turn 3." in drawn
    assert "turn 1: frustration 0.5 of 3, urgency 1.0 of 3, boil-over 20 %" in drawn
    assert interval(None, 0, 1).count("circle") == 0


# Pieces of a message


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_pieces_lose_nothing_of_a_message(text: str, cut: list[str]) -> None:
    found = pieces(text, [Removed("quoted", one) for one in cut])
    kept = "".join("".join(piece for piece, why in found if why is None).split())
    gone = ["".join(piece.split()) for piece, why in found if why is not None]
    everything = "".join(text.split())
    assert len(kept) + sum(len(one) for one in gone if one in everything) >= len(everything)


def test_pieces_stand_where_they_were_written() -> None:
    removed = [Removed("quoted", "> b\n"), Removed("signature", "not there")]
    assert pieces("a\n> b\nc", removed) == [("a", None), ("> b", "quoted"), ("c", None), ("not there", "signature")]


def test_the_desk_asks_for_no_key() -> None:
    """Where the API asks for keys the desk is let through to its own sign-in, at the rate of its address."""

    async def desk(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("the desk")(scope, receive, send)

    def lookup(key: str) -> None:
        raise AssertionError("nobody looks for a key")

    verifier = Verifier(lookup, VerifierConfig(), lambda: NOW)
    rates = RateLimiter(RateConfig(per_second=0.001, burst=2, callers=10))
    client = TestClient(Access(desk, verifier, rates))
    assert client.get("/reviewers").status_code == 401
    assert client.get("/review/conversations").text == "the desk"
    assert client.get("/review").text == "the desk"
    assert client.get("/review/conversations").status_code == 429
