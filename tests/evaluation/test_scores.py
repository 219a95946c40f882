"""The score of a task: accuracy, or R²."""

import numpy as np
import pytest

from mmkeras.evaluation.scores import (
    compare_scores,
    difference_interval,
    score,
    score_interval,
)

NUMBERS = np.arange(20.0)[:, None]
CLASSES = np.eye(2)[np.arange(20) % 2]


@pytest.mark.parametrize(
    ("task", "targets", "wrong", "key", "lowest"),
    [
        ("regression", NUMBERS, -NUMBERS, "r2", -6.0),
        ("binary", CLASSES, 1 - CLASSES, "accuracy", 0.0),
    ],
)
def test_right_predictions_have_1_and_wrong_ones_less(
    task, targets, wrong, key, lowest
):
    value, spread = score(task, targets, [targets, wrong], 50, seed=0)
    assert value[0] == 1 and value[1] <= max(lowest, 0) and spread.shape == (2, 50)
    result = score_interval(task, value[0], spread[0], 20)
    assert list(result) == [key] and result[key]["value"] == 1
    difference = compare_scores(task, targets, targets, wrong, 50, seed=0)
    assert difference["value"] == pytest.approx(value[0] - value[1])
    assert difference["low"] > 0


def test_a_difference_in_r2_may_exceed_1_and_one_in_accuracy_not():
    spread = np.full(50, 3.0)
    assert difference_interval("regression", 3.0, spread, 20)["high"] == 3
    assert difference_interval("binary", 1.0, np.ones(50), 20)["high"] == 1
