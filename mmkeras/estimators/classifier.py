"""Classifier of rows with any columns: text, images, audio, numbers, categories."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import ClassifierMixin

from mmkeras.errors import UserError
from mmkeras.estimators.estimator import Estimator
from mmkeras.estimators.labels import LabelForm
from mmkeras.evaluation.metrics import correct_rows
from mmkeras.modalities.preprocessing_state import MULTILABEL, target
from mmkeras.schema import LABEL, LABEL_SEPARATOR, PROBABILITIES, STATUS

Labels: TypeAlias = np.ndarray | list[list[Any]]


class MultimodalClassifier(ClassifierMixin, Estimator):
    """Classifier of the rows of a table, with one label or several per row.

    Tables, arguments and attributes are those of `Estimator`.

    Attributes:
        classes_: (C,) classes in the order of the probabilities, of the type of the
            labels: str, int, float or bool. Those of a file are str.

    Example:
        clf = MultimodalClassifier(preset="small-concat", epochs=20, path="runs/a")
        clf.fit(df, label="adopted")
        clf.predict(df), clf.predict_proba(df), clf.evaluate(df)
    """

    _tasks = ("auto", "binary", "multiclass", "multilabel")
    _other = "MultimodalRegressor"

    def _set_labels(self, form: LabelForm) -> None:
        self._indicators = form.indicators
        self.classes_ = form.convert(self.trained_model.state.classes)

    def predict(
        self, table: Any, return_status: bool = False
    ) -> Labels | tuple[Labels, list[str]]:
        """Returns the class of each row (N,), of the type of `classes_`.

        If rows have several labels it is a list of the labels of each row, which may
        be empty; or a matrix of 0 and 1, (N, columns), if `fit` received one. With
        `return_status` it is a pair with the result of `status`.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        _, outputs = self._outputs(table, LABEL, STATUS)
        cells = [label.decode() for label in outputs[LABEL]]
        state = self.trained_model.state
        rows = [cell.split(LABEL_SEPARATOR) if cell else [] for cell in cells]
        if self._indicators:
            flags = [[name in row for name in self._indicators] for row in rows]
            result = np.array(flags, int).reshape(-1, len(self._indicators))
        elif state.task == MULTILABEL:
            labels = dict(zip(state.classes, self.classes_.tolist(), strict=True))
            result = [[labels[name] for name in row] for row in rows]
        else:
            result = self.classes_[[state.classes.index(cell) for cell in cells]]
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
