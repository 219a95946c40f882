"""Classifier of rows with any columns: text, images, audio, numbers, categories."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import ClassifierMixin

from mmkeras.errors import UserError
from mmkeras.estimators.estimator import Estimator
from mmkeras.estimators.training_table import label_cells
from mmkeras.evaluation.metrics import correct_rows
from mmkeras.modalities.preprocessing_state import MULTILABEL, target
from mmkeras.schema import LABEL, LABEL_SEPARATOR, PROBABILITIES, STATUS

Labels: TypeAlias = np.ndarray | list[list[str]]


class MultimodalClassifier(ClassifierMixin, Estimator):
    """Classifier of the rows of a table, with one label or several per row.

    Tables, arguments and attributes are those of `Estimator`.

    Attributes:
        classes_: (C,) classes in the order of the probabilities; str, or of the type
            of the labels if `fit` received them as an array.

    Example:
        clf = MultimodalClassifier(preset="small-concat", epochs=20, path="runs/a")
        clf.fit(df, label="adopted")
        clf.predict(df), clf.predict_proba(df), clf.evaluate(df)
    """

    def _set_labels(self, labels: Any) -> None:
        names, values = self.trained_model.state.classes, {}
        if labels is not None:
            pairs = zip(label_cells(labels), labels, strict=True)
            values = {cell: label for cell, label in pairs if isinstance(cell, str)}
        if set(values) != set(names):  # several labels per row, or joined ones
            values = {name: name for name in names}
        kind = object if any(isinstance(x, str) for x in values.values()) else None
        self.classes_ = np.array([values[name] for name in names], kind)

    def predict(
        self, table: Any, return_status: bool = False
    ) -> Labels | tuple[Labels, list[str]]:
        """Returns the class of each row (N,), of the type of `classes_`.

        If rows have several labels it is a list of the labels of each row, which may
        be empty. With `return_status` it is a pair with the result of `status`.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        _, outputs = self._outputs(table, LABEL, STATUS)
        names = [label.decode() for label in outputs[LABEL]]
        state = self.trained_model.state
        if state.task == MULTILABEL:
            result = [name.split(LABEL_SEPARATOR) if name else [] for name in names]
        else:
            result = self.classes_[[state.classes.index(name) for name in names]]
        return (result, list(map(str, outputs[STATUS]))) if return_status else result

    def predict_proba(self, table: Any) -> np.ndarray:
        """Returns probabilities (N, C) float32, calibrated on the validation rows.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        return self._outputs(table, PROBABILITIES)[1][PROBABILITIES]

    def score(self, table: Any, label: Any = None) -> float:
        """Returns the accuracy: the share of rows of which all labels are right.

        `label` has one label per row, unless the table has them.

        Raises:
            UserError: A row has no label, or the table cannot be used.
        """
        reads, outputs = self._outputs(self._labeled(table, label), PROBABILITIES)
        state = self.trained_model.state
        labels = [LABEL_SEPARATOR.join(read.row.labels) for read in reads]
        # Of several labels a row may have none.
        is_given = [read.row.has_label for read in reads]
        check_labels(is_given if state.task == MULTILABEL else labels)
        targets = np.array([target(label, state.classes) for label in labels])
        return float(correct_rows(targets, outputs[PROBABILITIES], state.task).mean())


def check_labels(labels: Sequence[str | bool]) -> None:
    """Checks that each row of a score has a label: an item that is true.

    Raises:
        UserError: A row has none, or there is no row.
    """
    if not all(labels) or not labels:
        missing = sum(not label for label in labels)
        raise UserError(
            f"{missing} of {len(labels)} rows have no label, and a score needs one per "
            "row. Give them as `label`, or in the table."
        )
