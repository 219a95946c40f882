import numpy as np
import pytest
from sklearn.metrics import r2_score

from mmkeras.experiments.comparison_table import (
    accuracy,
    difference,
    r2,
    read_predictions,
    read_values,
)


def simulate(chance, rows, seed):
    """Returns predictions that are each correct with a chance."""
    correct = np.random.default_rng(seed).random(rows) < chance
    return {f"r{i}": bool(c) for i, c in enumerate(correct)}


def test_one_run_has_the_interval_of_its_rows():
    value = accuracy([simulate(0.7, 400, 0)], resamples=1000)
    deviation = np.sqrt(0.7 * 0.3 / 400)
    assert value["value"] == pytest.approx(0.7, abs=3 * deviation)
    for end, way in (("low", -1.96), ("high", 1.96)):
        assert value[end] - value["value"] == pytest.approx(way * deviation, abs=0.01)


def test_runs_with_the_same_predictions_do_not_narrow_the_interval():
    run = simulate(0.7, 200, 0)
    one, five = (accuracy([run] * count, 500)["low"] for count in (1, 5))
    assert five == pytest.approx(one, abs=0.02)


def test_seeds_that_disagree_widen_the_interval():
    alike = accuracy([simulate(0.7, 2000, s) for s in range(3)], 500)
    different = accuracy([simulate(c, 2000, 9) for c in (0.5, 0.7, 0.9)], 500)
    assert different["high"] - different["low"] > 3 * (alike["high"] - alike["low"])


def test_the_interval_covers_the_true_value_about_as_often_as_promised():
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        chances = rng.random(80)  # per row, the same for all seeds
        runs = [
            {f"r{i}": bool(rng.random() < c) for i, c in enumerate(chances)}
            for _ in range(3)
        ]
        value = accuracy(runs, 200)
        hits += value["low"] <= 0.5 <= value["high"]
    assert hits >= 90


def test_runs_without_an_error_have_the_interval_of_wilson():
    runs = [dict.fromkeys("abcdefghijkl", True)] * 3
    margin = 1.96**2 / (12 + 1.96**2)
    expected = {"value": 1.0, "low": 1 - margin, "high": 1.0}
    assert accuracy(runs, 50) == pytest.approx(expected, abs=1e-4)
    expected = {"value": 0.0, "low": -margin, "high": margin}
    assert difference(runs, runs, 50) == pytest.approx(expected, abs=1e-4)


def test_runs_with_other_rows_count_alike():
    value = accuracy([{"a": True}, {"b": False, "c": False, "d": False}], 200)
    assert value["value"] == 0.5


def test_a_paired_difference_is_more_certain_than_the_two_accuracies():
    baseline = simulate(0.6, 300, 0)
    run = {**baseline, **{row: True for row in list(baseline)[:60]}}
    gain = difference([run], [baseline], 500)
    first, second = (accuracy([x], 500) for x in (run, baseline))
    assert gain["value"] == pytest.approx(first["value"] - second["value"])
    assert gain["low"] > 0 and first["low"] < second["high"]


def test_a_difference_is_over_the_rows_of_both_runs():
    run, baseline = {"a": True, "b": False}, {"a": False, "b": False, "c": True}
    assert difference([run], [baseline], 50)["value"] == 0.5


def test_all_labels_of_a_row_must_be_correct_in_any_order(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(
        "id,label,predicted,score,status,a,b\n"
        "1,a|b,b|a,.9,ok,.9,.9\n2,a|b,a,.9,ok,.9,.1\n3,a,a,.9,ok,.9,.1\n"
    )
    assert read_predictions(path) == {"1": True, "2": False, "3": True}


def test_r2_is_the_mean_over_runs_with_an_interval_of_rows_and_seeds(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.normal(10, 2, 60)
    runs = [
        {
            f"r{i}": (y, y + d)
            for i, (y, d) in enumerate(zip(labels, errors, strict=True))
        }
        for errors in rng.normal(0, 1, (3, 60))
    ]
    each = [r2_score(*zip(*run.values(), strict=True)) for run in runs]
    value = r2(runs, 200)
    assert value["value"] == pytest.approx(np.mean(each))
    assert value["low"] < min(each) and value["high"] > np.mean(each)
    assert r2([dict.fromkeys("ab", (1.0, 2.0))], 20)["value"] is None

    path = tmp_path / "predictions.csv"
    path.write_text("id,label,predicted,score,status\nr1,1.5,2,,ok\n")
    assert read_values(path) == {"r1": (1.5, 2.0)}
