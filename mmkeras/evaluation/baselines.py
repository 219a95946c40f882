"""Baselines for a trained model: class frequencies and logistic regression."""

import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

MAX_WIDTH = 1024  # PCA reduces wider blocks, so that the fit takes seconds
_COMPONENTS = 128
_ITERATIONS = 200
# Inverse regularisation, for blocks of unit total variance. scikit-learn's 1 suits
# features of unit variance and makes a weak baseline: 77 % accuracy instead of 87 % on
# 100 rows of its digits; 10 to 100 hardly differ.
_C = 30.0


def predict_majority(train_targets: np.ndarray, n_rows: int, task: str) -> np.ndarray:
    """Predicts the class frequencies of the training rows for every row.

    `train_targets` are (N, C) of 0 and 1, or (1, C) frequencies. Returns (n_rows, C)
    float64; rows sum to 1 unless the task is multilabel.
    """
    frequencies = np.asarray(train_targets, "float64").mean(axis=0)
    if task != "multilabel":
        frequencies = frequencies / frequencies.sum()
    return np.tile(frequencies, (n_rows, 1))


def predict_logistic_regression(
    train_features: Mapping[str, np.ndarray],
    train_targets: np.ndarray,
    features: Mapping[str, np.ndarray],
    task: str,
    seed: int,
    max_rows: int = 5000,
) -> np.ndarray:
    """Fits logistic regression to training rows and predicts n other rows.

    Each block of features is standardised and divided by the square root of its width,
    so that a wide modality does not outweigh a narrow one.

    Args:
        train_features: Block name -> (N, D) float. A missing modality is all zeros;
            another block holds which modalities a row has.
        train_targets: (N, C) of 0 and 1.
        features: The same blocks of the rows to predict, (n, D) each.
        task: binary, multiclass or multilabel; multilabel fits one model per class.
        seed: Seed of the choice of training rows and of PCA.
        max_rows: Maximum number of training rows.

    Returns:
        (n, C) float64; 0 for classes without training rows.
    """
    indices = np.arange(len(train_targets))
    if len(indices) > max_rows:
        rng = np.random.default_rng(seed)
        indices = rng.choice(len(indices), max_rows, replace=False)
    targets = np.asarray(train_targets)[indices].astype(int)
    pairs = [
        _scale(np.asarray(train_features[n])[indices], np.asarray(features[n]), seed)
        for n in sorted(train_features)
    ]
    train, rows = (
        np.concatenate(blocks, axis=1) for blocks in zip(*pairs, strict=True)
    )
    if task == "multilabel":
        columns = [_fit(train, target, rows, classes=2)[:, 1] for target in targets.T]
        return np.stack(columns, axis=1)
    return _fit(train, targets.argmax(axis=1), rows, targets.shape[1])


def count_tokens(tokens: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """Returns (N, vocabulary_size) float32: log(1 + count of each token) per row.

    `tokens` are (N, L) int from 1 to `vocabulary_size`, 0 in padding.
    """
    counts = np.zeros((len(tokens), vocabulary_size + 1), "float32")
    np.add.at(counts, (np.arange(len(tokens))[:, None], tokens), 1)
    return np.log1p(counts[:, 1:])


def summarize_frames(frames: np.ndarray) -> np.ndarray:
    """Returns (N, 2 F): mean and standard deviation over each row's frames.

    `frames` are (N, T, F), all zeros in padding.
    """
    is_frame = (frames != 0).any(axis=2, keepdims=True)
    count = np.maximum(is_frame.sum(axis=1), 1)
    mean = frames.sum(axis=1) / count
    squares = (is_frame * (frames - mean[:, None]) ** 2).sum(axis=1) / count
    return np.concatenate([mean, np.sqrt(squares)], axis=1)


def _scale(train: np.ndarray, rows: np.ndarray, seed: int):
    """Standardises (N, D) and (n, D) blocks by the first, to unit total variance."""
    scaler = StandardScaler().fit(train)
    train, rows = scaler.transform(train), scaler.transform(rows)
    has_variance = np.ptp(train, axis=0).any()  # a constant has no PCA
    if train.shape[1] > MAX_WIDTH and has_variance:
        components = min(_COMPONENTS, len(train))
        pca = PCA(components, svd_solver="randomized", random_state=seed).fit(train)
        train, rows = pca.transform(train), pca.transform(rows)
        deviation = max(float(train.std()), 1e-12)
        train, rows = train / deviation, rows / deviation
    width = np.sqrt(train.shape[1])
    return train / width, rows / width


def _fit(
    train: np.ndarray, targets: np.ndarray, rows: np.ndarray, classes: int
) -> np.ndarray:
    """Returns (n, classes) probabilities; `targets` are (N,) class indices."""
    probabilities = np.zeros((len(rows), classes))
    train_classes = np.unique(targets)
    if len(train_classes) == 1:
        probabilities[:, train_classes] = 1
        return probabilities
    model = LogisticRegression(C=_C, max_iter=_ITERATIONS)
    with warnings.catch_warnings():  # a fit cut short is still a fair baseline
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, targets)
    probabilities[:, train_classes] = model.predict_proba(rows)
    return probabilities
