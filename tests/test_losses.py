import numpy as np
import pytest

from mmkeras.losses import build_loss, build_metrics
from mmkeras.preprocess.analysis import BINARY, MULTICLASS, MULTILABEL

TASKS = (BINARY, MULTICLASS, MULTILABEL)
TRUTH = {
    BINARY: np.float32([[1], [0], [1], [0]]),
    MULTICLASS: np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]),
    MULTILABEL: np.float32([[1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]]),
}


def loss(task, truth, probabilities, smoothing=0.0):
    return float(
        build_loss(task, smoothing)(np.float32(truth), np.float32(probabilities))
    )


def test_over_classes_the_loss_is_the_true_class_logarithm():
    assert loss(MULTICLASS, [[0, 1, 0]], [[0.2, 0.5, 0.3]]) == pytest.approx(
        -np.log(0.5)
    )


@pytest.mark.parametrize("task", [BINARY, MULTILABEL])
def test_single_units_are_each_judged_on_their_own(task):
    expected = -(np.log(0.9) + np.log(1 - 0.2)) / 2
    assert loss(task, [[1, 0]], [[0.9, 0.2]]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_itself_costs_nothing_and_its_contrary_much(task):
    truth = TRUTH[task]
    assert loss(task, truth, truth) < 1e-5
    assert loss(task, truth, 1 - truth) > 5


@pytest.mark.parametrize("task", TASKS)
def test_smoothing_makes_a_sure_answer_cost_something(task):
    truth = TRUTH[task]
    assert loss(task, truth, truth, smoothing=0.1) > 0.5


def measured(task, probabilities):
    metrics = build_metrics(task)
    for metric in metrics:
        metric.update_state(TRUTH[task], np.float32(probabilities))
    return {metric.name: float(metric.result()) for metric in metrics}


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_has_full_accuracy_and_area(task):
    result = measured(task, TRUTH[task])
    assert result == {"accuracy": 1, "auc": pytest.approx(1, abs=1e-5)}


def test_accuracy_counts_rows_over_classes_and_units_elsewhere():
    one_of_four = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]
    assert measured(MULTICLASS, one_of_four)["accuracy"] == 0.25
    assert measured(BINARY, [[0.9], [0.9], [0.9], [0.1]])["accuracy"] == 0.75
    assert measured(MULTILABEL, np.zeros((4, 3)))["accuracy"] == 0.5


def test_the_area_does_not_mix_the_labels():
    # Each label is ranked well, though one has far higher numbers than the others.
    probabilities = 0.1 * TRUTH[MULTILABEL] + [0.8, 0.4, 0.1]
    assert measured(MULTILABEL, probabilities)["auc"] == pytest.approx(1, abs=1e-3)
