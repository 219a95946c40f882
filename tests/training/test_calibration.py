import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from mmkeras.evaluation.metrics import log_losses
from mmkeras.training.calibration import apply_temperature, fit_temperature
from tests.simulated_predictions import TASKS, simulate


def calibrated(task, n=2000):
    """Logits (N, C), and targets drawn from just these probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 2 if task == "binary" else 4))
    if task == "multilabel":
        return (rng.random(logits.shape) < expit(logits)).astype(int), logits
    gumbel = rng.gumbel(size=logits.shape)
    top = (log_softmax(logits, axis=1) + gumbel).argmax(axis=1)
    return np.eye(logits.shape[1])[top], logits


@pytest.mark.parametrize("sureness", [3.0, 1.0, 1 / 3])
@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_undoes_too_much_and_too_little_sureness(task, sureness):
    targets, logits = calibrated(task)
    said = sureness * logits
    probabilities = expit(said) if task == "multilabel" else softmax(said, axis=1)
    found = fit_temperature(targets, probabilities, task)
    assert found == pytest.approx(sureness, rel=0.15)
    before, after = (
        log_losses(targets.astype(bool), p, task).mean()
        for p in (probabilities, apply_temperature(probabilities, found, task))
    )
    assert after <= before


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_leave_the_temperature_at_1(task):
    nothing = np.zeros((0, 3))
    assert fit_temperature(nothing, nothing, task) == 1.0


@pytest.mark.parametrize("task", TASKS)
def test_a_model_without_errors_is_not_made_infinitely_sure(task):
    targets, _, _ = simulate(task, n=50)
    probabilities = 0.1 + 0.8 * targets
    if task != "multilabel":
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = fit_temperature(targets, probabilities, task)
    assert 0.1 < found < 1


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 20.0])
def test_a_temperature_keeps_the_answer_and_the_sum_of_a_row(temperature):
    _, probabilities, _ = simulate("multiclass")
    probabilities = np.concatenate([probabilities, np.eye(4)])  # and the surest
    found = apply_temperature(probabilities, temperature, "multiclass")
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)))
    assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0, 20.0])
def test_a_temperature_keeps_the_yes_and_no_of_each_label(temperature):
    _, probabilities, _ = simulate("multilabel")
    found = apply_temperature(probabilities, temperature, "multilabel")
    assert ((found >= 0.5) == (probabilities >= 0.5)).all()
    less_sure = abs(found - 0.5) <= abs(probabilities - 0.5)
    assert less_sure.all() if temperature > 1 else not less_sure.any()


def test_a_temperature_of_1_changes_nothing():
    for task in TASKS:
        _, probabilities, _ = simulate(task)
        found = apply_temperature(probabilities, 1.0, task)
        assert found == pytest.approx(probabilities)


def test_two_columns_of_a_binary_task_are_the_sigmoid_of_one():
    _, probabilities, _ = simulate("binary")
    both = apply_temperature(probabilities, 2.0, "binary")
    yes = apply_temperature(probabilities, 2.0, "multilabel")[:, 1]
    assert both[:, 1] == pytest.approx(yes)
