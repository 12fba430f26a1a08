"""What a team lead sees over time, counted from conversations as they were lived."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from serving.live.bodies import NewConversation, NewTurn
from serving.review.trends import Figures, Trend, Trends
from tests.serving.live.test_conversations import message, post
from tests.serving.review.conftest import Bench, run


def read(bench: Bench, **given: Any) -> Trend:
    return run(Trends(bench.reader, bench.clock).read(**given))


def resolve(bench: Bench, identifier: str) -> None:
    run(bench.world.live.handling.resolve(identifier, None, "desk"))


@pytest.fixture
def lived(bench: Bench) -> Bench:
    """One saved, one lost, one foreseen, one missed, a false alarm, a calm one; and an answer after ten minutes."""
    bench.say("saved", "furious")
    bench.clock.move(minutes=10)
    post(bench.world, message("a1", "sorry", "agent"), message("m2", "thank you"), to="saved")
    resolve(bench, "saved")
    bench.say("lost", "furious")
    resolve(bench, "lost")
    bench.say("foreseen", "something soon", "furious")
    bench.say("missed", "hello", "furious")
    bench.say("alarm", "something soon", "ah well")
    resolve(bench, "alarm")
    bench.say("calm", "hello")
    return bench


def test_every_conversation_is_counted_as_what_it_was(lived: Bench) -> None:
    assert read(lived).total == Figures(
        conversations=6,
        hot=4,
        answered=1,
        answer_minutes=10.0,
        saved=1,
        lost=1,
        foreseen=1,
        missed=1,
        false_alarms=1,
    )


def test_a_conversation_that_began_hot_could_not_be_foreseen(bench: Bench) -> None:
    bench.say("c1", "furious", "furious, something soon")
    total = read(bench).total
    assert (total.hot, total.foreseen, total.missed) == (1, 0, 0)


def test_a_forecast_of_what_is_hot_already_foresees_nothing(bench: Bench) -> None:
    bench.say("c1", "hello", "furious, something soon")
    total = read(bench).total
    assert (total.foreseen, total.missed) == (0, 1)


def test_days_and_weeks_stand_in_order_without_gaps(lived: Bench) -> None:
    lived.clock.move(days=9)
    lived.say("new", "furious")
    days = read(lived, days=12, by="day")
    assert [point.start for point in days.points][::11] == [date(2026, 2, 27), date(2026, 3, 10)]
    assert [point.figures.conversations for point in days.points] == [0, 0, 6, *[0] * 8, 1]
    assert days.points[3].figures.answer_minutes is None
    weeks = read(lived, days=12, by="week")
    assert [(p.start, p.figures.conversations) for p in weeks.points] == [
        (date(2026, 2, 23), 6),
        (date(2026, 3, 2), 0),
        (date(2026, 3, 9), 1),
    ]


def test_what_began_before_is_not_counted(lived: Bench) -> None:
    lived.clock.move(days=30)
    assert read(lived, days=7).total == Figures()


def test_channels_and_languages_stand_apart_the_largest_first(bench: Bench) -> None:
    for number, (channel, language) in enumerate(
        [("email", "en-GB"), ("email", "en"), ("chat", "DE"), ("email", None)]
    ):
        turns = (NewTurn(role="customer", text="furious"),)
        new = NewConversation(channel=channel, language=language, turns=turns)  # type: ignore[arg-type]
        run(bench.world.live.conversations.put(f"c{number}", new))
    trend = read(bench)
    assert [(part.name, part.figures.hot) for part in trend.channels] == [("email", 3), ("chat", 1)]
    assert [(part.name, part.figures.hot) for part in trend.languages] == [("en", 2), (None, 1), ("de", 1)]
    assert read(bench, channel="chat").total.conversations == 1
    assert read(bench, channel="fax").total.conversations == 0


def test_an_empty_store_has_a_page_too(bench: Bench) -> None:
    trend = read(bench)
    assert (trend.total, trend.channels, trend.languages) == (Figures(), [], [])
    assert len(trend.points) == 12  # whole weeks


@pytest.mark.parametrize("days", [-5, 0, 10**9])
def test_the_time_looked_back_at_has_bounds(desk: Bench, days: int) -> None:
    assert 1 <= len(read(desk, days=days, by="day").points) <= 731
