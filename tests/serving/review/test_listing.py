"""The list: what is flagged, in order and page by page; filters, search, what waits, saved views."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, insert, text

from serving.review import listed
from serving.review.chosen import Chosen, FilterInvalid
from serving.store.schema import samples
from tests.serving.review.conftest import ADA, GRACE, LEA, Bench, run


def ids(bench: Bench, reviewer: Any = ADA, **chosen: Any) -> list[str]:
    """All pages of two rows each, one after the other."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = run(bench.listing.page(Chosen(**chosen), reviewer, after, limit=2))
        found += [row.id for row in page.rows]
        after = page.next
        if after is None:
            return found


@pytest.fixture
def busy(bench: Bench) -> Bench:
    bench.say("calm", "hello")
    bench.say("angry", "hello", "I am furious")
    bench.say("urgent", "furious and urgent")
    bench.say("lawyer", "furious, my lawyer says", "thank you")
    bench.say("boss", "I want a manager")
    return bench


def test_the_hottest_comes_first_and_what_was_never_hot_not_at_all(busy: Bench) -> None:
    page = run(busy.listing.page(Chosen(), ADA))
    assert [row.id for row in page.rows] == ["urgent", "lawyer", "angry", "boss"]
    peaks = [row.peak for row in page.rows]
    assert peaks == sorted(peaks, reverse=True)
    assert page.next is None
    first = page.rows[0]
    assert (first.channel, first.status, first.review, first.sample, first.model) == ("chat", "open", "open", None, "1")
    assert (first.snippet, first.heat) == ("furious and urgent", 1.0)
    assert "urgency_critical" in first.reasons


def test_a_conversation_that_calmed_down_keeps_its_place(busy: Bench) -> None:
    before = ids(busy)
    run(busy.world.live.handling.resolve("urgent", "refunded", "desk"))
    assert ids(busy) == before
    assert ids(busy, status="resolved") == ["urgent"]


def test_pages_follow_each_other_without_gap_or_repeat(bench: Bench) -> None:
    for number in range(9):
        bench.say(f"c{number}", "furious")
    assert ids(bench) == [f"c{number}" for number in reversed(range(9))]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"queue": "critical"}, ["urgent", "lawyer"]),
        ({"channel": "email"}, []),
        ({"signal": "public_or_legal_threat"}, ["lawyer"]),
        ({"signal": "urgency"}, []),
        ({"signal": "%"}, []),
        ({"model": "1", "status": "open"}, ["urgent", "lawyer", "angry", "boss"]),
        ({"model": "2"}, []),
        ({"text": "FURIOUS"}, ["urgent", "lawyer", "angry"]),
        ({"text": "my lawyer", "queue": "critical"}, ["lawyer"]),
        ({"text": "my lawyer", "queue": "senior"}, []),
        ({"text": "%"}, []),
        ({"text": "thank you"}, ["lawyer"]),
    ],
)
def test_filters_leave_what_they_say(busy: Bench, chosen: dict[str, Any], found: list[str]) -> None:
    assert ids(busy, **chosen) == found


def test_a_signal_is_found_long_after_it_was_given(busy: Bench) -> None:
    busy.say("lawyer", "furious, my lawyer says", "thank you", "bye")
    (row,) = run(busy.listing.page(Chosen(signal="public_or_legal_threat"), ADA)).rows
    assert (row.snippet, row.id) == ("bye", "lawyer")


def test_what_is_reviewed_asked_and_disputed_is_found_by_that(busy: Bench) -> None:
    busy.judge(ADA, to="angry", hot=True)
    busy.judge(ADA, to="boss", hot=False)
    busy.judge(GRACE, to="boss", hot=True)
    busy.judge(ADA, to="urgent", hot=True)
    busy.judge(ADA, to="calm", hot=False)
    run(busy.verdicts.ask("urgent", LEA))
    assert ids(busy, review="open") == ["lawyer"]
    assert ids(busy, review="reviewed") == ["urgent", "angry", "boss"]
    assert ids(busy, of="any", review="reviewed") == ["urgent", "angry", "boss", "calm"]
    assert ids(busy, of="any", review="disputed") == ["boss"]
    assert ids(busy, GRACE, of="any", review="asked") == ["urgent"]
    assert ids(busy, ADA, of="any", review="asked") == []
    assert ids(busy, GRACE, of="any", review="mine") == ["boss"]
    counts = run(busy.listing.counts(GRACE))
    assert (counts.open, counts.sampled, counts.asked, counts.disputed) == (1, 0, 1, 1)


def test_what_was_drawn_stands_in_its_own_random_order(busy: Bench) -> None:
    drawn = [("angry", "2026-03-01", 0.3), ("calm", "2026-03-01", 0.1), ("urgent", "2026-02-28", 0.0)]
    with busy.world.database.writing.begin() as connection:
        for name, day, place in drawn:
            values = {"conversation": name, "kind": "random", "chance": 0.1, "day": day, "place": place}
            connection.execute(insert(samples).values(values))
    assert ids(busy, of="sampled") == ["calm", "angry", "urgent"]
    assert ids(busy, of="sampled", text="hello") == ["calm", "angry"]
    busy.judge(ADA, to="angry", hot=True)
    assert ids(busy, of="sampled", review="open") == ["calm", "urgent"]
    assert run(busy.listing.counts(ADA)).sampled == 2


