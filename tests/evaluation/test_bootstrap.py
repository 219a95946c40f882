import numpy as np
import pytest

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation.bootstrap import accuracies, compare_accuracies, interval
from mmkeras.evaluation.metrics import correct_rows, measure
from tests.simulated_predictions import simulate


def correct_share(share, n=200):
    return np.arange(n) < share * n


def test_a_clearly_better_model_is_told_from_a_worse_one():
    better, worse = correct_share(0.9), correct_share(0.6)
    gain = compare_accuracies(better, worse, resamples=500, seed=0)
    loss = compare_accuracies(worse, better, resamples=500, seed=0)
    assert gain["value"] == pytest.approx(0.3)
    assert 0.2 < gain["low"] < 0.3 < gain["high"] < 0.4
    assert loss["high"] < 0
    assert loss["value"] == -gain["value"]


def test_a_difference_of_a_few_rows_is_not_clear():
    other = np.random.default_rng(0).permutation(200) < 158
    difference = compare_accuracies(correct_share(0.8), other, 500, 0)
    assert difference["value"] == pytest.approx(0.01)
    assert difference["low"] < 0 < difference["high"]


def test_several_models_share_the_resamples_of_measure():
    targets, probabilities, names = simulate("multiclass", 90)
    config = EvaluateConfig(bootstrap_resamples=150)
    result = measure(targets, probabilities, names, "multiclass", config, 5)
    correct = correct_rows(targets, probabilities, "multiclass")
    values, spread = accuracies([correct, ~correct], 150, 5)
    accuracy = interval(values[0], spread[0], rows=90)
    assert accuracy == pytest.approx(result["metrics"]["accuracy"])
    np.testing.assert_allclose(spread[0] + spread[1], 1)


@pytest.mark.parametrize("n", [1, 12, 1000])
def test_two_models_that_are_right_on_the_same_rows_have_an_uncertain_difference(n):
    difference = compare_accuracies(np.ones(n), np.ones(n), 200, 0)
    margin = 1.96**2 / (n + 1.96**2)  # Wilson's upper end of no row of n
    expected = {"value": 0.0, "low": -margin, "high": margin}
    assert difference == pytest.approx(expected, abs=1e-4)
    certain = compare_accuracies(np.ones(n), np.zeros(n), 200, 0)
    # The one is at least 1 - margin, the other at most margin.
    expected = {"value": 1.0, "low": 1 - 2 * margin, "high": 1.0}
    assert certain == pytest.approx(expected, abs=1e-4)
    reverse = compare_accuracies(np.zeros(n), np.ones(n), 200, 0)
    assert reverse["high"] == -certain["low"]


@pytest.mark.parametrize(("n", "is_clear"), [(1, 0), (2, 0), (3, 0), (4, 1), (9, 1)])
def test_a_difference_on_all_of_three_rows_is_not_clear(n, is_clear):
    assert (compare_accuracies(np.ones(n), np.zeros(n), 200, 0)["low"] > 0) == is_clear


def test_a_constant_between_0_and_1_and_other_intervals_are_those_of_the_resamples():
    half = interval(0.5, np.full(99, 0.5), rows=12)  # the AUC of equal scores
    assert half == {"value": 0.5, "low": 0.5, "high": 0.5}
    samples = np.linspace(0.8, 1, 1001)
    entry = interval(1.0, samples, rows=3)
    assert entry == pytest.approx({"value": 1, "low": 0.805, "high": 1.0})
    assert interval(np.nan, samples, rows=3)["value"] is None
