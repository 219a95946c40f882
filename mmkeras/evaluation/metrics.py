"""Classification metrics with 95 % bootstrap intervals.

Shapes in this file: `targets` is (N, C) of 0 and 1, one-hot for the tasks "binary" and
"multiclass", multi-hot for "multilabel". `probabilities` is (N, C) in [0, 1]; rows sum
to 1 unless the task is multilabel. `weights` is (R, N): how often each of R resamples
has each row. A value on all rows is that of a resample of unit weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation.bootstrap import interval, weight_chunks

MIN_RESAMPLES = 100  # with fewer, an end of the interval depends on one or two values
WORK = 100_000_000  # limit of rows x classes x resamples; 4 s on one core
INTERVAL_CLASSES = 100  # above it, values per class have no interval
# Closer to 0 or 1, float32 has no precision; also Keras's epsilon.
MIN_PROBABILITY = 1e-7
_EPSILON = np.finfo("float64").eps
_SIDES = ("left", "right")  # before and after equal scores


def predict_labels(probabilities: np.ndarray, task: str) -> np.ndarray:
    """Returns (N, C) bool: the top class, or in multilabel all at 0.5 and above."""
    if task == "multilabel":
        return probabilities >= 0.5
    return np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(axis=1)]


def correct_rows(
    targets: np.ndarray, probabilities: np.ndarray, task: str
) -> np.ndarray:
    """Returns (N,) bool: whether all labels of a row are predicted correctly."""
    truth = np.asarray(targets).astype(bool)
    return (predict_labels(np.asarray(probabilities), task) == truth).all(axis=1)


def log_losses(truth: np.ndarray, probabilities: np.ndarray, task: str) -> np.ndarray:
    """Returns the log loss of each row (N,), clipped as scikit-learn does."""
    if task == "multilabel":
        p = np.where(truth, probabilities, 1 - probabilities)
        return -np.log(np.clip(p, _EPSILON, 1 - _EPSILON)).mean(axis=1)
    sums = probabilities.sum(axis=1, keepdims=True)
    p = (probabilities / np.maximum(sums, _EPSILON))[truth]
    return -np.log(np.clip(p, _EPSILON, 1 - _EPSILON))


@dataclass(frozen=True)
class ScoredRows:
    """Contributions of each row to the metrics, computed once for all resamples."""

    multilabel: bool
    truth: np.ndarray  # (N, C) bool
    predicted: np.ndarray  # (N, C) bool
    probabilities: np.ndarray  # (N, C) float64
    correct: np.ndarray  # (N,) bool
    losses: np.ndarray  # (N,) log loss
    gaps: np.ndarray  # (N, bins) confidence - hit, summed over the row's cells
    bins: np.ndarray  # (bins, 3) sums over all rows: cells, confidence, hits


def score_rows(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    task: str,
    bins: int,
) -> ScoredRows:
    """Checks N predictions and prepares them for `weighted_metrics`.

    Raises:
        ValueError: Shapes disagree, there are no rows, or a probability is not finite.
    """
    truth = np.asarray(targets).astype(bool)
    probabilities = np.asarray(probabilities, "float64")
    shape = (len(truth), len(classes))
    if truth.shape != shape or probabilities.shape != shape or not len(truth):
        raise ValueError(
            f"`targets` and `probabilities` must be (N, {len(classes)}) with N of at "
            f"least 1, received {truth.shape} and {probabilities.shape}."
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("`probabilities` must be finite, received NaN or infinity.")
    predicted = predict_labels(probabilities, task)
    correct = (truth == predicted).all(axis=1)
    if task == "multilabel":
        confidence, hit = probabilities, truth  # (N, C), every cell
    else:
        confidence = probabilities.max(axis=1, keepdims=True)  # (N, 1), the top class
        hit = correct[:, None]
    cells = np.stack([np.ones(hit.shape), confidence, hit], axis=-1)  # (N, cells, 3)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps, sums = np.zeros((len(truth), bins)), np.zeros((bins, 3))
    np.add.at(gaps, (np.arange(len(truth))[:, None], index), confidence - hit)
    np.add.at(sums, index, cells)
    return ScoredRows(
        multilabel=task == "multilabel",
        truth=truth,
        predicted=predicted,
        probabilities=probabilities,
        correct=correct,
        losses=log_losses(truth, probabilities, task),
        gaps=gaps,
        bins=sums,
    )


def weighted_metrics(
    rows: ScoredRows, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measures R resamples of N rows, given as (R, N) float64 weights.

    Returns:
        Metrics over all classes as name -> (R,), and per class as name -> (R, C);
        NaN where undefined.

    Source: scikit-learn, except for the expected calibration error: Guo et al., 2017,
    https://arxiv.org/abs/1706.04599, of the top class in bins of equal width.
    """
    hits, support, predicted = (
        weights @ x.astype("float64")
        for x in (rows.truth & rows.predicted, rows.truth, rows.predicted)
    )  # (R, C) each
    n = weights.sum(axis=1)  # (R,)
    per_class = {
        "precision": _divide(hits, predicted),
        "recall": _divide(hits, support),
        "f1": _divide(2 * hits, support + predicted),
    }
    columns = zip(rows.truth.T, rows.probabilities.T, strict=True)
    areas = [_areas(truth, scores, weights) for truth, scores in columns]
    per_class["roc_auc"], per_class["pr_auc"] = (
        np.stack(values, axis=1) for values in zip(*areas, strict=True)
    )
    balanced = per_class["recall"]
    if rows.multilabel:
        negatives = n[:, None] - support
        specificity = _divide(negatives - predicted + hits, negatives)
        balanced = _mean(np.stack([balanced, specificity], axis=-1))
    overall = {
        "accuracy": weights @ rows.correct / n,
        "balanced_accuracy": _mean(balanced),
    }
    absent = np.where(support + predicted > 0, 0, np.nan)
    names = ("precision", "recall", "f1")
    values = {name: np.nan_to_num(per_class[name]) for name in names}
    for name in names:
        overall[f"{name}_macro"] = _mean(values[name] + absent)
    for name in names:
        sums = (values[name] * support).sum(axis=1)
        overall[f"{name}_weighted"] = np.nan_to_num(_divide(sums, support.sum(axis=1)))
    overall["roc_auc"] = _mean(per_class["roc_auc"])
    overall["pr_auc"] = _mean(per_class["pr_auc"])
    overall["log_loss"] = weights @ rows.losses / n
    cells = rows.bins[:, 0].sum() / len(rows.truth)  # per row
    overall["ece"] = np.abs(weights @ rows.gaps).sum(axis=1) / (n * cells)
    return overall, per_class


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns NaN where the denominator is 0."""
    nan = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=nan, where=denominator > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis without NaN; NaN if all are."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _areas(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray):
    """Returns ROC-AUC (ties count half) and average precision of a class, each (R,).

    Both follow from two cumulative sums at the P positive rows, before and after the
    rows of equal score, so that the work for a rare class is small.
    """
    order = np.argsort(-scores, kind="stable")
    scores, is_positive = -scores[order], truth[order]
    positives = np.take(weights, order[is_positive], axis=1)  # (R, P)
    sums = _cumulate(np.take(weights, order, axis=1))
    positive_sums = _cumulate(positives)
    thresholds = scores[is_positive]
    passed, true_passed = (
        [
            np.take(x, np.searchsorted(ranked, thresholds, side), axis=1)
            for side in _SIDES
        ]
        for x, ranked in ((sums, scores), (positive_sums, thresholds))
    )  # (R, P), each before and after
    n_positive = positive_sums[:, -1]
    n_negative = sums[:, -1] - n_positive
    false_passed = (passed[0] + passed[1] - true_passed[0] - true_passed[1]) / 2
    ranked_above = (positives * (n_negative[:, None] - false_passed)).sum(axis=1)
    roc = _divide(ranked_above, n_positive * n_negative)
    precision = true_passed[1] / np.maximum(passed[1], 1)  # 0 / 1 before any row
    area = _divide((positives * precision).sum(axis=1), n_positive)
    return roc, np.where(n_negative > 0, area, np.nan)


def _cumulate(weights: np.ndarray) -> np.ndarray:
    """Returns sums of the first 0, 1, ... columns."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def measure(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    task: str,
    config: EvaluateConfig,
    seed: int,
) -> dict:
    """Measures a model on N rows, each value with a 95 % interval.

    The intervals are percentiles of a bootstrap over rows, or Wilson's where a value is
    0 or 1 on all resamples. `WORK` reduces the number of resamples for many rows and
    classes, never below 100.

    Args:
        targets: (N, C) of 0 and 1, for the C names in `classes`.
        probabilities: (N, C) in [0, 1].
        task: "binary", "multiclass" or "multilabel".

    Returns:
        JSON values: rows, metrics, per_class, confusion_matrix, reliability and
        bootstrap_resamples. Macro averages are over the classes that occur in the
        targets or predictions; AUCs, binary ones too, over those with positive and
        negative rows. Multilabel: accuracy requires all classes of a row to be
        correct, balanced accuracy is the mean over classes, and calibration compares
        each cell's probability with how often it is true. Undefined values are None,
        and so are the intervals per class of more than `INTERVAL_CLASSES` classes.

    Raises:
        ValueError: Shapes disagree, there are no rows, or a probability is not finite.

    Example:
        >>> config = EvaluateConfig(bootstrap_resamples=100)
        >>> result = measure([[1, 0], [0, 1]], [[0.9, 0.1], [0.4, 0.6]],
        ...                  ["cat", "dog"], "binary", config, seed=0)
        >>> result["metrics"]["accuracy"]
        {'value': 1.0, 'low': 0.3423..., 'high': 1.0}
    """
    rows = score_rows(targets, probabilities, classes, task, config.calibration_bins)
    limit = max(MIN_RESAMPLES, WORK // rows.truth.size)
    resamples = min(config.bootstrap_resamples, limit)
    n = len(rows.truth)
    values, class_values = weighted_metrics(rows, np.ones((1, n)))
    chunks = [weighted_metrics(rows, w) for w in weight_chunks(n, resamples, seed)]
    spread, class_spread = (
        {name: np.concatenate([c[i][name] for c in chunks]) for name in chunks[0][i]}
        for i in (0, 1)
    )
    per_class, counts = {}, [_class_rows(rows, c) for c in range(len(classes))]
    for c, name in enumerate(classes):
        per_class[name] = {
            m: interval(v[0, c], class_spread[m][:, c], counts[c][m])
            if len(classes) <= INTERVAL_CLASSES
            else _without_interval(v[0, c])
            for m, v in class_values.items()
        } | {"support": counts[c]["recall"]}
    return {
        "rows": n,
        "metrics": {
            k: interval(v[0], spread[k], _smallest_class(k, counts, rows))
            for k, v in values.items()
        },
        "per_class": per_class,
        "confusion_matrix": _confusion(rows),
        "reliability": _reliability(rows.bins),
        "bootstrap_resamples": resamples,
    }


def _class_rows(rows: ScoredRows, c: int) -> dict[str, int]:
    """Returns how many rows each metric of a class is a share of."""
    support = int(rows.truth[:, c].sum())
    fewer = min(support, len(rows.truth) - support)  # positive or negative rows
    counts = {"precision": int(rows.predicted[:, c].sum()), "recall": support}
    return counts | {"f1": support, "roc_auc": fewer, "pr_auc": fewer}


def _smallest_class(metric: str, counts: list[dict[str, int]], rows: ScoredRows) -> int:
    """Returns the rows of the smallest class in a mean over classes; else all rows."""
    name = metric.removesuffix("_macro")
    if metric == "balanced_accuracy":  # of recalls, in multilabel of specificities too
        name = "roc_auc" if rows.multilabel else "recall"
    known = [count[name] for count in counts if count.get(name)]
    return min(known, default=len(rows.truth))


def _without_interval(value: float) -> dict[str, float | None]:
    known = None if np.isnan(value) else float(value)
    return {"value": known, "low": None, "high": None}


def _confusion(rows: ScoredRows) -> list:
    """Returns (C, C) counts, truth by prediction; multilabel: (C, 2, 2)."""
    truth, predicted = rows.truth, rows.predicted
    if rows.multilabel:
        cells = [
            [((truth == t) & (predicted == p)).sum(axis=0) for p in (False, True)]
            for t in (False, True)
        ]
        return np.moveaxis(cells, -1, 0).tolist()
    c = truth.shape[1]
    pairs = truth.argmax(axis=1) * c + predicted.argmax(axis=1)
    return np.bincount(pairs, minlength=c * c).reshape(c, c).tolist()


def _reliability(bins: np.ndarray) -> list[dict]:
    edges = np.linspace(0, 1, len(bins) + 1)
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "rows": int(count),
            "confidence": float(confidence / count) if count else None,
            "accuracy": float(hits / count) if count else None,
        }
        for i, (count, confidence, hits) in enumerate(bins)
    ]