def test_a_search_is_bounded_and_goes_on_with_the_next_page(busy: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "SEARCHED", 2)
    first = run(busy.listing.page(Chosen(text="manager"), ADA))
    assert (list(first.rows), first.next is None) == ([], False)
    second = run(busy.listing.page(Chosen(text="manager"), ADA, first.next))
    assert ([row.id for row in second.rows], second.next) == (["boss"], None)


def test_the_list_reads_the_index_and_no_wide_rows(desk: Bench) -> None:
    asked: list[Any] = []
    event.listen(
        desk.world.database.reading, "before_cursor_execute", lambda *given: asked.append((given[2], given[3]))
    )
    for chosen in (Chosen(), Chosen(signal="abuse", queue="senior", review="open", model="3")):
        asked.clear()
        run(desk.listing.page(chosen, ADA))
        statement, values = next(one for one in asked if one[0].startswith("SELECT"))
        with desk.world.database.reading.begin() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
        assert "USING COVERING INDEX ix_conversations_flagged" in plan[0].detail
        assert not any("TEMP B-TREE" in row.detail for row in plan)


def test_choices_are_what_policy_and_store_have(busy: Bench) -> None:
    choices = run(busy.listing.choices())
    assert list(choices.queues) == ["critical", "senior", "priority", "standard"]
    assert "long_wait" in choices.signals
    assert (choices.models, choices.languages) == (["1"], [])


@pytest.mark.parametrize("after", ["", "x", "!!", "W10", "bnVsbA", base64.urlsafe_b64encode(b'["a",1]').decode(), "é"])
def test_a_place_in_another_list_is_refused(busy: Bench, after: str) -> None:
    if after == "":
        assert len(run(busy.listing.page(Chosen(), ADA, after)).rows) == 4
        return
    with pytest.raises(FilterInvalid, match="after"):
        run(busy.listing.page(Chosen(), ADA, after))
    with pytest.raises(FilterInvalid, match="after"):
        run(busy.listing.page(Chosen(of="sampled"), ADA, listed.cursor((3, "a"))))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"of": "all"}, "of"),
        ({"of": "any"}, "of"),
        ({"of": "any", "review": "open"}, "of"),
        ({"review": "none"}, "review"),
        ({"status": "closed"}, "status"),
        ({"channel": "fax"}, "channel"),
        ({"text": "x" * 201}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"queue": "\ud800"}, "queue"),
    ],
)
def test_a_filter_that_there_is_not_is_refused_by_name(query: dict[str, str], field: str) -> None:
    with pytest.raises(FilterInvalid) as told:
        Chosen.parse(query)
    assert told.value.field == field


@given(st.dictionaries(st.sampled_from(["of", "queue", "review", "text", "page", "language"]), st.text(max_size=20)))
@settings(max_examples=60, deadline=None)
def test_whatever_is_asked_is_refused_by_name_or_read_back_as_it_is(query: dict[str, str]) -> None:
    from urllib.parse import parse_qsl

    try:
        chosen = Chosen.parse(query)
    except FilterInvalid:
        return
    assert Chosen.parse(dict(parse_qsl(chosen.query()))) == chosen


def test_any_odd_filter_finds_nothing_and_breaks_nothing(bench: Bench) -> None:
    bench.say("c1", "furious")
    for odd in ("'; DROP TABLE verdicts; --", '"', "\\", "!", "_", "💥", "a" * 200):
        for name in ("queue", "language", "signal", "model", "text"):
            assert ids(bench, **{name: odd}) == []


def test_views_are_kept_by_name_for_their_reviewer(bench: Bench) -> None:
    hot, mail = Chosen(queue="critical"), Chosen(channel="email", text="refund & more")
    run(bench.listing.save_view(ADA, " hot ", hot))
    run(bench.listing.save_view(ADA, "mail", hot))
    run(bench.listing.save_view(ADA, "mail", mail))
    assert [(view.name, view.query) for view in run(bench.listing.views(ADA))] == [
        ("hot", "queue=critical"),
        ("mail", "channel=email&text=refund+%26+more"),
    ]
    assert run(bench.listing.views(GRACE)) == []
    run(bench.listing.remove_view(ADA, "hot"))
    run(bench.listing.remove_view(ADA, "never was"))
    assert [view.name for view in run(bench.listing.views(ADA))] == ["mail"]


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\nb"])
def test_a_view_needs_a_name(desk: Bench, name: str) -> None:
    with pytest.raises(FilterInvalid, match="name"):
        run(desk.listing.save_view(ADA, name, Chosen()))


def test_a_reviewer_has_so_many_views_and_no_more(desk: Bench) -> None:
    for number in range(50):
        run(desk.listing.save_view(ADA, str(number), Chosen()))
    run(desk.listing.save_view(ADA, "7", Chosen(queue="senior")))
    with pytest.raises(FilterInvalid, match="50 views already"):
        run(desk.listing.save_view(ADA, "one more", Chosen()))
    run(desk.listing.save_view(replace(ADA, id="ada2"), "hers", Chosen()))


def test_what_is_counted_is_bounded(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "COUNTED", 2)
    for number in range(4):
        desk.say(f"c{number}", "furious")
    assert run(desk.listing.counts(ADA)).open == 2
    with desk.world.database.reading.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM conversations")).scalar() == 4
