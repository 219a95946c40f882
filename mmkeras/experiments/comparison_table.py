"""Scores of finished runs, with bootstrap intervals over test rows and seeds."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmkeras.evaluation.bootstrap import draw_weights, interval, percentile_interval
from mmkeras.evaluation.text_metrics import exact_matches
from mmkeras.names import split_references
from mmkeras.schema import ID, LABEL, LABEL_SEPARATOR

INTERVAL_METHOD = (
    "The score is the mean over seeds; its 95 % interval is that of a bootstrap which "
    "draws the test rows, the same for all seeds, and the seeds."
)

# Row id -> whether the prediction is correct.
TestPredictions = dict[str, bool]


def read_predictions(path: Path) -> TestPredictions:
    """Reads a predictions.csv; with several labels per row all must be correct."""
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row[ID]: _labels(row[LABEL]) == _labels(row["predicted"])
            for row in csv.DictReader(file)
        }


def _labels(cell: str) -> set[str]:
    return set(cell.split(LABEL_SEPARATOR))


def read_matches(path: Path) -> TestPredictions:
    """Reads a predictions.csv of a generator: whether a text is a reference."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    references = [split_references(row[LABEL]) for row in rows]
    matches = exact_matches(references, [row["predicted"] for row in rows])
    return {row[ID]: bool(x) for row, x in zip(rows, matches, strict=True)}


def read_values(path: Path) -> dict[str, tuple[float, float]]:
    """Reads a predictions.csv of regression: row id -> label and prediction."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row[ID]: (float(row[LABEL]), float(row["predicted"])) for row in rows}


def r2(
    runs: Sequence[dict[str, tuple[float, float]]], resamples: int
) -> dict[str, float | None]:
    """Returns the mean R² of S runs, results of `read_values`, as `accuracy` does."""
    column = {row: i for i, row in enumerate(sorted(set().union(*runs)))}
    truth, errors, present = np.zeros((3, len(runs), len(column)))  # (S, N) each
    for s, run in enumerate(runs):
        columns = [column[row] for row in run]
        labels, predicted = np.array(list(run.values())).T
        truth[s, columns], present[s, columns] = labels, 1.0
        errors[s, columns] = (labels - predicted) ** 2

    def mean_r2(run_weights, row_weights) -> float:
        weights = present * row_weights  # (S, N)
        rows = np.maximum(weights.sum(axis=1, keepdims=True), 1)
        centered = truth - (weights * truth).sum(axis=1, keepdims=True) / rows
        total = (weights * centered**2).sum(axis=1)
        run_weights = run_weights * (total > 0)
        if not run_weights.any():
            return np.nan
        each = 1 - (weights * errors).sum(axis=1) / np.where(total > 0, total, 1)
        return run_weights @ each / run_weights.sum()

    shape = truth.shape
    means = [mean_r2(*weights) for weights in _resampled_weights(shape, resamples)]
    return percentile_interval(mean_r2(*map(np.ones, shape)), np.array(means))


def accuracy(runs: Sequence[TestPredictions], resamples: int) -> dict[str, float]:
    """Returns the mean accuracy of S runs, with an interval that covers rows and seeds.

    The rows of the runs may differ. Resamples are of rows, the same for all runs, and
    of runs. The keys are value, low and high.

    Source: Owen, 2007, "The pigeonhole bootstrap", https://arxiv.org/abs/0712.1111;
    conservative if both rows and seeds matter, and rough with only three seeds.
    """
    values = [{k: float(v) for k, v in run.items()} for run in runs]
    return _interval(values, resamples, lowest=0)


def difference(
    runs: Sequence[TestPredictions],
    baselines: Sequence[TestPredictions],
    resamples: int,
) -> dict[str, float]:
    """Returns the gain in mean accuracy over baselines, paired by row and seed.

    The keys are value, low and high.
    """
    pairs = zip(runs, baselines, strict=True)
    gains = [{k: float(a[k]) - float(b[k]) for k in a if k in b} for a, b in pairs]
    return _interval(gains, resamples, lowest=-1)


def _interval(
    runs: Sequence[dict[str, float]], resamples: int, lowest: float
) -> dict[str, float]:
    """Returns the mean over runs of the mean over rows, with its interval."""
    column = {row: i for i, row in enumerate(sorted(set().union(*runs)))}
    values, present = np.zeros((2, len(runs), len(column)))  # (S, N) each
    for s, run in enumerate(runs):
        columns = [column[row] for row in run]
        values[s, columns], present[s, columns] = list(run.values()), 1.0
    means = [
        _weighted_mean(values, present, *weights)
        for weights in _resampled_weights(values.shape, resamples)
    ]
    value = _weighted_mean(values, present, *map(np.ones, values.shape))
    return interval(value, np.array(means), len(column), lowest)


def _weighted_mean(values, present, run_weights, row_weights) -> float:
    """Weighs runs (S,) and rows (N,); NaN if no run has a row with a weight."""
    rows = present @ row_weights  # (S,)
    run_weights = run_weights * (rows > 0)
    if not run_weights.any():
        return np.nan
    means = values @ row_weights / np.maximum(rows, 1)
    return run_weights @ means / run_weights.sum()


def _resampled_weights(shape, resamples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield tuple(draw_weights(rng, n, 1)[0] for n in shape)
