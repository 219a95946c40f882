"""Weights of the members of an ensemble, by their predictions for validation rows."""

from collections.abc import Sequence

import numpy as np

from mmkeras.evaluation.metrics import log_losses
from mmkeras.modalities.preprocessing_state import REGRESSION


def greedy_weights(
    predictions: Sequence[np.ndarray], targets: np.ndarray, task: str, rounds: int = 50
) -> np.ndarray:
    """Returns the weight of each of M models in their mean, (M,) float64 of sum 1.

    The mean of the models with the lowest loss alone, as many as are best together, is
    extended in `rounds` rounds by the model that lowers its loss most. A model can be
    added several times, and one that never is has the weight 0.

    Args:
        predictions: M times (N, C) probabilities, in regression (N, 1) values.
        targets: (N, C) of 0 and 1, in regression (N, 1) values.
        task: binary, multiclass, multilabel or regression. The loss is the log loss, in
            regression the squared error.
        rounds: Number of rounds; the best of them counts.

    Source: Caruana et al., 2004, https://doi.org/10.1145/1015330.1015432.

    Example:
        >>> weak, strong = np.array([[0.6, 0.4]]), np.array([[0.9, 0.1]])
        >>> greedy_weights([weak, strong], np.array([[1, 0]]), "binary")
        array([0., 1.])
    """
    stack, counts = np.asarray(predictions, "float64"), np.zeros(len(predictions))
    losses = [mean_loss(x, targets, task) for x in stack]
    order = np.argsort(losses, kind="stable")
    sizes = range(1, len(stack) + 1)
    losses = [mean_loss(stack[order[:n]].mean(axis=0), targets, task) for n in sizes]
    counts[order[: 1 + int(np.argmin(losses))]] = 1
    best_counts, best_loss = counts.copy(), min(losses)
    for _ in range(rounds):
        total = np.tensordot(counts, stack, axes=1)
        means = [(total + x) / (counts.sum() + 1) for x in stack]
        losses = [mean_loss(x, targets, task) for x in means]
        counts[np.argmin(losses)] += 1
        if min(losses) < best_loss:
            best_counts, best_loss = counts.copy(), min(losses)
    return best_counts / best_counts.sum()


def mean_loss(predictions: np.ndarray, targets: np.ndarray, task: str) -> float:
    """Returns the loss of `greedy_weights` for (N, C) predictions."""
    if task == REGRESSION:
        return float(np.mean((predictions - targets) ** 2))
    return float(log_losses(np.asarray(targets).astype(bool), predictions, task).mean())
