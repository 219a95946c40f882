"""Metrics with 95 % intervals, and the comparison of two models.

Shapes, everywhere in this file: `targets` is (N, C) of 0 and 1, one-hot for the
tasks "binary" and "multiclass", multi-hot for "multilabel"; `probabilities` is
(N, C) in [0, 1], of which rows sum to 1 unless the task is multilabel. R counts
bootstrap resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from mmkeras.config import EvaluateConfig

INTERVAL = (2.5, 97.5)  # percentiles, for 95 %
LEAST_RESAMPLES = 100  # below it, an end of the interval rests on one or two values
WORK = 100_000_000  # rows x classes x resamples; 4 s on one core
CHUNK = 250_000  # weights in memory at a time: 2 MB, near the processor
LOWEST = 1e-7  # probabilities nearer to 0 or 1 drown in float32; also Keras's epsilon
_SIDES = ("left", "right")  # before and after equal scores


def predict_labels(probabilities: np.ndarray, task: str) -> np.ndarray:
    """Returns the answer as (N, C) bool: the top class, or all at 0.5 and above."""
    if task == "multilabel":
        return probabilities >= 0.5
    return np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(axis=1)]


@dataclass(frozen=True)
class _Rows:
    """What each row adds to the metrics, worked out once for all resamples."""

    multilabel: bool
    truth: np.ndarray  # (N, C) bool
    guess: np.ndarray  # (N, C) bool
    probabilities: np.ndarray  # (N, C) float64
    right: np.ndarray  # (N,) bool, all of the answer is
    losses: np.ndarray  # (N,) log loss
    gaps: np.ndarray  # (N, bins) sum of confidence - hit over the row's cells
    bins: np.ndarray  # (bins, 3) sums over all rows: cells, confidence, hits


def _rows(targets, probabilities, classes: Sequence[str], task: str, bins: int):
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
    guess = predict_labels(probabilities, task)
    right = (truth == guess).all(axis=1)
    if task == "multilabel":
        confidence, hit = probabilities, truth  # (N, C), every cell
    else:
        confidence = probabilities.max(axis=1, keepdims=True)  # (N, 1), the top class
        hit = right[:, None]
    cells = np.stack([np.ones(hit.shape), confidence, hit], axis=-1)  # (N, cells, 3)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps, sums = np.zeros((len(truth), bins)), np.zeros((bins, 3))
    np.add.at(gaps, (np.arange(len(truth))[:, None], place), confidence - hit)
    np.add.at(sums, place, cells)
    losses = log_losses(truth, probabilities, task)
    return _Rows(
        task == "multilabel", truth, guess, probabilities, right, losses, gaps, sums
    )


def log_losses(truth: np.ndarray, probabilities: np.ndarray, task: str) -> np.ndarray:
    """Returns the log loss of each row (N,), clipped as scikit-learn does."""
    least = np.finfo("float64").eps
    if task == "multilabel":
        of_truth = np.where(truth, probabilities, 1 - probabilities)
        return -np.log(np.clip(of_truth, least, 1 - least)).mean(axis=1)
    of_truth = _normal(probabilities)[truth]
    return -np.log(np.clip(of_truth, least, 1 - least))


def _normal(probabilities: np.ndarray) -> np.ndarray:
    sums = probabilities.sum(axis=1, keepdims=True)
    return probabilities / np.maximum(sums, np.finfo("float64").eps)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis of what is not NaN, NaN if nothing is."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _weighed(rows: _Rows, weights: np.ndarray) -> tuple[dict, dict]:
    """Measures R resamples at once, without scikit-learn's cost for each.

    Args:
        rows: The N rows.
        weights: (R, N) float64, how often each resample holds each row.

    Returns:
        Metrics over all classes as name -> (R,), and by class as name -> (R, C);
        NaN where a resample cannot tell.
    """
    both, support, predicted = (
        weights @ x.astype("float64")
        for x in (rows.truth & rows.guess, rows.truth, rows.guess)
    )  # (R, C) each
    n = weights.sum(axis=1)  # (R,)
    by_class = {
        "precision": _ratio(both, predicted),
        "recall": _ratio(both, support),
        "f1": _ratio(2 * both, support + predicted),
    }
    by_class["roc_auc"], by_class["pr_auc"] = _ranked(rows, weights)
    balanced = by_class["recall"]
    if rows.multilabel:
        negatives = n[:, None] - support
        missed = _ratio(negatives - predicted + both, negatives)
        balanced = _mean(np.stack([balanced, missed], axis=-1))
    overall = {
        "accuracy": weights @ rows.right / n,
        "balanced_accuracy": _mean(balanced),
    }
    occurs = np.where(support + predicted > 0, 0, np.nan)
    for name in ("precision", "recall", "f1"):
        values = np.nan_to_num(by_class[name])
        overall[f"{name}_macro"] = _mean(values + occurs)
        weighted = _ratio((values * support).sum(axis=1), support.sum(axis=1))
        overall[f"{name}_weighted"] = np.nan_to_num(weighted)
    overall["roc_auc"] = _mean(by_class["roc_auc"])
    overall["pr_auc"] = _mean(by_class["pr_auc"])
    overall["log_loss"] = weights @ rows.losses / n
    cells = rows.bins[:, 0].sum() / len(rows.truth)  # in a row
    overall["ece"] = np.abs(weights @ rows.gaps).sum(axis=1) / (n * cells)
    return overall, by_class


def _ranked(rows: _Rows, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ROC-AUC and average precision, each (R, C), ties counted half."""
    columns = zip(rows.truth.T, rows.probabilities.T, strict=True)
    both = [_ranked_class(truth, scores, weights) for truth, scores in columns]
    return tuple(np.stack(values, axis=1) for values in zip(*both, strict=True))


