import numpy as np
import pytest
from scipy.special import softmax

from mmkeras.evaluation.ensemble_weights import greedy_weights, mean_loss


@pytest.fixture
def targets():
    return np.eye(3)[np.random.default_rng(0).integers(0, 3, 200)]


def noisy(targets, noise, seed):
    """Returns probabilities whose logits have independent errors."""
    rng = np.random.default_rng(seed)
    return softmax(3 * targets + rng.normal(0, noise, targets.shape), axis=1)


def test_models_with_independent_errors_share_the_weight(targets):
    models = [noisy(targets, 2.0, seed) for seed in range(3)]
    weights = greedy_weights(models, targets, "multiclass")
    assert weights.sum() == pytest.approx(1) and (weights > 0.15).all()
    mean = np.tensordot(weights, models, axes=1)
    losses = [mean_loss(x, targets, "multiclass") for x in models]
    assert mean_loss(mean, targets, "multiclass") < min(losses)


def test_a_model_that_does_not_help_has_no_weight(targets):
    models = [noisy(targets, 0.5, 1), 1 - targets]
    assert greedy_weights(models, targets, "multiclass").tolist() == [1, 0]


def test_the_result_is_at_least_as_good_as_the_best_model_and_the_mean(targets):
    models = [noisy(targets, noise, 7) for noise in (1.0, 2.0, 3.0)]
    weights = greedy_weights(models, targets, "multiclass", rounds=0)
    mean = np.tensordot(weights, models, axes=1)
    best = min(mean_loss(x, targets, "multiclass") for x in models)
    assert mean_loss(mean, targets, "multiclass") <= best


def test_values_of_a_regression_are_weighted_by_their_squared_error():
    truth = np.arange(4.0)[:, None]
    weights = greedy_weights([truth + 1, truth - 1, truth + 9], truth, "regression")
    assert weights.tolist() == [0.5, 0.5, 0]


def test_cells_of_several_labels_are_weighted_by_their_log_loss():
    truth = np.array([[1, 1], [0, 1.0]])
    good, bad = np.abs(truth - 0.1), np.abs(truth - 0.6)
    assert greedy_weights([bad, good], truth, "multilabel").tolist() == [0, 1]
