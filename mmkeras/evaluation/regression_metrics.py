"""Regression metrics with 95 % bootstrap intervals.

Shapes in this file: `targets` and `predicted` are (N,) or (N, 1) numbers, in the unit
of the labels. `weights` is (R, N): how often each of R resamples has each row.
"""

from collections.abc import Sequence

import numpy as np

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation.bootstrap import percentile_interval, weight_chunks
from mmkeras.evaluation.metrics import MIN_RESAMPLES, WORK


def measure_regression(
    targets: np.ndarray, predicted: np.ndarray, config: EvaluateConfig, seed: int
) -> dict:
    """Measures a model on N rows, each value with a 95 % interval.

    Returns:
        JSON values: rows, bootstrap_resamples and metrics: R², root mean squared and
        mean absolute error in the unit of the labels, and Spearman's rank correlation.
        R² and the correlation are None where all targets are equal, and the latter
        where all predictions are.

    Raises:
        ValueError: Shapes disagree, there are no rows, or a number is not finite.

    Example:
        >>> config = EvaluateConfig(bootstrap_resamples=100)
        >>> result = measure_regression([1, 2, 3, 4], [1, 2, 3, 5], config, seed=0)
        >>> result["metrics"]["r2"]["value"]
        0.8
    """
    y, p = np.ravel(np.asarray(targets, float)), np.ravel(np.asarray(predicted, float))
    if y.shape != p.shape or not len(y) or not np.isfinite([y, p]).all():
        raise ValueError(
            "`targets` and `predicted` must be finite and of one length of at least 1, "
            f"received {len(y)} and {len(p)}."
        )
    n = len(y)
    resamples = min(config.bootstrap_resamples, max(MIN_RESAMPLES, WORK // n))
    value = _weighted_metrics(y, p, np.ones((1, n)))
    chunks = [_weighted_metrics(y, p, w) for w in weight_chunks(n, resamples, seed)]
    return {
        "rows": n,
        "metrics": {
            name: percentile_interval(
                value[name][0], np.concatenate([chunk[name] for chunk in chunks])
            )
            for name in value
        },
        "bootstrap_resamples": resamples,
    }


def r_squared(
    targets: np.ndarray, predictions: Sequence[np.ndarray], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns R² (K,) of K predictions for N rows, and on resamples (K, R).

    All K share the resamples, so a function of several has an interval too.
    """
    y = np.ravel(np.asarray(targets, float))
    rows = np.stack([np.ravel(p) for p in predictions]).astype(float)  # (K, N)
    errors = (rows - y) ** 2
    parts = [_r_squared(y, errors, w) for w in weight_chunks(len(y), resamples, seed)]
    value = _r_squared(y, errors, np.ones((1, len(y))))
    return value[:, 0], np.concatenate(parts, axis=1)


def _r_squared(y, errors, weights) -> np.ndarray:
    """Returns (K, R): 1 - squared errors (K, N) over those of the resample's mean."""
    centered = y - y.mean()
    n = weights.sum(axis=1)
    total = weights @ centered**2 - (weights @ centered) ** 2 / n
    known = total > 1e-12 * max(float(np.mean(centered**2)), 1e-300)
    return 1 - (errors @ weights.T) / np.where(known, total, np.nan)


def _weighted_metrics(y, p, weights) -> dict[str, np.ndarray]:
    """Returns each metric (R,) on R resamples; NaN where undefined."""
    errors, n = p - y, weights.sum(axis=1)
    return {
        "r2": _r_squared(y, errors[None] ** 2, weights)[0],
        "rmse": np.sqrt(weights @ errors**2 / n),
        "mae": weights @ np.abs(errors) / n,
        "spearman": _correlation(_ranks(y, weights), _ranks(p, weights), weights),
    }


def _ranks(values, weights) -> np.ndarray:
    """Returns ranks (R, N) in resamples; equal values have their mean rank."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)  # (R, groups)
    return (np.cumsum(counts, axis=1) - counts / 2)[:, group]


def _correlation(a, b, weights) -> np.ndarray:
    """Returns the correlation (R,) of (R, N) with (R, N); NaN for a constant."""
    n = weights.sum(axis=1, keepdims=True)
    a, b = (x - (weights * x).sum(axis=1, keepdims=True) / n for x in (a, b))
    product, left, right = ((weights * x).sum(axis=1) for x in (a * b, a**2, b**2))
    spread = np.sqrt(left * right)
    return product / np.where(spread > 1e-12, spread, np.nan)