def _ranked_class(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray):
    """Returns ROC-AUC and average precision of one class, each (R,).

    Everything is read off two running sums at the P true rows, before and after the
    rows of equal score, so that the work for a rare class is small.
    """
    order = np.argsort(-scores, kind="stable")
    scores, of_truth = -scores[order], truth[order]
    yes = np.take(weights, order[of_truth], axis=1)  # (R, P)
    every, every_yes = _running(np.take(weights, order, axis=1)), _running(yes)
    at = scores[of_truth]
    seen, seen_yes = (
        [np.take(sums, np.searchsorted(ranked, at, side), axis=1) for side in _SIDES]
        for sums, ranked in ((every, scores), (every_yes, at))
    )  # (R, P), each before and after
    all_yes = every_yes[:, -1]
    all_no = every[:, -1] - all_yes
    passed = (seen[0] + seen[1] - seen_yes[0] - seen_yes[1]) / 2
    roc = _ratio((yes * (all_no[:, None] - passed)).sum(axis=1), all_yes * all_no)
    precision = seen_yes[1] / np.maximum(seen[1], 1)  # 0 / 1 before any row
    area = _ratio((yes * precision).sum(axis=1), all_yes)
    return roc, np.where(all_no > 0, area, np.nan)


def _running(weights: np.ndarray) -> np.ndarray:
    """Returns sums of the first 0, 1, ... columns."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _draws(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields (r, N) float64, how often each resample holds each of N rows."""
    rng, left = np.random.default_rng(seed), resamples
    while left:
        r = min(left, max(8, CHUNK // n))  # 8: each part sorts the rows anew
        drawn = rng.integers(0, n, (r, n)) + n * np.arange(r)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=r * n).reshape(r, n)
        yield weights.astype("float64")
        left -= r


def _bootstrap(rows: _Rows, resamples: int, seed: int) -> tuple[dict, dict]:
    """Returns what `_weighed` does, for `resamples` draws of N rows out of N."""
    draws = _draws(len(rows.truth), resamples, seed)
    parts = [_weighed(rows, weights) for weights in draws]
    return tuple(
        {name: np.concatenate([p[i][name] for p in parts]) for name in parts[0][i]}
        for i in (0, 1)
    )


def _points(rows: _Rows, task: str) -> tuple[dict, dict]:
    """Returns scikit-learn's values: name -> float, and name -> (C,)."""
    truth, guess = rows.truth.astype(int), rows.guess.astype(int)
    occurs = np.flatnonzero((truth | guess).any(axis=0))
    labels = occurs if len(occurs) else None
    if rows.multilabel:
        pairs = list(zip(truth.T, guess.T, strict=True))  # a yes or no for each class
        loss = sk.log_loss(truth.ravel(), rows.probabilities.ravel(), labels=[0, 1])
    else:
        truth, guess = truth.argmax(axis=1), guess.argmax(axis=1)
        pairs = [(truth, guess)]
        every = np.arange(rows.truth.shape[1])
        loss = sk.log_loss(truth, _normal(rows.probabilities), labels=every)
    balanced = [
        sk.recall_score(t, g, labels=np.unique(t), average="macro", zero_division=0)
        for t, g in pairs
    ]
    overall = {
        "accuracy": sk.accuracy_score(truth, guess),
        "balanced_accuracy": np.mean(balanced),
    }
    for average in ("macro", "weighted"):
        values = sk.precision_recall_fscore_support(
            truth, guess, labels=labels, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            overall[f"{name}_{average}"] = value
    by_class = _class_points(rows, truth, guess)
    overall["roc_auc"] = _mean(by_class["roc_auc"])
    overall["pr_auc"] = _mean(by_class["pr_auc"])
    gaps = np.abs(rows.bins[:, 1] - rows.bins[:, 2])
    overall |= {"log_loss": loss, "ece": gaps.sum() / rows.bins[:, 0].sum()}
    return overall, by_class


def _class_points(rows: _Rows, truth: np.ndarray, guess: np.ndarray) -> dict:
    """Returns name -> (C,); `truth` and `guess` as scikit-learn takes them."""
    every = np.arange(rows.truth.shape[1])
    values = sk.precision_recall_fscore_support(
        truth, guess, labels=every, zero_division=np.nan
    )
    by_class = dict(zip(("precision", "recall", "f1", "support"), values, strict=True))
    columns = list(zip(rows.truth.T, rows.probabilities.T, strict=True))
    for name, score in (
        ("roc_auc", sk.roc_auc_score),
        ("pr_auc", sk.average_precision_score),
    ):
        by_class[name] = np.array(
            [score(t, p) if 0 < t.sum() < len(t) else np.nan for t, p in columns]
        )
    return by_class


def interval(value: float, resampled: np.ndarray) -> dict[str, float | None]:
    """Returns {"value", "low", "high"}; None stands for what cannot be computed.

    The interval is stretched to hold the value: resamples of the calibration error
    lie above it, because noise only ever adds to an absolute gap.
    """
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not len(known):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(known, INTERVAL)
    value, low, high = float(value), float(low), float(high)
    return {"value": value, "low": min(low, value), "high": max(high, value)}


def _confusion(rows: _Rows) -> list:
    if rows.multilabel:
        return sk.multilabel_confusion_matrix(rows.truth, rows.guess).tolist()
    every = np.arange(rows.truth.shape[1])
    truth, guess = rows.truth.argmax(axis=1), rows.guess.argmax(axis=1)
    return sk.confusion_matrix(truth, guess, labels=every).tolist()


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


def measure(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    task: str,
    config: EvaluateConfig,
    seed: int,
) -> dict:
    """Measures a model on N rows, each value with a 95 % interval.

    The intervals are percentiles of a bootstrap over rows, with fewer resamples than
    asked for (never below 100) where rows x classes would take long.

    Args:
        targets: (N, C) of 0 and 1.
        probabilities: (N, C).
        classes: The C names.
        task: binary, multiclass or multilabel.
        config: Resamples and bins.
        seed: Of the resamples.

    Returns:
        Plain values for JSON: rows, metrics, per_class, confusion_matrix,
        reliability and bootstrap_resamples. Macro averages take the classes that
        occur in the rows or the answers; AUCs, binary ones too, those with both
        kinds of rows. Multilabel: accuracy asks for all classes of a row to be
        right, balanced accuracy is the mean over classes of each yes or no, and
        calibration compares each cell's probability with how often it is true.
        What cannot be computed is None.

    Raises:
        ValueError: Shapes disagree, there is no row, or a probability is NaN.

    Source: scikit-learn, but for the expected calibration error: Guo et al., 2017,
    https://arxiv.org/abs/1706.04599, of the top class in bins of equal width.
    """
    rows = _rows(targets, probabilities, classes, task, config.calibration_bins)
    affordable = max(LEAST_RESAMPLES, WORK // rows.truth.size)
    resamples = min(config.bootstrap_resamples, affordable)
    overall, by_class = _points(rows, task)
    spread, class_spread = _bootstrap(rows, resamples, seed)
    per_class = {
        name: {m: interval(by_class[m][c], v[:, c]) for m, v in class_spread.items()}
        | {"support": int(rows.truth[:, c].sum())}
        for c, name in enumerate(classes)
    }
    return {
        "rows": len(rows.truth),
        "metrics": {name: interval(v, spread[name]) for name, v in overall.items()},
        "per_class": per_class,
        "confusion_matrix": _confusion(rows),
        "reliability": _reliability(rows.bins),
        "bootstrap_resamples": resamples,
    }


def correct(targets: np.ndarray, probabilities: np.ndarray, task: str) -> np.ndarray:
    """Returns (N,) bool: which rows are answered right, all of their labels."""
    truth = np.asarray(targets).astype(bool)
    return (predict_labels(np.asarray(probabilities), task) == truth).all(axis=1)


def accuracies(
    right: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the accuracy of K answers to the same N rows, and of their resamples.

    All K are judged on the same resampled rows, so that what is computed of several of
    them has an interval, too; and they are the rows that `measure` draws.

    Args:
        right: (K, N) bool, as of `answered_right`.
        resamples: R.
        seed: Of the resamples.

    Returns:
        (K,) and (K, R).
    """
    right = np.asarray(right, "float64")
    n = right.shape[1]
    parts = [right @ weights.T / n for weights in _draws(n, resamples, seed)]
    return right.mean(axis=1), np.concatenate(parts, axis=1)


def compare(
    targets: np.ndarray,
    probabilities_a: np.ndarray,
    probabilities_b: np.ndarray,
    task: str,
    seed: int,
    resamples: int,
) -> dict[str, float | None]:
    """Returns by how much a's accuracy exceeds b's on the same rows, in [-1, 1].

    The bootstrap is paired: both models are judged on the same resampled rows. It
    only matters which of the two is right, so counts of rows are drawn, not rows.
    """
    right_a, right_b = (
        correct(targets, p, task).astype(int)
        for p in (probabilities_a, probabilities_b)
    )
    n = len(right_a)
    counts = np.bincount(right_a - right_b + 1, minlength=3)  # b better, same, a better
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    return interval((counts[2] - counts[0]) / n, (drawn[:, 2] - drawn[:, 0]) / n)
