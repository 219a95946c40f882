from dataclasses import replace

import pytest
import tensorflow_model_analysis as tfma

from mmkeras.config import Config
from mmkeras.modalities.preprocessing_state import GENERATE, TextStatistics
from pipeline.components.eval_config import build_eval_config, limit_setting
from pipeline.settings import GateConfig


def thresholds(config):
    """Returns metric -> [(masked branch, threshold)]."""
    keys = tfma.metrics.metric_thresholds_from_metrics_specs(
        config.metrics_specs, eval_config=config
    )
    result = {}
    for key, limits in keys.items():
        name = f"difference of {key.name}" if key.is_diff else key.name
        result[name] = [
            (slices.feature_values["hidden"], threshold) for slices, threshold in limits
        ]
    return result


@pytest.mark.parametrize(
    ("max_drop", "drop"),
    [
        (0.02, 0.9 - 0.92),  # below -0.02 by a rounding error
        (1.0, 0.0 - 1.0),
    ],
)
def test_accuracy_alone_has_thresholds_and_a_drop_of_max_drop_passes(
    max_drop, drop, state
):
    config = build_eval_config(GateConfig(max_drop=max_drop), Config(), state)
    keys = tfma.metrics.metric_thresholds_from_metrics_specs(
        config.metrics_specs, eval_config=config
    )
    assert {(key.name, key.sub_key) for key in keys} == {("accuracy", None)}
    thresholds = config.metrics_specs[0].metrics[0].per_slice_thresholds
    (limit,) = [
        item.threshold.change_threshold.absolute.value
        for item in thresholds
        if item.threshold.HasField("change_threshold")
    ]
    assert -max_drop - 1e-4 < limit < drop
    minimum = {item.threshold.value_threshold.lower_bound.value for item in thresholds}
    assert minimum == {0.0}


def test_texts_have_limits_of_intervals_and_a_difference_of_the_exact_match(state):
    texts = TextStatistics(vocabulary=("a",), longest=1, most_frequent="a")
    state = replace(state, task=GENERATE, classes=(), class_rows=(), texts=texts)
    gate = GateConfig(
        min_exact_match=0.5, min_exact_match_hidden=0.25, max_word_error_rate=2.0
    )
    limits = thresholds(build_eval_config(gate, Config(), state))
    ((hidden, change),) = limits.pop("difference of exact_match")
    assert hidden == "nothing" and change.absolute.value == pytest.approx(-0.02)
    assert [(h, x.lower_bound.value) for h, x in limits.pop("exact_match_low")] == [
        ("nothing", 0.5),
        *((branch, 0.25) for branch in state.branches),
    ]
    ((hidden, limit),) = limits.pop("word_error_rate_high")
    assert hidden == "nothing" and limit.upper_bound.value == 2
    assert not limit.HasField("lower_bound")
    assert sorted(limits) == ["bleu_4_low", "chrf_low", "cider_d_low"]


@pytest.mark.parametrize(
    ("metric", "hidden", "setting"),
    [
        ("accuracy", "nothing", "min_accuracy"),
        ("r2", "image", "min_r2_hidden"),
        ("exact_match_low", "image", "min_exact_match_hidden"),
        ("word_error_rate_high", "nothing", "max_word_error_rate"),
    ],
)
def test_a_limit_is_named_by_its_metric(metric, hidden, setting):
    assert limit_setting(metric, hidden) == setting
    assert hasattr(GateConfig(), setting)
