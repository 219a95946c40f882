"""Targets of rows: of classes, of numbers, and of one of several texts."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import GenerateConfig, TrainConfig
from mmkeras.data.row_targets import RowTargets, class_weights
from mmkeras.modalities.preprocessing_state import (
    BINARY,
    GENERATE,
    MULTILABEL,
    REGRESSION,
    LabelScale,
    TextStatistics,
)
from mmkeras.modalities.preprocessor import Preprocessor


@pytest.fixture
def targets(tiny, state):
    """Builds the targets of a state with changes."""

    def build(weights=(), **changes):
        config = tiny
        if changes["task"] == GENERATE:
            fusion = replace(tiny.fusion, kind="concat")
            generate = GenerateConfig(max_tokens=3)
            config = replace(tiny, task=GENERATE, fusion=fusion, generate=generate)
        return RowTargets(Preprocessor(config, replace(state, **changes)), weights)

    return build


@pytest.fixture
def text_targets(targets):
    texts = TextStatistics(vocabulary=("a", "b", "c"), longest=2, most_frequent="a")
    return targets(task=GENERATE, classes=(), class_rows=(), texts=texts)


def finish(row_targets, *labels, weight=None, seed=None):
    decoded = tf.stack([row_targets.decode(tf.constant(label)) for label in labels])
    weight = tf.ones(len(labels)) if weight is None else tf.constant(weight)
    inputs, target, weight = row_targets.finish(decoded, weight, seed)
    inputs = {name: x.numpy().tolist() for name, x in inputs.items()}
    return inputs, target.numpy().tolist(), weight.numpy().tolist()


def test_the_inputs_are_the_tokens_before_those_of_the_target(text_targets):
    inputs, target, weight = finish(text_targets, "a b", "C", weight=[1.0, 0.5])
    assert inputs == {"tokens": [[2, 4, 5, 3], [2, 6, 3, 0]]}
    assert target == [[4, 5, 3, 0], [6, 3, 0, 0]]
    assert weight == [1, 0.5]


def test_evaluation_takes_the_first_reference(text_targets):
    _, target, _ = finish(text_targets, "b|a|c", "c|a", "a")
    assert [row[0] for row in target] == [5, 6, 4]


def test_training_takes_each_reference_about_equally_often(text_targets):
    counts = [Counter(), Counter()]
    for seed in range(60):
        _, target, _ = finish(text_targets, *["a|b|c", "c"] * 5, seed=[1, seed])
        for i, row in enumerate(target):
            counts[i % 2][row[0]] += 1
    assert counts[1] == {6: 300}
    assert set(counts[0]) == {4, 5, 6} and min(counts[0].values()) > 70


def test_one_seed_gives_one_choice_and_rows_choose_for_themselves(text_targets):
    labels = ["a|b|c"] * 20
    first, again = (finish(text_targets, *labels, seed=[3, 4]) for _ in range(2))
    assert first == again != finish(text_targets, *labels, seed=[3, 5])
    assert len({row[0] for row in first[1]}) > 1


def test_classes_are_one_or_several_ones(targets):
    names = ("cat", "cow", "dog")
    several = targets(task=MULTILABEL, classes=names)
    inputs, target, _ = finish(several, "cow|dog", "", "cat")
    assert inputs == {} and target == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    one = targets(task=BINARY, classes=names[:2])
    assert finish(one, "cat", "cow")[1] == [[0], [1]]


def test_a_number_is_standardized(targets):
    scale = LabelScale(mean=10, deviation=4)
    numbers = targets(task=REGRESSION, classes=(), label_scale=scale)
    assert finish(numbers, "12", "10")[1] == [[0.5], [0]]


def test_a_row_has_the_mean_weight_of_its_classes(targets):
    weights = (1.0, 2.0, 4.0)
    several = targets(weights, task=MULTILABEL, classes=("cat", "cow", "dog"))
    _, target, weight = finish(several, "cow|dog", "", "dog", weight=[1.0, 1.0, 0.5])
    assert weight == [3, 1, 2] and np.shape(target) == (3, 3)


def test_effective_weights_follow_their_formula():
    config = TrainConfig(class_weights="effective", class_beta=0.9)
    rows = np.array([1, 10, 100])
    expected = (1 - 0.9) / (1 - 0.9**rows)
    weights = np.array(class_weights(rows, config))
    np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=1e-9)
    assert (weights * rows).sum() == pytest.approx(rows.sum())
    balanced = np.array(class_weights(rows, TrainConfig()))
    np.testing.assert_allclose(balanced, 111 / (3 * rows))
    assert balanced[0] / balanced[2] > weights[0] / weights[2] > 1
    assert class_weights(rows, TrainConfig(class_weights="none")) == ()
    equal = np.array(class_weights(rows, replace(config, class_beta=0.0)))
    np.testing.assert_allclose(equal, 1)
