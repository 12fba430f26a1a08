from __future__ import annotations

from typing import Any

from training.findings import ReportConfig, headlines, in_three, slices_by_weakness, verdicts, weaknesses

CONFIG = ReportConfig(smallest_rows=20, smallest_positives=10, weakest_slices=5, weak=0.5, poor_calibration=0.05)


def figure(value: float, spread: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": round(value - spread, 4), "high": round(value + spread, 4)}


def head(kappa: float, **more: Any) -> dict[str, Any]:
    return {"rows": 100, "quadratic_kappa": figure(kappa), "ece": 0.01, "values": {}, **more}


def evaluation(**more: Any) -> dict[str, Any]:
    coarse = {"rows": 60, "three_way": {"rows": 55, "macro_f1": figure(0.8), "accuracy": figure(0.8)}}
    few = {"rows": 5, "quadratic_kappa": figure(0.1), "ece": 0.3, "values": {}}
    sources = {"calls": head(0.8), "posts": coarse, "letters": few}
    return {"rows": 165, "heads": {"sentiment": {**head(0.75), "sources": sources}}, "slices": {}} | more


def baselines(calls: float, name: str = "tfidf") -> dict[str, Any]:
    posts = {"three_way": {"rows": 55, "macro_f1": figure(0.5)}}
    return {name: {"sentiment": {**head(0.5), "train_rows": 3000, "sources": {"calls": head(calls), "posts": posts}}}}


def test_each_corpus_stands_beside_the_best_baseline_of_the_same_figure() -> None:
    rows = headlines(evaluation(), {**baselines(0.6), **baselines(0.3, "majority")}, CONFIG)
    assert [(row.source, row.measure, row.rows, row.baseline, row.verdict) for row in rows] == [
        ("all", "quadratic_kappa", 100, "tfidf", "ahead"),
        ("calls", "quadratic_kappa", 100, "tfidf", "ahead"),
        ("posts", "three_way", 55, "tfidf", "ahead"),
    ]


def test_all_together_stands_beside_a_baseline_of_as_many_rows_alone() -> None:
    sampled = baselines(0.6)
    sampled["tfidf"]["sentiment"]["rows"] = 80
    rows = {row.source: row for row in headlines(evaluation(), sampled, CONFIG)}
    assert rows["all"].baseline is None
    assert rows["calls"].baseline == "tfidf"


def test_figures_ahead_are_counted_once() -> None:
    rows = headlines(evaluation(), baselines(0.6), CONFIG)
    assert verdicts(rows) == {"ahead": 2, "level": 0, "behind": 0}


def test_a_verdict_says_what_the_baseline_learnt_from() -> None:
    rows = headlines(evaluation(), baselines(0.78), CONFIG)
    assert {row.learnt for row in rows} == {"learnt from 3,000 rows"}
    assert any(
        "the baseline learnt from 3,000 rows" in said for said in weaknesses(evaluation(), baselines(0.78), CONFIG)
    )
    assert {row.learnt for row in headlines(evaluation(), {}, CONFIG)} == {""}


def test_a_head_without_baselines_stands_alone() -> None:
    assert {row.verdict for row in headlines(evaluation(), {}, CONFIG)} == {"alone"}


def test_coarse_corpora_stand_among_the_figures_in_three() -> None:
    assert [row.source for row in in_three(evaluation(), {}, CONFIG)] == ["posts"]


def test_one_corpus_needs_no_row_of_all_together() -> None:
    single = {"heads": {"urgency": {**head(0.7), "sources": {"calls": head(0.7)}}}, "slices": {}}
    assert [row.source for row in headlines(single, {}, CONFIG)] == ["calls"]


def test_it_says_where_a_baseline_is_as_good_or_better() -> None:
    said = weaknesses(evaluation(), baselines(0.78), CONFIG)
    assert any(sentence.startswith("sentiment on calls is not clearly better than the tfidf") for sentence in said)
    said = weaknesses(evaluation(), baselines(0.95), CONFIG)
    assert any(sentence.startswith("sentiment on calls is worse than the tfidf baseline: 0.80") for sentence in said)


def test_it_names_values_that_are_told_poorly_and_those_too_rare_to_judge() -> None:
    values = {
        "negative": {"positives": 50, "f1": figure(0.3)},
        "neutral": {"positives": 50, "f1": figure(0.9)},
        "positive": {"positives": 3, "f1": figure(0.0)},
        "very_positive": {"positives": 0, "f1": None},
    }
    found = evaluation()
    found["heads"]["sentiment"]["values"] = values
    said = " ".join(weaknesses(found, {}, CONFIG))
    assert "“negative” is told poorly: F1 0.30 over 50" in said
    assert "Too rare in the test rows to be judged at all: sentiment “positive”, sentiment “very positive”." in said
    assert "neutral" not in said


def one_slice(kappa: float, rows: int = 50) -> dict[str, Any]:
    found = figure(kappa)
    part = {"rows": rows, "measure": "quadratic_kappa", "quadratic_kappa": kappa, "low": found["low"]}
    return {"rows": rows, "sentiment": {**part, "high": found["high"]}}


def test_slices_are_sorted_by_how_far_they_fall_behind() -> None:
    slices = {"shouted": one_slice(0.74), "negated": one_slice(0.4), "long": one_slice(0.9), "rare": one_slice(0.1, 5)}
    rows = slices_by_weakness(evaluation(slices=slices), CONFIG)
    assert [row.name for row in rows] == ["negated", "shouted", "long"]
    said = " ".join(weaknesses(evaluation(slices=slices), {}, CONFIG))
    assert "“negated”: sentiment 0.40 beside 0.75 (50 rows)" in said
    assert "shouted" not in said


def test_it_says_where_probabilities_do_not_mean_what_they_say() -> None:
    found = evaluation()
    found["heads"]["sentiment"]["sources"]["calls"]["ece"] = 0.08
    said = weaknesses(found, {}, CONFIG)
    assert [sentence for sentence in said if "are off by 8.0%" in sentence]
    assert not [sentence for sentence in said if "letters" in sentence]


def test_it_says_when_the_forecast_is_worth_no_more_than_the_last_turn() -> None:
    def forecasts(ours: float) -> dict[str, Any]:
        found = {"boil_over": {"0.10": {"foreseen": figure(ours)}}, "last_turn": {"0.10": {"foreseen": figure(0.4)}}}
        return {"conversations": {"boiled_over": 30, "stayed_calm": 50, "forecasts": found}}

    worse = " ".join(weaknesses(evaluation(foresight=forecasts(0.42)), {}, CONFIG))
    better = " ".join(weaknesses(evaluation(foresight=forecasts(0.7)), {}, CONFIG))
    assert "58% go unforeseen" in worse
    assert "not clearly better than the heat of the turn just read" in worse
    assert "not clearly better than the heat" not in better
