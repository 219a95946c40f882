"""Writer of predictions as CSV, in the columns of mmkeras.predict, or as JSON lines."""

import json
import math
from typing import TextIO

from mmkeras import schema
from mmkeras.data.predictions_csv import (
    DIGITS,
    merge_status,
    prediction_row,
    predictions_header,
)
from mmkeras.data.table import Row
from mmkeras.files import csv_text
from serving.client.errors import client_error
from serving.client.prediction import Prediction

CSV, JSON_LINES = "csv", "jsonl"
FORMATS = (CSV, JSON_LINES)


class OutputWriter:
    """Writes one row at a time, by one call of `write` and one flush."""

    def __init__(
        self, file: TextIO, file_format: str, classes: tuple[str, ...], target: str
    ):
        """Writes nothing yet; errors name the server `target`.

        Args:
            file: Text file, opened with newline="".
            file_format: One of `FORMATS`.
            classes: Names of the columns; (): those of the first prediction.
        """
        self._file, self._format = file, file_format
        self._classes, self._target = classes, target
        self._has_header = False

    def write(self, row: Row, prediction: Prediction) -> None:
        """Writes the prediction for a row.

        Raises:
            PredictError: The model has other classes than the columns of the CSV.
        """
        if self._format == JSON_LINES:
            text = _json_line(row, prediction)
        else:
            self._check_classes(prediction)
            text = self._csv_row(row, prediction)
            if not self._has_header:
                text = csv_text([predictions_header(self._classes)]) + text
        self._has_header = True
        self._file.write(text)
        self._file.flush()

    def _check_classes(self, prediction):
        classes = tuple(prediction.probabilities)
        self._classes = self._classes or classes
        if classes and classes != self._classes:
            message = (
                f"has another model now: its classes are {', '.join(classes)} and were "
                f"{', '.join(self._classes)}. Set one --version, or use --format jsonl."
            )
            raise client_error("ABORTED", message, self._target)

    def _csv_row(self, row, prediction):
        label = schema.LABEL_SEPARATOR.join(row.labels)
        status = full_status(row, prediction)
        numbers = [prediction.probabilities.get(c, math.nan) for c in self._classes]
        cells = (row.id, label, prediction.label, prediction.score, status, numbers)
        return csv_text([prediction_row(*cells)])


def _json_line(row, prediction) -> str:
    fields = {
        schema.ID: row.id,
        schema.LABEL: schema.LABEL_SEPARATOR.join(row.labels),
        "predicted": prediction.label,
        schema.SCORE: _json_number(prediction.score),
        schema.STATUS: full_status(row, prediction),
        schema.PROBABILITIES: {
            name: _json_number(p) for name, p in prediction.probabilities.items()
        },
        **({} if prediction.value is None else {schema.VALUE: prediction.value}),
        **({} if prediction.text is None else {schema.GENERATED: prediction.text}),
        **_n_best(prediction),
        "version": prediction.version,
        "problems": list(prediction.problems),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _n_best(prediction) -> dict:
    if not prediction.n_best:
        return {}
    scores = list(map(_json_number, prediction.n_best_score))
    return {schema.N_BEST: list(prediction.n_best), schema.N_BEST_SCORE: scores}


def full_status(row: Row, prediction: Prediction) -> str:
    """Returns the status, with the problem of the table's row."""
    return merge_status(prediction.status, "", row.problem)


def _json_number(value: float) -> float | None:
    """Returns a rounded number; None for NaN, which JSON lacks."""
    return round(value, DIGITS) if math.isfinite(value) else None
