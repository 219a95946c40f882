"""Classifier of rows with any columns: text, images, audio, numbers, categories."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import ClassifierMixin

from mmkeras.errors import UserError, format_names
from mmkeras.estimators.estimator import Estimator
from mmkeras.evaluation.metrics import correct_rows
from mmkeras.modalities.preprocessing_state import MULTILABEL, target
from mmkeras.schema import LABEL, LABEL_SEPARATOR, PROBABILITIES, STATUS

Labels: TypeAlias = np.ndarray | list[list[Any]]


class MultimodalClassifier(ClassifierMixin, Estimator):
    """Classifier of the rows of a table, with one label or several per row.

    Tables, arguments and attributes are those of `Estimator`.

    Attributes:
        classes_: (C,) classes in the order of `predict_proba`: sorted, or as the
            columns of a matrix of 0 and 1. They have the type of the labels: str, int,
            float or bool. Those of a file are str.

    Example:
        clf = MultimodalClassifier(preset="small-concat", epochs=20, path="runs/a")
        clf.fit(df, label="adopted")
        clf.predict(df), clf.predict_proba(df), clf.evaluate(df)
    """

    _tasks = ("auto", "binary", "multiclass", "multilabel")

    def _set_labels(self) -> None:
        names = list(self.trained_model.state.classes)
        labels = self._form.convert(names)
        self._labels = dict(zip(names, labels.tolist(), strict=True))
        if self._form.indicators:
            self._names = list(self._form.indicators)
            self.classes_ = self._form.convert(self._names)
        else:
            order = np.argsort(labels, kind="stable")
            self._names, self.classes_ = [names[i] for i in order], labels[order]

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
        if self._form.indicators:
            flags = [[name in row for name in self._names] for row in rows]
            result = np.array(flags, int).reshape(-1, len(self._names))
        elif state.task == MULTILABEL:
            result = [[self._labels[name] for name in row] for row in rows]
        else:
            result = self.classes_[[self._names.index(cell) for cell in cells]]
        return (result, list(map(str, outputs[STATUS]))) if return_status else result

    def predict_proba(self, table: Any) -> np.ndarray:
        """Returns probabilities (N, C) float32, calibrated on the validation rows.

        That of a column of 0 that `fit` received, which is no class, is 0.

        Raises:
            UserError: The table lacks columns of the model, or cannot be read.
        """
        scores = self._outputs(table, PROBABILITIES)[1][PROBABILITIES]
        known = self.trained_model.state.classes
        result = np.zeros((len(scores), len(self._names)), np.float32)
        for i, name in enumerate(self._names):
            if name in known:
                result[:, i] = scores[:, known.index(name)]
        return result

    def score(self, table: Any, label: Any = None) -> float:
        """Returns the accuracy: the share of rows of which all labels are right.

        `label` has one label per row, unless the table has them.

        Raises:
            UserError: A row has no label, the model knows none of the labels, or the
                table cannot be used.
        """
        reads, outputs = self._outputs(self._labeled(table, label), PROBABILITIES)
        state = self.trained_model.state
        labels = [LABEL_SEPARATOR.join(read.row.labels) for read in reads]
        # Of several labels a row may have none.
        is_given = [read.row.has_label for read in reads]
        check_labels(is_given if state.task == MULTILABEL else labels)
        names = {name for read in reads for name in read.row.labels}
        if names and names.isdisjoint(state.classes):
            raise UserError(
                f"The model knows none of the labels: {format_names(sorted(names))}. "
                f"Known: {format_names(state.classes)}."
            )
        targets = np.array([target(label, state.classes) for label in labels])
        return float(correct_rows(targets, outputs[PROBABILITIES], state.task).mean())


def check_labels(labels: Sequence[Any]) -> None:
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
