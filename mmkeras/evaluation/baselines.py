"""What a deep model has to beat: class frequencies and logistic regression."""

import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

WIDE = 1024  # blocks wider than this are reduced, so that the fit takes seconds
COMPONENTS = 128
ITERATIONS = 200
# Inverse regularisation, on blocks of unit variance in all. scikit-learn's 1 suits
# features of unit variance each and would make the baseline a straw man: on 100 rows
# of its digits 77 % right instead of 87 %; from 10 to 100 hardly differ.
C = 30.0


def majority(train_targets: np.ndarray, n_rows: int, task: str) -> np.ndarray:
    """Answers every row with the class frequencies of the training rows.

    Args:
        train_targets: (N, C) of 0 and 1.
        n_rows: Rows to answer.
        task: binary, multiclass or multilabel.

    Returns:
        (n_rows, C) float64; rows sum to 1 unless the task is multilabel.
    """
    frequencies = np.asarray(train_targets, "float64").mean(axis=0)
    if task != "multilabel":
        frequencies = frequencies / frequencies.sum()
    return np.tile(frequencies, (n_rows, 1))


def logistic_regression(
    train_features: Mapping[str, np.ndarray],
    train_targets: np.ndarray,
    features: Mapping[str, np.ndarray],
    task: str,
    seed: int,
    max_rows: int = 5000,
) -> np.ndarray:
    """Fits logistic regression to training rows and answers n others.

    Each block of features is standardised and divided by the root of its width, so
    that a wide modality does not outweigh a narrow one.

    Args:
        train_features: Name of a block -> (N, D) float. Rows without a modality are
            all zeros there; a further block says which modalities a row has.
        train_targets: (N, C) of 0 and 1.
        features: The same blocks of the rows to answer, (n, D) each.
        task: binary, multiclass or multilabel; the last is one fit for each class.
        seed: Of the choice of training rows and of the reduction of wide blocks.
        max_rows: Training rows used at most.

    Returns:
        (n, C) float64; 0 for classes that no training row has.
    """
    chosen = _choose(len(train_targets), max_rows, seed)
    targets = np.asarray(train_targets)[chosen].astype(int)
    names = sorted(train_features)
    pairs = [
        _block(np.asarray(train_features[n])[chosen], np.asarray(features[n]), seed)
        for n in names
    ]
    train, rows = (
        np.concatenate(blocks, axis=1) for blocks in zip(*pairs, strict=True)
    )
    if task == "multilabel":
        columns = [_fit(train, target, rows, classes=2)[:, 1] for target in targets.T]
        return np.stack(columns, axis=1)
    return _fit(train, targets.argmax(axis=1), rows, targets.shape[1])


def of_tokens(numbers: np.ndarray, known: int) -> np.ndarray:
    """Counts tokens, to features of a baseline.

    Args:
        numbers: (N, L) int, 0 in padding, else from 1 to `known`.
        known: Different tokens.

    Returns:
        (N, known) float32: the logarithm of one more than how often a row has each.
    """
    counts = np.zeros((len(numbers), known + 1), "float32")
    np.add.at(counts, (np.arange(len(numbers))[:, None], numbers), 1)
    return np.log1p(counts[:, 1:])


def of_frames(frames: np.ndarray) -> np.ndarray:
    """Sums up frames, to features of a baseline.

    Args:
        frames: (N, T, F), all zeros in padding.

    Returns:
        (N, 2 F): mean and standard deviation over each row's own frames.
    """
    there = (frames != 0).any(axis=2, keepdims=True)
    count = np.maximum(there.sum(axis=1), 1)
    mean = frames.sum(axis=1) / count
    squares = (there * (frames - mean[:, None]) ** 2).sum(axis=1) / count
    return np.concatenate([mean, np.sqrt(squares)], axis=1)


def _choose(n_rows: int, max_rows: int, seed: int) -> np.ndarray:
    if n_rows <= max_rows:
        return np.arange(n_rows)
    return np.random.default_rng(seed).choice(n_rows, max_rows, replace=False)


def _block(train: np.ndarray, rows: np.ndarray, seed: int):
    """Returns both (N, D) and (n, D), standardised by the first and evenly weighed."""
    scaler = StandardScaler().fit(train)
    train, rows = scaler.transform(train), scaler.transform(rows)
    if train.shape[1] > WIDE and np.ptp(train, axis=0).any():  # a constant has no PCA
        components = min(COMPONENTS, len(train))
        pca = PCA(components, svd_solver="randomized", random_state=seed).fit(train)
        train, rows = pca.transform(train), pca.transform(rows)
        deviation = max(float(train.std()), 1e-12)
        train, rows = train / deviation, rows / deviation
    width = np.sqrt(train.shape[1])
    return train / width, rows / width


def _fit(
    train: np.ndarray, answers: np.ndarray, rows: np.ndarray, classes: int
) -> np.ndarray:
    """Returns (n, classes) probabilities; `answers` are (N,) class numbers."""
    probabilities = np.zeros((len(rows), classes))
    seen = np.unique(answers)
    if len(seen) == 1:  # nothing to tell apart
        probabilities[:, seen] = 1
        return probabilities
    model = LogisticRegression(C=C, max_iter=ITERATIONS)
    with warnings.catch_warnings():  # a fit cut short is still a fair baseline
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, answers)
    probabilities[:, seen] = model.predict_proba(rows)
    return probabilities


def verdict(
    metrics_model: Mapping[str, dict],
    metrics_majority: Mapping[str, dict],
    metrics_logistic: Mapping[str, dict],
    difference: Mapping[str, float],
) -> str:
    """Says in one sentence whether the deep model was worth its training.

    Args:
        metrics_model: `measure(...)["metrics"]` of the model; accuracy is what counts.
        metrics_majority: The same of `majority`.
        metrics_logistic: The same of `logistic_regression`.
        difference: `compare(...)` of the model with logistic regression, in [-1, 1].
    """
    model, most, simple = (
        100 * m["accuracy"]["value"]
        for m in (metrics_model, metrics_majority, metrics_logistic)
    )
    start = f"The model (accuracy {model:.1f} %)"
    if 100 * metrics_model["accuracy"]["low"] <= most:
        start += (
            " is not clearly better than always giving the most frequent answer "
            f"({most:.1f} %), and"
        )
    points, low, high = (100 * difference[k] for k in ("value", "low", "high"))
    interval = f"95 % interval {low:+.1f} to {high:+.1f}"
    if low > 0:
        return (
            f"{start} is better than logistic regression on the same features "
            f"({simple:.1f} %) by {points:.1f} points ({interval})."
        )
    if high < 0:
        return (
            f"{start} is worse than logistic regression on the same features "
            f"({simple:.1f} %) by {-points:.1f} points ({interval}): use the logistic "
            "regression, it costs a second."
        )
    return (
        f"{start} is not clearly better than logistic regression on the same features "
        f"({simple:.1f} %): the difference is {points:+.1f} points ({interval}), and "
        "the logistic regression costs a second."
    )
