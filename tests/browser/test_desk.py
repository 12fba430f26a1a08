"""The review desk in a browser: what a reviewer does in a day, by keyboard, in light and dark, on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from typer.testing import CliRunner

from pipeline.conversation import Conversation
from serving.cli import app
from tests.browser.conftest import AXE, PASSWORD, SHOTS, Served

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
INJECTION = "furious <svg onload=window.owned=1> <img src=//evil.example/x onerror=window.owned=1> {{7*7}} '\"><q"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1366, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1366, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}
PATIENCE_MS = 8_000
Enter = Callable[..., Page]


@pytest.fixture
def enter(browser: Browser, served: Served) -> Iterator[Enter]:
    """Sign in as somebody, in a browser of theirs; whatever the browser complains of fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def entered(name: str, path: str = "/conversations", **look: Any) -> Page:
        context = browser.new_context(**{**LOOKS["light"], **look})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said.text) else None)
        page.on("request", lambda request: complaints.append(request.url) if not _ours(request.url, served) else None)
        page.goto(served.url + path)
        sign_in(page, name)
        return page

    yield entered
    for context in contexts:
        context.close()
    assert complaints == []


def _is_complaint(text: str) -> bool:
    return "Failed to load resource" not in text  # a refusal on purpose; everything else counts, the policy's most


def _ours(url: str, served: Served) -> bool:
    return url.startswith(served.url)


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    page.get_by_text(re.compile("^Name$")).wait_for(state="detached")


