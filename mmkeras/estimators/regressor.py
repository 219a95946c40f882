"""Regressor of a number from rows with any columns."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from mmkeras.data.targets import with_targets
from mmkeras.errors import UserError
from mmkeras.estimators.classifier import check_labels
from mmkeras.estimators.estimator import Estimator
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.schema import STATUS, VALUE


class MultimodalRegressor(RegressorMixin, Estimator):
    """Regressor of the number in the label column of a table.

    Tables, arguments and attributes are those of `Estimator`.

    Example:
        MultimodalRegressor("small-concat").fit(df, label="price").predict(df)
    """

    _task = {"task": "regression"}
    _tasks = ("regression",)

    def predict(
        self, table: Any, return_status: bool = False
    ) -> np.ndarray | tuple[np.ndarray, list[str]]:
        """Returns the value of each row (N,) float32, in the unit of the labels.

        With `return_status` it is a pair with the result of `status`.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        _, outputs = self._outputs(table, VALUE, STATUS)
        values = outputs[VALUE]
        return (values, list(map(str, outputs[STATUS]))) if return_status else values

    def score(self, table: Any, label: Any = None) -> float:
        """Returns R², the share of the variance of the labels that is predicted.

        `label` has one number per row, unless the table has them.

        Raises:
            UserError: A row has no label, or one that is not a number; or the table
                cannot be used.
        """
        reads, outputs = self._outputs(self._labeled(table, label), VALUE)
        check_labels([read.row.label_cell.strip() for read in reads])
        rows = with_targets([read.row for read in reads], REGRESSION)
        for row in rows:
            if row.problem:
                raise UserError(f"{row.place}: {row.problem}. Correct the labels.")
        labels = [float(row.labels[0]) for row in rows]
        return float(r2_score(labels, outputs[VALUE]))
