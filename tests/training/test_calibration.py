import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from mmkeras.data.input_pipeline import Batches
from mmkeras.evaluation.metrics import log_losses
from mmkeras.models.model import build_model, get_temperature
from mmkeras.training.calibration import apply_temperature, calibrate, fit_temperature
from mmkeras.training.prepare_run import prepare_run
from tests.simulated_predictions import TASKS, simulate


def calibrated(task, n=2000):
    """Logits (N, C), and targets drawn from their probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 2 if task == "binary" else 4))
    if task == "multilabel":
        return (rng.random(logits.shape) < expit(logits)).astype(int), logits
    gumbel = rng.gumbel(size=logits.shape)
    top = (log_softmax(logits, axis=1) + gumbel).argmax(axis=1)
    return np.eye(logits.shape[1])[top], logits


@pytest.mark.parametrize("factor", [3.0, 1.0, 1 / 3])
@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_corrects_too_high_and_too_low_confidence(task, factor):
    targets, logits = calibrated(task)
    function = expit if task == "multilabel" else lambda x: softmax(x, axis=1)
    probabilities = function(factor * logits)
    temperature = fit_temperature(targets, probabilities, task)
    assert temperature == pytest.approx(factor, rel=0.15)
    before, after = (
        log_losses(targets.astype(bool), p, task).mean()
        for p in (probabilities, apply_temperature(probabilities, temperature, task))
    )
    assert after <= before


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_give_a_temperature_of_1(task):
    empty = np.zeros((0, 3))
    assert fit_temperature(empty, empty, task) == 1.0


@pytest.mark.parametrize("task", TASKS)
def test_few_rows_change_the_temperature_less_than_many(task):
    targets, logits = calibrated(task)
    function = expit if task == "multilabel" else lambda x: softmax(x, axis=1)
    probabilities = function(8 * logits)
    few, many = (fit_temperature(targets[:n], probabilities[:n], task) for n in (6, 99))
    assert 1 < few < 4 < many < 12


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 12])
def test_wrong_predictions_for_a_few_rows_keep_the_scores_apart(rows):
    # Without the prior the temperature is 20, at which .98 becomes .55.
    targets = np.eye(2)[np.arange(rows) % 2]
    probabilities = 0.02 + 0.96 * np.eye(2)[np.arange(rows) // 2 % 2]
    temperature = fit_temperature(targets, probabilities, "binary")
    assert 1 <= temperature < 5
    scores = apply_temperature(probabilities, temperature, "binary").max(axis=1)
    assert (scores > 0.68).all()


@pytest.mark.parametrize("task", TASKS)
def test_the_confidence_of_a_model_without_errors_stays_finite(task):
    targets, _, _ = simulate(task, n=50)
    probabilities = 0.1 + 0.8 * targets
    if task != "multilabel":
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert 0.1 < fit_temperature(targets, probabilities, task) < 1


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 20.0])
def test_a_temperature_keeps_the_top_class_and_the_sum_of_a_row(temperature):
    _, probabilities, _ = simulate("multiclass")
    probabilities = np.concatenate([probabilities, np.eye(4)])
    result = apply_temperature(probabilities, temperature, "multiclass")
    assert result.sum(axis=1) == pytest.approx(np.ones(len(result)))
    assert (result.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert np.isfinite(result).all()


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0, 20.0])
def test_a_temperature_keeps_the_decision_for_each_label(temperature):
    _, probabilities, _ = simulate("multilabel")
    result = apply_temperature(probabilities, temperature, "multilabel")
    assert ((result >= 0.5) == (probabilities >= 0.5)).all()
    is_less_confident = abs(result - 0.5) <= abs(probabilities - 0.5)
    assert is_less_confident.all() if temperature > 1 else not is_less_confident.any()


@pytest.mark.parametrize("task", TASKS)
def test_a_temperature_of_1_changes_nothing(task):
    _, probabilities, _ = simulate(task)
    result = apply_temperature(probabilities, 1.0, task)
    assert result == pytest.approx(probabilities)


def test_two_columns_of_a_binary_task_are_the_sigmoid_of_one():
    _, probabilities, _ = simulate("binary")
    both = apply_temperature(probabilities, 2.0, "binary")
    positive = apply_temperature(probabilities, 2.0, "multilabel")[:, 1]
    assert both[:, 1] == pytest.approx(positive)


def test_a_model_gets_the_temperature_of_validation_rows(
    folder, table, tiny_config, capsys
):
    run_data = prepare_run(folder, tiny_config(), table)
    model = build_model(run_data.config, run_data.state)
    val = Batches(
        dataset=run_data.dataset, preprocessor=run_data.preprocessor, split="val"
    )
    rows = [(model(x).numpy(), y.numpy()) for x, y, _ in val.eval_batches()]
    probabilities, targets = map(np.concatenate, zip(*rows, strict=True))
    columns = [np.concatenate([1 - x, x], axis=1) for x in (targets, probabilities)]
    expected = fit_temperature(*columns, "binary")
    calibrate(model, val, "binary")
    printed = f"temperature {expected:.2f} from 8 validation rows, with a prior"
    assert printed in capsys.readouterr().out
    assert get_temperature(model) == pytest.approx(expected, rel=1e-4)
