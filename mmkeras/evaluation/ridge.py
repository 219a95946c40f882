"""Ridge regression, the linear baseline of regression."""

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import RidgeCV

from mmkeras.evaluation.baselines import LinearModel, build_model, fit_blocks

# Candidates of the penalty, for blocks of unit total variance.
_PENALTIES = np.logspace(-3, 3, 13)


def fit_ridge(
    features: Mapping[str, np.ndarray],
    targets: np.ndarray,
    seed: int,
    max_rows: int = 5000,
) -> LinearModel:
    """Fits ridge regression to training rows; leave-one-out chooses the penalty.

    Arguments are those of `fit_logistic_regression`, but `targets` are (N, 1) numbers.

    Example:
        model = fit_ridge({"text": x}, y[:, None], seed=0)
        model.predict({"text": rows}, "regression")  # (n, 1)
    """
    blocks, indices = fit_blocks(features, len(targets), seed, max_rows)
    train = np.concatenate([block.train for block in blocks], axis=1)
    target = np.ravel(targets)[indices].astype(float)
    model = RidgeCV(_PENALTIES).fit(train, target)
    return build_model(blocks, model.coef_[:, None], np.array([model.intercept_]))
