"""Metrics of regression against scikit-learn and SciPy, and their intervals."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as sklearn_metrics

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation.bootstrap import weight_chunks
from mmkeras.evaluation.regression_metrics import measure_regression, r_squared

CONFIG = EvaluateConfig(bootstrap_resamples=400)


def simulate(n, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.normal(50, 10, n)
    return targets, targets + noise * rng.normal(0, 10, n)


def test_values_are_those_of_scikit_learn_and_scipy():
    targets, predicted = simulate(80)
    targets, predicted = targets.round(-1), predicted.round(-1)  # with ties
    result = measure_regression(targets[:, None], predicted[:, None], CONFIG, seed=0)
    values = {name: v["value"] for name, v in result["metrics"].items()}
    assert values == pytest.approx(
        {
            "r2": sklearn_metrics.r2_score(targets, predicted),
            "rmse": sklearn_metrics.root_mean_squared_error(targets, predicted),
            "mae": sklearn_metrics.mean_absolute_error(targets, predicted),
            "spearman": spearmanr(targets, predicted).statistic,
        }
    )
    assert (result["rows"], result["bootstrap_resamples"]) == (80, 400)


def test_the_interval_is_of_the_metric_on_resampled_rows():
    targets, predicted = simulate(30)
    result = measure_regression(targets, predicted, CONFIG, seed=3)["metrics"]
    (weights,) = weight_chunks(30, 400, seed=3)
    rows = [np.repeat(np.arange(30), w.astype(int)) for w in weights]
    for name, function in (
        ("r2", sklearn_metrics.r2_score),
        ("spearman", lambda a, b: spearmanr(a, b).statistic),
    ):
        each = [function(targets[i], predicted[i]) for i in rows]
        ends = np.percentile(each, [2.5, 97.5])
        assert [result[name]["low"], result[name]["high"]] == pytest.approx(ends)


def test_a_constant_has_no_correlation_and_equal_labels_no_r2():
    result = measure_regression([1.0, 2, 3], [2.0, 2, 2], CONFIG, seed=0)["metrics"]
    assert result["r2"]["value"] == 0 and result["spearman"]["value"] is None
    result = measure_regression([2.0, 2, 2], [1.0, 2, 3], CONFIG, seed=0)["metrics"]
    assert result["r2"] == {"value": None, "low": None, "high": None}
    assert result["mae"]["value"] == pytest.approx(2 / 3)


def test_a_large_offset_does_not_change_the_intervals():
    targets, predicted = simulate(50)
    near = measure_regression(targets, predicted, CONFIG, seed=0)["metrics"]["r2"]
    far = measure_regression(targets + 1e7, predicted + 1e7, CONFIG, seed=0)["metrics"]
    assert far["r2"] == pytest.approx(near, rel=1e-6)


@pytest.mark.parametrize("predicted", [[1.0], [1.0, np.nan]])
def test_predictions_of_another_length_or_without_a_value_are_refused(predicted):
    with pytest.raises(ValueError, match="finite and of one length"):
        measure_regression([1.0, 2.0], predicted, CONFIG, seed=0)


def test_several_predictions_share_the_resamples():
    targets, predicted = simulate(40)
    value, spread = r_squared(targets, [predicted, predicted, targets], 50, seed=0)
    assert spread.shape == (3, 50) and value[2] == 1
    np.testing.assert_array_equal(spread[0], spread[1])
