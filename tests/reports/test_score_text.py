"""Accuracy, R² and exact match as text."""

from mmkeras.reports.score_text import (
    ACCURACY,
    EXACT_MATCH,
    R2,
    format_score,
    score_text,
    score_text_of,
)

DIFFERENCE = {"value": 0.0314, "low": -0.01, "high": 0.052}


def test_accuracy_is_in_percent_and_its_differences_in_points():
    assert ACCURACY.value(0.8125) == "81.2 %"
    assert ACCURACY.difference(0.0314, "+") == "+3.1 points"
    assert ACCURACY.interval(DIFFERENCE) == "95 % interval -1.0 to +5.2"


def test_r2_is_a_plain_number():
    assert R2.value(-0.1234) == "-0.123"
    assert R2.difference(0.0314) == "0.031"
    assert R2.interval(DIFFERENCE) == "95 % interval -0.010 to +0.052"


def test_the_score_follows_from_the_task_or_from_the_metrics():
    assert score_text("regression") is score_text_of({"r2": {}, "mae": {}}) is R2
    assert score_text("binary") is score_text_of({"accuracy": {}}) is ACCURACY
    metrics = {"bleu": {}, "exact_match": {}}
    assert score_text("generate") is score_text_of(metrics) is EXACT_MATCH


def test_exact_match_is_a_share():
    assert EXACT_MATCH.value(0.5) == "50.0 %"
    assert EXACT_MATCH.difference(0.0314, "+") == "+3.1 points"
    assert format_score({"exact_match": {"value": 0.5}}) == "exact match 0.500"


def test_an_undefined_score_is_unknown():
    assert format_score({"accuracy": {"value": 0.5}}) == "accuracy 0.500"
    assert format_score({"r2": {"value": None}}) == "R² unknown"
