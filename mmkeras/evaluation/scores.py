"""The score of a task, on shared resamples: accuracy, R² or exact match of texts.

What compares models, or subsets of the modalities, uses these functions, and knows no
task. `targets` and each of `predictions` are (N, C), or (N, 1) in regression, or the
(N,) labels and texts of a generator.
"""

from collections.abc import Sequence

import numpy as np

from mmkeras.evaluation.bootstrap import (
    accuracies,
    compare_accuracies,
    interval,
    percentile_interval,
)
from mmkeras.evaluation.metrics import correct_rows
from mmkeras.evaluation.regression_metrics import r_squared
from mmkeras.evaluation.text_metrics import exact_matches
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.names import split_references
from mmkeras.reports.score_text import score_text

Interval = dict[str, float | None]


def score(
    task: str,
    targets: np.ndarray,
    predictions: Sequence[np.ndarray],
    resamples: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scores (K,) of K predictions for N rows, and on resamples (K, R)."""
    if task == REGRESSION:
        return r_squared(targets, predictions, resamples, seed)
    correct = [_correct_rows(targets, p, task) for p in predictions]
    return accuracies(correct, resamples, seed)


def _correct_rows(targets, predictions, task) -> np.ndarray:
    if task == GENERATE:
        return exact_matches(list(map(split_references, targets)), predictions)
    return correct_rows(targets, predictions, task)


def score_interval(task: str, value: float, resampled: np.ndarray, rows: int) -> dict:
    """Returns {name of the score: {"value", "low", "high"}} of a result of `score`."""
    key = score_text(task).key
    if task == REGRESSION:
        return {key: percentile_interval(value, resampled)}
    return {key: interval(value, resampled, rows)}


def difference_interval(
    task: str, value: float, resampled: np.ndarray, rows: int
) -> Interval:
    """Returns {"value", "low", "high"} of a difference between scores."""
    if task == REGRESSION:
        return percentile_interval(value, resampled)
    return interval(value, resampled, rows, lowest=-1)


def compare_scores(
    task: str,
    targets: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    resamples: int,
    seed: int,
) -> Interval:
    """Returns by how much a's score exceeds b's on the same N rows."""
    if task != REGRESSION:
        correct = (_correct_rows(targets, p, task) for p in (a, b))
        return compare_accuracies(*correct, resamples, seed)
    value, resampled = r_squared(targets, [a, b], resamples, seed)
    return percentile_interval(value[0] - value[1], resampled[0] - resampled[1])
