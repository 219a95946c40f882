"""Baselines for a trained classifier: class frequencies and logistic regression."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax
from sklearn import linear_model
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

MAX_WIDTH = 1024  # PCA reduces wider blocks, so that the fit takes seconds
_COMPONENTS = 128
_ITERATIONS = 200
# Inverse regularisation, for blocks of unit total variance. scikit-learn's 1 suits
# features of unit variance and makes a weak baseline: 77 % accuracy instead of 87 % on
# 100 rows of its digits; 10 to 100 hardly differ.
_C = 30.0
_NEVER = -1e4  # logit whose probability is 0


def predict_majority(train_targets: np.ndarray, n_rows: int, task: str) -> np.ndarray:
    """Predicts the class frequencies of the training rows for every row.

    `train_targets` are (N, C) of 0 and 1, or (1, C) frequencies. Returns (n_rows, C)
    float64; rows sum to 1 unless the task is multilabel.
    """
    frequencies = np.asarray(train_targets, "float64").mean(axis=0)
    if task != "multilabel":
        frequencies = frequencies / frequencies.sum()
    return np.tile(frequencies, (n_rows, 1))


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Logistic or ridge regression on the concatenated blocks of features, D in all.

    The logits are ((features - mean) / deviation) @ kernel + bias. Their softmax are
    the probabilities, in multilabel tasks their sigmoid. In regression they are the
    predictions, with one column.

    Attributes:
        mean, deviation: (D,) float64.
        kernel, bias: (D, C) and (C,) float64.
        iterations: Number of iterations of the fit, the largest of several; 0 in
            regression.
    """

    mean: np.ndarray
    deviation: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    iterations: int

    def predict(self, features: Mapping[str, np.ndarray], task: str) -> np.ndarray:
        """Returns (n, C) predictions of rows with the blocks of the training rows."""
        x = np.concatenate(list(features.values()), axis=1)
        logits = ((x - self.mean) / self.deviation) @ self.kernel + self.bias
        if task == "regression":
            return logits
        return expit(logits) if task == "multilabel" else softmax(logits, axis=1)


def fit_logistic_regression(
    features: Mapping[str, np.ndarray],
    targets: np.ndarray,
    task: str,
    seed: int,
    max_rows: int = 5000,
    max_iterations: int = _ITERATIONS,
) -> LinearModel:
    """Fits logistic regression to training rows.

    Each block of features is standardised and divided by the square root of its width,
    so that a wide modality does not outweigh a narrow one.

    Args:
        features: Block name -> (N, D) float. A missing modality is all zeros; another
            block holds which modalities a row has.
        targets: (N, C) of 0 and 1.
        task: binary, multiclass or multilabel; multilabel fits one model per class.
        seed: Seed of the choice of training rows and of PCA.
        max_rows: Maximum number of training rows.

    Returns:
        The model, which gives 0 to classes without training rows.

    Example:
        model = fit_logistic_regression({"text": x}, np.eye(3)[y], "multiclass", seed=0)
        model.predict({"text": rows}, "multiclass")  # (n, 3)
    """
    blocks, indices = fit_blocks(features, len(targets), seed, max_rows)
    targets = np.asarray(targets)[indices].astype(int)
    train = np.concatenate([block.train for block in blocks], axis=1)
    if task == "multilabel":
        fits = [_fit(train, target, 2, max_iterations) for target in targets.T]
        weights = np.stack([w[:, 1] - w[:, 0] for w, _, _ in fits], axis=1)
        bias = np.array([b[1] - b[0] for _, b, _ in fits])
        iterations = max(n for *_, n in fits)
    else:
        labels, classes = targets.argmax(axis=1), targets.shape[1]
        weights, bias, iterations = _fit(train, labels, classes, max_iterations)
    return build_model(blocks, weights, bias, iterations)


def fit_blocks(
    features: Mapping[str, np.ndarray], rows: int, seed: int, max_rows: int
) -> tuple[list["Block"], np.ndarray]:
    """Standardises the blocks of up to `max_rows` random rows; returns their indices.

    Arguments are those of `fit_logistic_regression`.
    """
    indices = np.arange(rows)
    if rows > max_rows:
        rng = np.random.default_rng(seed)
        indices = rng.choice(rows, max_rows, replace=False)
    blocks = [_fit_block(np.asarray(x)[indices], seed) for x in features.values()]
    return blocks, indices


def build_model(
    blocks: Sequence["Block"],
    weights: np.ndarray,
    bias: np.ndarray,
    iterations: int = 0,
) -> LinearModel:
    """Returns the model of weights (K, C) for the standardised blocks."""
    ends = np.cumsum([block.train.shape[1] for block in blocks])[:-1]
    parts = zip(blocks, np.split(weights, ends), strict=True)
    return LinearModel(
        mean=np.concatenate([block.mean for block in blocks]),
        deviation=np.concatenate([block.deviation for block in blocks]),
        kernel=np.concatenate([block.kernel(part) for block, part in parts]),
        bias=bias,
        iterations=iterations,
    )


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of features, standardised (mean, deviation), projected and scaled."""

    mean: np.ndarray  # (D,)
    deviation: np.ndarray  # (D,)
    components: np.ndarray | None  # (D, K); None: no projection, K = D
    factor: float
    train: np.ndarray  # (N, K), of unit total variance

    def kernel(self, weights: np.ndarray) -> np.ndarray:
        """Returns the weights (D, C) of standardised features for those (K, C) here."""
        weights = weights * self.factor
        return weights if self.components is None else self.components @ weights


def _fit_block(train: np.ndarray, seed: int) -> Block:
    scaler, components, deviation = StandardScaler().fit(train), None, 1.0
    train = scaler.transform(train)
    has_variance = np.ptp(train, axis=0).any()  # a constant has no PCA
    if train.shape[1] > MAX_WIDTH and has_variance:
        count = min(_COMPONENTS, len(train))
        pca = PCA(count, svd_solver="randomized", random_state=seed).fit(train)
        components = pca.components_.T
        train = train @ components  # the mean is 0 already
        deviation = max(float(train.std()), 1e-12)
    factor = 1 / (deviation * np.sqrt(train.shape[1]))
    return Block(
        mean=scaler.mean_,
        deviation=scaler.scale_,
        components=components,
        factor=factor,
        train=train * factor,
    )


def _fit(
    train: np.ndarray, targets: np.ndarray, classes: int, max_iterations: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns weights (K, classes), biases (classes,) and the number of iterations.

    `targets` are (N,) class indices.
    """
    weights = np.zeros((train.shape[1], classes))
    bias = np.full(classes, _NEVER)
    train_classes = np.unique(targets)
    bias[train_classes] = 0
    if len(train_classes) == 1:
        return weights, bias, 0
    model = linear_model.LogisticRegression(C=_C, max_iter=max_iterations)
    with warnings.catch_warnings():  # a fit cut short is still a fair baseline
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, targets)
    # Of two classes, scikit-learn has the weights of the second one only.
    fitted = train_classes[-len(model.coef_) :]
    weights[:, fitted], bias[fitted] = model.coef_.T, model.intercept_
    return weights, bias, int(max(model.n_iter_))
