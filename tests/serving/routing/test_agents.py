"""Who takes a conversation: never above the cap, never in the wrong language, and nobody waits for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.routing.agents import Agent, Choice, Load, Need, match, skills_wanted
from serving.routing.rules import Assignment
from tests.serving.routing.made import POLICY

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
RULES = POLICY.config.assignment
LATEST = RULES.relax[-1].after_minutes
SPARING_ALL = RULES.model_copy(update={"cooldown": RULES.cooldown.model_copy(update={"spares": "all"})})

ids = st.sampled_from("abcdef")
tongues = st.sampled_from(["en", "fr", "de"])
skills = st.sets(st.sampled_from(["billing", "refunds"]))
times = st.none() | st.integers(-30, 60).map(lambda minutes: NOW - timedelta(minutes=minutes))
agents = st.builds(
    Agent,
    id=ids,
    tier=st.sampled_from(["standard", "senior"]),
    empathy_trained=st.booleans(),
    skills=skills,
    languages=st.sets(tongues, min_size=1),
    channels=st.none() | st.sets(st.sampled_from(["chat", "email"])),
    cap=st.integers(0, 3),
    online=st.booleans(),
)
teams = st.lists(agents, max_size=6, unique_by=lambda agent: agent.id)
loads = st.dictionaries(ids, st.builds(Load, open=st.integers(0, 4), last_hard_at=times, last_assigned_at=times))
needs = st.builds(
    Need,
    queue=st.sampled_from([queue.name for queue in POLICY.config.queues]),
    score=st.integers(0, 100),
    language=st.none() | tongues,
    channel=st.none() | st.sampled_from(["chat", "email"]),
    skills=skills,
    previous=st.none() | ids,
    waiting_since=st.none() | st.integers(-5, 60).map(lambda minutes: NOW - timedelta(minutes=minutes)),
)
rules = st.sampled_from([RULES, SPARING_ALL, RULES.model_copy(update={"relax": ()}), Assignment()])


def agent(name: str = "a", **changes: Any) -> Agent:
    return Agent.model_validate({"id": name, "languages": ["en"], "cap": 2, **changes})


def waiting(minutes: float, **changes: Any) -> Need:
    return Need(**{"queue": "standard", "waiting_since": NOW - timedelta(minutes=minutes), **changes})


def choose(
    need: Need, *team: Agent, rules: Assignment = RULES, loads: Mapping[str, Load] | None = None, now: datetime = NOW
) -> Choice:
    return match(need, team, loads or {}, now, rules)


@settings(deadline=None)
@given(needs, teams, loads, rules)
def test_what_is_never_given_up(need: Need, team: list[Agent], carried: dict[str, Load], rules: Assignment) -> None:
    found = match(need, team, carried, NOW, rules)
    for taker in team:
        if taker.id != found.agent:
            continue
        assert taker.online
        assert carried.get(taker.id, Load()).open < taker.cap
        language = need.language or rules.language
        assert language is None or language in taker.languages
        assert need.channel is None or taker.channels is None or need.channel in taker.channels


@settings(deadline=None)
@given(needs, teams, loads, rules)
def test_what_is_given_up_is_named_and_only_after_the_wait_that_the_rules_ask_for(
    need: Need, team: list[Agent], carried: dict[str, Load], rules: Assignment
) -> None:
    found = match(need, team, carried, NOW, rules)
    taker = next((one for one in team if one.id == found.agent), None)
    if taker is None:
        return
    waited = (NOW - need.waiting_since).total_seconds() / 60 if need.waiting_since else 0
    allowed = {name for step in rules.relax if waited >= step.after_minutes for name in step.drop}
    lacking = {
        "skills": not need.skills <= taker.skills,
        "tier": not taker.qualifications & set(rules.qualified.get(need.queue, taker.qualifications or ("x",)))
        and need.queue in rules.qualified,
        "cooldown": cooling(carried.get(taker.id, Load()), need, rules),
    }
    given_up = {name for name, lacks in lacking.items() if lacks}
    assert given_up <= allowed
    assert {code for code in found.why if code.startswith("relaxed_")} == {f"relaxed_{name}" for name in given_up}


def cooling(load: Load, need: Need, rules: Assignment) -> bool:
    hard = need.queue in rules.hard.queues or need.score >= rules.hard.score
    if load.last_hard_at is None or not (hard or rules.cooldown.spares == "all"):
        return False
    return abs((NOW - load.last_hard_at).total_seconds()) < 60 * rules.cooldown.minutes


@settings(deadline=None)
@given(needs, teams, agents, loads, rules)
def test_one_agent_more_never_makes_it_worse(
    need: Need, team: list[Agent], more: Agent, carried: dict[str, Load], rules: Assignment
) -> None:
    fewer = [one for one in team if one.id != more.id]
    before, after = (match(need, some, carried, NOW, rules) for some in (fewer, [*fewer, more]))
    assert before.agent is None or after.agent is not None
    if before.agent and after.agent != before.agent:
        assert after.agent == more.id
        assert badness(after, [*fewer, more], carried, need) <= badness(before, fewer, carried, need)


def badness(choice: Choice, team: list[Agent], carried: dict[str, Load], need: Need) -> tuple[float, bool, float]:
    """The wait that the demands given up are worth, then whether the customer knows them, then how full they are."""
    steps = {name: step.after_minutes for step in RULES.relax for name in step.drop}
    given_up = max((steps[code.removeprefix("relaxed_")] for code in choice.why if "relaxed_" in code), default=-1.0)
    taker = next(one for one in team if one.id == choice.agent)
    return given_up, taker.id != need.previous, carried.get(taker.id, Load()).open / taker.cap


@settings(deadline=None)
@given(needs, teams.flatmap(lambda team: st.tuples(st.just(team), st.permutations(team))), loads, rules)
def test_the_order_of_agents_does_not_matter(
    need: Need, teams: tuple[list[Agent], list[Agent]], carried: dict[str, Load], rules: Assignment
) -> None:
    one, other = (match(need, team, carried, NOW, rules) for team in teams)
    assert (one.agent, one.why, dict(one.rejected)) == (other.agent, other.why, dict(other.rejected))


@settings(deadline=None)
@given(needs, teams, loads)
def test_nobody_starves_while_somebody_who_speaks_the_language_has_room(
    need: Need, team: list[Agent], carried: dict[str, Load]
) -> None:
    late = NOW + timedelta(minutes=LATEST + 5)
    could = [
        one
        for one in team
        if one.online
        and (need.language or RULES.language) in one.languages
        and (need.channel is None or one.channels is None or need.channel in one.channels)
        and carried.get(one.id, Load()).open < one.cap
    ]
    known = Need(**{**vars(need), "waiting_since": NOW})
    assert (match(known, team, carried, late, RULES).agent is not None) == bool(could)


@settings(deadline=None)
@given(needs, teams, loads, rules)
def test_everybody_else_hears_why_not(
    need: Need, team: list[Agent], carried: dict[str, Load], rules: Assignment
) -> None:
    found = match(need, team, carried, NOW, rules)
    assert set(found.rejected) == {one.id for one in team} - {found.agent}
    assert found.why


@pytest.mark.parametrize(
    ("changes", "load", "why"),
    [
        ({"online": False}, Load(), "offline"),
        ({"channels": ["email"]}, Load(), "channel"),
        ({"languages": ["fr"]}, Load(), "language"),
        ({"cap": 1}, Load(open=1), "full"),
        ({"cap": 0}, Load(), "full"),
        ({"tier": "standard"}, Load(), "tier"),
        ({"tier": "senior"}, Load(), "skills"),
        ({"tier": "senior", "skills": ["billing"]}, Load(last_hard_at=NOW - timedelta(minutes=1)), "cooldown"),
    ],
)
def test_what_stands_in_the_way_is_named(changes: dict[str, Any], load: Load, why: str) -> None:
    need = Need(queue="critical", language="en", channel="chat", skills=frozenset({"billing"}))
    found = choose(need, agent(**changes), loads={"a": load})
    assert found == Choice(None, ("nobody_fits",), {"a": why})


@pytest.mark.parametrize("changes", [{"tier": "senior"}, {"empathy_trained": True}])
def test_a_hot_queue_takes_any_qualification(changes: dict[str, Any]) -> None:
    assert choose(Need(queue="critical"), agent("plain"), agent("fit", **changes)).agent == "fit"


def test_the_least_loaded_by_share_of_their_cap_comes_first() -> None:
    carried = {"a": Load(open=1), "b": Load(open=2)}
    found = choose(Need(queue="standard"), agent("a", cap=2), agent("b", cap=8), loads=carried)
    assert found == Choice("b", ("least_loaded",), {"a": "outranked"})


def test_of_equals_the_one_who_was_idle_longest_comes_first_then_the_id() -> None:
    carried = {"a": Load(last_assigned_at=NOW), "b": Load(last_assigned_at=NOW - timedelta(hours=1))}
    assert choose(Need(queue="standard"), agent("a"), agent("b"), loads=carried).agent == "b"
    assert choose(Need(queue="standard"), agent("b"), agent("a")).agent == "a"


def test_whom_the_customer_knows_comes_first_unless_full() -> None:
    need, team = Need(queue="standard", previous="b"), (agent("a"), agent("b"))
    assert choose(need, *team, loads={"b": Load(open=1)}).why == ("previous_agent",)
    assert choose(need, *team, loads={"b": Load(open=2)}).agent == "a"
    loose = RULES.model_copy(update={"sticky": False})
    assert choose(need, *team, rules=loose, loads={"b": Load(open=1)}).agent == "a"


def test_a_cool_down_spares_from_hard_ones_alone_or_from_all() -> None:
    tired = {"a": Load(last_hard_at=NOW - timedelta(minutes=1))}
    senior = agent(tier="senior")
    assert choose(Need(queue="standard"), senior, loads=tired).agent == "a"
    assert choose(Need(queue="standard", score=RULES.hard.score), senior, loads=tired).agent is None
    assert choose(Need(queue="standard"), senior, rules=SPARING_ALL, loads=tired).agent is None
    rested = {"a": Load(last_hard_at=NOW - timedelta(minutes=RULES.cooldown.minutes))}
    assert choose(Need(queue="critical"), senior, loads=rested).agent == "a"


def test_a_clock_that_went_back_spares_nobody_for_ever() -> None:
    assert choose(
        Need(queue="critical"), agent(tier="senior"), loads={"a": Load(last_hard_at=NOW + timedelta(days=2))}
    ).agent


def test_demands_are_given_up_step_by_step() -> None:
    steps = {name: step.after_minutes for step in RULES.relax for name in step.drop}
    billing = frozenset({"billing"})
    early, late = (waiting(steps["skills"] + by, skills=billing) for by in (-0.1, 0.0))
    assert choose(early, agent()).agent is None
    assert choose(late, agent()).why == ("least_loaded", "relaxed_skills")
    assert choose(waiting(steps["tier"] - 0.1, queue="critical"), agent()).agent is None
    assert choose(waiting(steps["tier"], queue="critical"), agent()).why == ("least_loaded", "relaxed_tier")


def test_who_fits_wholly_comes_before_who_fits_after_a_long_wait() -> None:
    found = choose(waiting(LATEST, queue="critical"), agent("a"), agent("b", tier="senior"), loads={"b": Load(open=1)})
    assert (found.agent, found.why) == ("b", ("least_loaded",))


def test_a_step_can_be_for_hard_ones_alone() -> None:
    rules = Assignment.model_validate(
        {
            "hard": {"queues": ["hot"]},
            "relax": [{"after_minutes": 5, "drop": ["skills"], "only_hard": True}],
        }
    )
    wanted = frozenset({"billing"})
    assert choose(waiting(9, queue="hot", skills=wanted), agent(), rules=rules).agent == "a"
    assert choose(waiting(9, queue="calm", skills=wanted), agent(), rules=rules).agent is None


def test_nobody_there() -> None:
    assert choose(Need(queue="standard")) == Choice(None, ("nobody_fits",), {})


def test_languages_and_skills_are_compared_as_people_mean_them() -> None:
    speaks = agent(languages=["pt-BR"], skills=[" Billing "])
    assert choose(Need(queue="standard", language="PT", skills=frozenset({"BILLING"})), speaks).agent == "a"


def test_a_language_nobody_declared_is_the_policys() -> None:
    assert choose(Need(queue="standard"), agent(languages=["fr"])).agent is None
    anything = RULES.model_copy(update={"language": None})
    assert choose(Need(queue="standard"), agent(languages=["fr"]), rules=anything).agent == "a"


@pytest.mark.parametrize(
    ("meta", "wanted"),
    [
        ({}, set()),
        ({"topic": "Billing, refunds", "skill": "SAP"}, {"billing", "refunds", "sap"}),
        ({"topic": "", "skill": " , "}, set()),
        ({"topic": None, "skill": 7}, set()),
        ({"industry": "bank"}, set()),
    ],
)
def test_skills_come_from_meta(meta: dict[str, object], wanted: set[str]) -> None:
    assert skills_wanted(meta, RULES) == wanted


def test_an_agent_is_written_the_same_each_time() -> None:
    written = agent(skills=["c", "a", "b"], channels=["email", "chat"]).model_dump_json()
    assert json.loads(written)["skills"] == ["a", "b", "c"]
    assert json.loads(written)["channels"] == ["chat", "email"]
    assert Agent.model_validate_json(written).model_dump_json() == written


@pytest.mark.parametrize("changes", [{"cap": -1}, {"languages": []}, {"id": ""}, {"tier": "boss"}, {"mood": "good"}])
def test_an_agent_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        agent(**changes)
