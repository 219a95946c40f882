"""Finished runs side by side: accuracies with intervals, and tables of them."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmkeras.schema import ID, LABEL, LABEL_SEPARATOR

INTERVAL = (2.5, 97.5)  # percentiles, for 95 %
HOW = (
    "Accuracy is the mean over seeds; its 95 % interval is that of a bootstrap which "
    "draws the test rows, the same for all seeds, and the seeds."
)

# Id of a row -> whether it was answered rightly.
TestPredictions = dict[str, bool]


def read_predictions(predictions: Path) -> TestPredictions:
    """Reads a predictions.csv; of several labels all must be right."""
    with predictions.open(newline="", encoding="utf-8") as file:
        return {
            row[ID]: _labels(row[LABEL]) == _labels(row["predicted"])
            for row in csv.DictReader(file)
        }


def _labels(cell: str) -> set[str]:
    return set(cell.split(LABEL_SEPARATOR))


def accuracy(answers: Sequence[TestPredictions], resamples: int) -> dict[str, float]:
    """Returns the mean accuracy of S runs, with an interval that covers rows and seeds.

    Args:
        answers: Of each seed's run. They may have different rows.
        resamples: Each draws rows, the same for all runs, and runs, with replacement.

    Returns:
        value, low and high.

    Source: Owen, 2007, "The pigeonhole bootstrap", https://arxiv.org/abs/0712.1111;
    on the wide side where rows and seeds matter, and with three seeds a rough account
    of theirs.
    """
    return _interval(
        [{k: float(v) for k, v in run.items()} for run in answers], resamples
    )


def difference(
    ours: Sequence[TestPredictions], theirs: Sequence[TestPredictions], resamples: int
) -> dict[str, float]:
    """Returns how much higher our mean accuracy is, in pairs of the same row and seed.

    Args:
        ours, theirs: As of `accuracy`, in the same order of seeds.
        resamples: As of `accuracy`.
    """
    pairs = zip(ours, theirs, strict=True)
    gains = [{k: float(a[k]) - float(b[k]) for k in a if k in b} for a, b in pairs]
    return _interval(gains, resamples)


def _interval(runs: Sequence[dict[str, float]], resamples: int) -> dict[str, float]:
    """Mean over runs of each one's mean over rows, with its interval."""
    place = {row: i for i, row in enumerate(sorted(set().union(*runs)))}
    values, there = np.zeros((2, len(runs), len(place)))  # (S, N) each
    for s, run in enumerate(runs):
        at = [place[row] for row in run]
        values[s, at], there[s, at] = list(run.values()), 1.0
    drawn = [_mean(values, there, *w) for w in _draws(values.shape, resamples)]
    ones = np.ones(len(runs)), np.ones(len(place))
    low, high = np.nanpercentile(drawn, INTERVAL)
    value = _mean(values, there, *ones)
    return {"value": float(value), "low": float(low), "high": float(high)}


def _mean(values, there, of_runs, of_rows) -> float:
    """Weighs runs (S,) and rows (N,); NaN where no run has one of the rows."""
    rows = there @ of_rows  # (S,)
    of_runs = of_runs * (rows > 0)
    if not of_runs.any():
        return np.nan
    return of_runs @ (values @ of_rows / np.maximum(rows, 1)) / of_runs.sum()


def _draws(shape, resamples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield tuple(
            np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
            for n in shape
        )


# Tables ---------------------------------------------------------------------------
