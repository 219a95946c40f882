"""The score of a task: accuracy, R², or exact match of texts."""

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
TEXTS = np.array(["a cow", "A red cow.|one cow"] * 10, object)


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


def test_a_text_is_right_if_it_is_one_of_the_references():
    right, wrong = np.array(["a cow", "one cow"] * 10), np.array(["cow", "one"] * 10)
    other = np.array(["cow", "a red cow."] * 10, object)
    value, spread = score("generate", TEXTS, [right, wrong, other], 50, seed=0)
    assert value.tolist() == [1, 0, 0.5] and spread.shape == (3, 50)
    result = score_interval("generate", value[2], spread[2], 20)
    assert list(result) == ["exact_match"] and result["exact_match"]["value"] == 0.5
    assert 0 < result["exact_match"]["low"] < 0.5 < result["exact_match"]["high"] < 1
    difference = compare_scores("generate", TEXTS, right, other, 50, seed=0)
    assert difference["value"] == 0.5 and difference["low"] > 0
    same = compare_scores("generate", TEXTS, other, other, 50, seed=0)
    assert same["value"] == 0
    assert difference_interval("generate", 1.0, np.ones(50), 20)["high"] == 1