def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def test_signing_in_and_out(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    page.goto(f"{served.url}/quality")
    shoot(page, "sign-in")
    page.get_by_label("Name").fill("rita")
    page.get_by_label("Password").fill("a guess that is wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("No reviewer has this name and password")
    sign_in(page, "rita")
    expect(page.get_by_role("heading", level=1)).to_have_text("How good the flags are")
    page.locator(".menu summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{served.url}/quality")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.close()


def test_the_list_by_keyboard(enter: Enter, served: Served) -> None:
    served.say("list-warm", "hello furious", channel="email")
    served.say("list-hot", "furious, urgent, a manager and my lawyer", channel="email")
    served.say("list-calm", "just a question", channel="email")
    page = enter("rita")
    page.locator("summary", has_text="Filter").click()
    page.get_by_label("Channel").select_option("email")
    page.wait_for_url(re.compile(r"\?channel=email$"))
    expect(page.locator(".row .id")).to_have_text(["list-hot", "list-warm"])
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("list-warm")
    page.keyboard.press("u")
    page.wait_for_url(re.compile(r"\?channel=email$"))
    page.get_by_label("Save this filter as").fill("Mail")
    page.get_by_label("Save this filter as").press("Enter")
    expect(page.get_by_role("link", name="Mail", exact=True)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("lawyer")
    page.keyboard.press("Enter")
    expect(page.locator(".row .id")).to_have_text(["list-hot"])
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next and previous conversation")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.wait_for_url(re.compile(r"review=open$"))


def test_the_list_lives_and_holds_still_under_a_hand(enter: Enter, served: Served) -> None:
    served.say("live-1", "furious about this", channel="phone")
    page = enter("rita", "/conversations?channel=phone")
    expect(page.locator(".row .id")).to_have_text(["live-1"])
    served.say("live-2", "furious, urgent and a lawyer", channel="phone")
    page.evaluate("htmx.trigger('#rows', 'refresh')")
    expect(page.locator(".row .id")).to_have_text(["live-2", "live-1"])
    page.route("**/conversations?*seen=*", lambda route: route.fulfill(status=503, body="<p>down</p>"), times=1)
    page.evaluate("htmx.trigger('#rows', 'refresh')")
    expect(page.get_by_text("The list could not be brought up to date")).to_be_visible()
    page.keyboard.press("j")
    served.say("live-3", "furious, urgent, a lawyer, a manager", channel="phone")
    page.evaluate("htmx.trigger('#rows', 'refresh')")
    expect(page.get_by_text("The list has changed.")).to_be_visible()
    expect(page.locator(".row .id")).to_have_text(["live-2", "live-1"])
    page.keyboard.press("r")
    expect(page.locator(".row .id")).to_have_text(["live-3", "live-2", "live-1"])


def test_a_label_is_corrected_by_keyboard(enter: Enter, served: Served) -> None:
    served.say("keys", "hello", "agent: good morning", "furious about it", "furious still")
    page = enter("rita", "/conversations/keys?from=review%3Dopen")
    expect(page.get_by_text("Here the customer turned hot")).to_be_visible()
    for key in ("j", "a", "j", "3", "2", "e"):  # agree with the first; the second is strong, its urgency normal
        page.keyboard.press(key)
    expect(page.locator("#turn-3 .rule")).to_contain_text("normal: an ordinary problem or request")
    expect(page.locator("#turn-3 .moved")).to_contain_text("Most: “furious”")
    page.keyboard.press("h")
    page.keyboard.press("x")
    page.keyboard.press("n")
    page.keyboard.type("should have been priority")
    expect(page.locator("#tally")).to_have_text("2 of 3 turns judged")
    shoot(page, "correcting")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile("saved=reviewed|review=open"))
    given = {verdict.message: verdict for verdict in served.verdicts("keys")}
    assert given["m0"].agrees
    assert given["m2"].labels | {"frustration": 2, "urgency": 1} == given["m2"].labels
    assert given["m2"].labels["sentiment"] == "very_negative"
    assert not given["m2"].agrees
    assert "m3" not in given
    assert (given[None].labels, given[None].routing_right, given[None].note) == (
        {"hot": True},
        False,
        "should have been priority",
    )
    assert 0 < (given[None].seconds or 0) < 120


def test_a_second_opinion_a_dispute_and_the_label_that_is_exported(
    enter: Enter, served: Served, tmp_path: Path
) -> None:
    served.say("twice", "furious, again")
    first = enter("rita", "/conversations/twice")
    for key in ("j", "a"):
        first.keyboard.press(key)
    first.get_by_role("button", name="Save", exact=True).click()
    expect(first.get_by_role("status").first).to_contain_text("Saved.")
    lead = enter("lena", "/conversations/twice")
    expect(lead.get_by_text("Second opinion, blind.")).to_be_visible()
    lead.get_by_role("button", name="Ask for a second, blind opinion").click()
    expect(lead.get_by_role("status").first).to_contain_text("A second reviewer is asked.")

    second = enter("sam", "/conversations?of=any&review=asked")
    second.keyboard.press("j")
    second.keyboard.press("Enter")
    expect(second.get_by_text("Second opinion, blind.")).to_be_visible()
    expect(second.get_by_text("rita", exact=True)).to_have_count(0)
    expect(second.get_by_text("What the model says")).to_have_count(0)
    for key in ("j", "2", "2", "2", "2", "4"):
        second.keyboard.press(key)
    shoot(second, "second-opinion")
    second.get_by_role("button", name="Save", exact=True).click()
    expect(second.get_by_role("status").first).to_contain_text("the two reviewers differ", ignore_case=True)
    expect(second.locator("#turn-1")).to_contain_text("Rita", ignore_case=True)

    lead.goto(f"{served.url}/conversations")
    lead.keyboard.press("4")
    lead.wait_for_url(re.compile(r"review=disputed$"))
    lead.keyboard.press("j")
    lead.keyboard.press("Enter")
    expect(lead.get_by_role("heading", name="Your decision")).to_be_visible()
    expect(lead.locator("#turn-1")).to_contain_text(re.compile("They differ on .*frustration"))
    lead.keyboard.press("]")
    shoot(lead, "adjudication")
    lead.keyboard.press("Control+Enter")
    lead.wait_for_url(re.compile(r"review=disputed$"))
    expect(lead.locator(".empty")).to_contain_text("No dispute is left to settle.")
    assert served.verdicts("twice")[-1].round == "adjudication"
    assert served.labels("twice", "m0")[-1]["frustration"] == 1
    target = tmp_path / "reviews.jsonl"
    exported = CliRunner().invoke(app, ["reviews", "export", "--store", served.store, "-o", str(target)])
    assert exported.exit_code == 0, exported.output
    rows = [Conversation.model_validate_json(line) for line in target.read_text(encoding="utf-8").splitlines()]
    settled = [turn.labels for row in rows for turn in row.turns if turn.text == "furious, again"]
    assert settled[0] is not None
    assert (settled[0]["frustration"], settled[0]["signals"]) == (1, ("repeat_contact",))


def test_a_session_that_ends_in_the_middle_of_a_form(enter: Enter, served: Served) -> None:
    served.say("night", "furious at night")
    page = enter("rita", "/conversations/night")
    page.keyboard.press("j")
    page.keyboard.press("2")
    page.get_by_label("Note").fill("typed before the night")
    served.end_sessions()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("nothing of what you typed is lost")).to_be_visible()
    shoot(page, "session-ended")
    sign_in(page, "rita")
    expect(page.get_by_text("save it now")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("typed before the night")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("Saved.")
    assert served.labels("night", "m0")[0]["frustration"] == 1


def test_an_erased_conversation_says_so_and_leaves_what_was_typed(enter: Enter, served: Served) -> None:
    served.say("gone", "furious and gone")
    page = enter("rita", "/conversations/gone")
    page.get_by_label("Note").fill("too late")
    served.erase("gone")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#outcome")).to_contain_text("This conversation has been erased.")
    expect(page.get_by_label("Note")).to_have_value("too late")


def test_what_a_message_says_is_never_done(enter: Enter, served: Served) -> None:
    served.say("evil", INJECTION, "furious " + "x" * 3000)
    page = enter("rita", "/conversations/evil")
    expect(page.locator("#turn-1 .text")).to_contain_text("<svg onload=window.owned=1>")
    page.keyboard.press("j")
    page.keyboard.press("e")
    expect(page.locator("#turn-1 .moved")).to_contain_text("onload=window.owned=1")
    page.goto(f"{served.url}/conversations?text=evil")
    assert page.evaluate("window.owned") is None


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_open_to_everybody(enter: Enter, served: Served, look: str) -> None:
    served.say(
        "page", "hello there", "agent: yes?", "furious, I want a manager\n\n> On Monday you wrote:\n> soon", "soon"
    )
    page = enter("lena", bypass_csp=True, **LOOKS[look])
    for name, path in {
        "list": "/conversations?channel=chat",
        "conversation": f"/conversations/page-{look}",
        "quality": "/quality",
        "team": "/team",
        "not-found": "/nothing",
    }.items():
        page.goto(served.url + path)
        if name == "conversation":
            page.keyboard.press("j")
            page.keyboard.press("1")
        shoot(page, f"{name}-{look}")
        assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"], name
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], name


def test_the_team_page_prints(enter: Enter) -> None:
    page = enter("lena", "/team")
    page.emulate_media(media="print")
    expect(page.locator(".top")).to_be_hidden()
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.locator("svg.figure").first).to_be_visible()
    shoot(page, "team-print")
