"""Bootstrap over rows, and 95 % intervals of values measured on its resamples."""

from collections.abc import Iterator

import numpy as np

INTERVAL = (2.5, 97.5)  # percentiles, for 95 %
_Z = 1.959964  # quantile of the normal distribution, for 95 %
_CHUNK = 250_000  # weights in memory at a time: 2 MB, so that they stay in the cache


def draw_weights(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """Draws N of N rows with replacement, R times.

    Returns:
        (R, N) float64: how often each resample has each row.
    """
    indices = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(indices.ravel(), minlength=resamples * n)
    return counts.reshape(resamples, n).astype("float64")


def weight_chunks(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the weights of all resamples, (r, N) at a time."""
    rng, remaining = np.random.default_rng(seed), resamples
    while remaining:
        size = min(remaining, max(8, _CHUNK // n))  # 8: each chunk sorts the rows anew
        yield draw_weights(rng, n, size)
        remaining -= size


def percentile_interval(value: float, resampled: np.ndarray) -> dict[str, float | None]:
    """Returns {"value", "low", "high"} of any value, with percentiles of `resampled`.

    Resamples (R,) without NaN count. The interval is widened to contain the value; all
    three are None if it is NaN.
    """
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not len(known):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(known, INTERVAL)
    low, high = min(low, value), max(high, value)
    return {"value": float(value), "low": float(low), "high": float(high)}


def interval(
    value: float, resampled: np.ndarray, rows: int, lowest: float = 0.0
) -> dict[str, float | None]:
    """Returns {"value", "low", "high"} of the value on N rows; all None if it is NaN.

    The interval has the percentiles of `resampled`, (R,) values on resamples, without
    NaN. It is widened to contain the value: resamples of the calibration error are
    above it, because noise can only increase an absolute gap.

    Where all rows are right, or all wrong, all resamples are equal. The interval then
    is Wilson's for a proportion of `rows` (exact for accuracy, precision and recall,
    approximate for other metrics of 0 or 1). A difference of 1 or -1 is one between two
    such proportions, both uncertain.

    Args:
        rows: Number of rows that the value is measured on.
        lowest: Lower limit of the metric: 0, or -1 for a difference.

    Example:
        >>> interval(1.0, np.ones(500), rows=12)
        {'value': 1.0, 'low': 0.7575..., 'high': 1.0}

    Source: Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    result = percentile_interval(value, resampled)
    if result["value"] is None:
        return result
    value, low, high = result.values()
    # Other constants are exact, such as the AUC of 0.5 of equal scores.
    if low == high and (value in (0, 1) or lowest < 0):
        margin = _Z**2 / (rows + _Z**2)
        if lowest < 0:
            margin *= 1 + abs(value)
        low, high = max(value - margin, lowest), min(value + margin, 1.0)
    return {"value": value, "low": low, "high": high}


def accuracies(
    correct: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns accuracies (K,) of K predictions for N rows, and their resamples (K, R).

    R is `resamples`. All K share them, so a function of several has an interval too;
    `metrics.measure` uses the same. `correct` is (K, N) bool, as from
    `metrics.correct_rows`, or shares in [0, 1].
    """
    correct = np.asarray(correct, "float64")
    n = correct.shape[1]
    parts = [correct @ w.T / n for w in weight_chunks(n, resamples, seed)]
    return correct.mean(axis=1), np.concatenate(parts, axis=1)


def compare_accuracies(
    correct_a: np.ndarray, correct_b: np.ndarray, resamples: int, seed: int
) -> dict[str, float | None]:
    """Returns by how much a's accuracy exceeds b's on the same N rows, in [-1, 1].

    The bootstrap is paired: both, (N,) bool as from `metrics.correct_rows`, are
    measured on the same resampled rows. Only which of the two is correct matters, so
    it draws counts of rows instead of rows.
    """
    gains = np.asarray(correct_a, int) - np.asarray(correct_b, int)
    n, counts = len(gains), np.bincount(gains + 1, minlength=3)  # b better, equal, a
    samples = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    differences = (samples[:, 2] - samples[:, 0]) / n
    return interval((counts[2] - counts[0]) / n, differences, n, lowest=-1)
