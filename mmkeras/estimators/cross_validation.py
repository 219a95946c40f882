"""K-fold cross-validation of an estimator, in this process."""

from pathlib import Path
from typing import Any

from sklearn.base import clone

from mmkeras.config.validation import check
from mmkeras.config.values import convert
from mmkeras.errors import UserError
from mmkeras.estimators.arguments import check_path
from mmkeras.estimators.estimator import Estimator
from mmkeras.experiments.cross_validation import summarize
from mmkeras.files import read_json
from mmkeras.schema import METRICS_FILE


def cross_validate(
    estimator: Estimator,
    table: Any,
    label: Any = None,
    *,
    folds: int = 5,
    path: str | Path | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Trains a copy of the estimator per fold, each tested on another fold.

    The folds are those of `python -m mmkeras.train --folds`: stratified by label, with
    no group in two. `path` is a folder for one run folder per fold, which a later call
    resumes. Other arguments are those of `fit`.

    Returns:
        {"metrics": {metric: {"mean", "deviation", "each"}}, "baselines": ...}.

    Raises:
        UserError: There are too few rows, or as `fit`.

    Example:
        result = mmkeras.cross_validate(clf, df, label="adopted", folds=3)
        result["metrics"]["accuracy"]["mean"]
    """
    check_path(path)
    folds = convert("folds", int, folds)
    check(folds >= 2, "folds", folds, "at least 2")
    if estimator.path is not None:
        raise UserError(
            f"path='{estimator.path}' is one run folder, and each fold needs its own. "
            "Give path to cross_validate, and leave it out of the estimator."
        )
    results = []
    for k in range(1, folds + 1):
        folder = None if path is None else Path(path) / f"fold-{k}"
        values = {"table.folds": folds, "table.fold": k, "path": folder}
        model = clone(estimator).set_params(**values)
        model.fit(table, label, verbose=verbose)
        results.append(read_json(model.folder_, METRICS_FILE))
    return summarize(results)
