import numpy as np
import pytest

from mmkeras.experiments.comparison_table import accuracy, difference, read_predictions
from mmkeras.reports.tables import csv_text, markdown_table, share, with_interval


def drawn(chance, rows, seed):
    """Answers of a run that is right with a chance."""
    right = np.random.default_rng(seed).random(rows) < chance
    return {f"r{i}": bool(r) for i, r in enumerate(right)}


def test_one_run_has_the_interval_of_its_rows():
    value = accuracy([drawn(0.7, 400, 0)], resamples=1000)
    deviation = np.sqrt(0.7 * 0.3 / 400)
    assert value["value"] == pytest.approx(0.7, abs=3 * deviation)
    for end, way in (("low", -1.96), ("high", 1.96)):
        assert value[end] - value["value"] == pytest.approx(way * deviation, abs=0.01)


def test_runs_that_answer_the_same_rows_alike_add_no_certainty():
    one = drawn(0.7, 200, 0)
    assert accuracy([one] * 5, 500)["low"] == pytest.approx(
        accuracy([one], 500)["low"], abs=0.02
    )


def test_seeds_that_disagree_widen_the_interval():
    alike = accuracy([drawn(0.7, 2000, s) for s in range(3)], 500)
    apart = accuracy([drawn(c, 2000, 9) for c in (0.5, 0.7, 0.9)], 500)
    assert apart["high"] - apart["low"] > 3 * (alike["high"] - alike["low"])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        of_row = rng.random(80)  # rows are hard or easy for all seeds alike
        runs = [
            {f"r{i}": bool(rng.random() < c) for i, c in enumerate(of_row)}
            for _ in range(3)
        ]
        value = accuracy(runs, 200)
        hits += value["low"] <= 0.5 <= value["high"]
    assert hits >= 90


def test_runs_with_other_rows_count_alike():
    value = accuracy([{"a": True}, {"b": False, "c": False, "d": False}], 200)
    assert value["value"] == 0.5


def test_a_difference_is_surer_in_pairs_than_its_two_sides_are():
    theirs = drawn(0.6, 300, 0)
    ours = {**theirs, **{row: True for row in list(theirs)[:60]}}
    gain = difference([ours], [theirs], 500)
    sides = [accuracy([run], 500) for run in (ours, theirs)]
    assert gain["value"] == pytest.approx(sides[0]["value"] - sides[1]["value"])
    assert gain["low"] > 0 and sides[0]["low"] < sides[1]["high"]


def test_a_difference_is_of_rows_that_both_have_answered():
    ours, theirs = {"a": True, "b": False}, {"a": False, "b": False, "c": True}
    assert difference([ours], [theirs], 50)["value"] == 0.5


def test_a_row_of_several_labels_is_right_in_any_order_and_only_whole(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(
        "id,label,predicted,score,status,a,b\n"
        "1,a|b,b|a,.9,ok,.9,.9\n2,a|b,a,.9,ok,.9,.1\n3,a,a,.9,ok,.9,.1\n"
    )
    assert read_predictions(path) == {"1": True, "2": False, "3": True}


def test_a_table_is_in_line_and_is_markdown():
    text = markdown_table(["model", "s"], [["gated", "12"], ["low-rank", "7"]])
    assert text.splitlines() == [
        "| model    |   s |",
        "|----------|----:|",
        "| gated    |  12 |",
        "| low-rank |   7 |",
    ]


def test_shares_are_written_without_their_zero():
    assert [share(x) for x in (0.5, 1.0, -0.125, 0.0)] == [
        ".500",
        "1.000",
        "-.125",
        ".000",
    ]
    assert with_interval({"value": 0.5, "low": 0.25, "high": 1}) == (
        ".500 (.250 to 1.000)"
    )
    assert with_interval(None) == with_interval({"value": None}) == ""


def test_what_is_not_known_is_empty_in_csv():
    assert csv_text([{"a": 1, "b": None}]).splitlines() == ["a,b", "1,"]
