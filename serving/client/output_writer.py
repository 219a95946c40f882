"""Answers as predictions.csv, like those of mmkeras.predict, or as JSON lines."""

import csv
import io
import json
import math
from typing import TextIO

from mmkeras.data.table import Row
from mmkeras.schema import (
    ID,
    LABEL,
    LABEL_SEPARATOR,
    PREDICTION_COLUMNS,
    PROBABILITIES,
    SCORE,
    STATUS,
    STATUS_SEPARATOR,
    UNREADABLE,
)
from serving.client.errors import PredictError
from serving.client.prediction import Prediction

CSV, JSON_LINES = "csv", "jsonl"
FORMATS = (CSV, JSON_LINES)
_DIGITS = 6


class OutputWriter:
    """Writes a row at a time, whole and at once."""

    def __init__(self, file: TextIO, form: str, classes: tuple[str, ...], target: str):
        """Writes nothing yet.

        Args:
            file: Where to; opened with newline="".
            form: One of `FORMATS`.
            classes: Names of the columns; (): those of the first answer.
            target: The server, to be named in errors.
        """
        self._file, self._form = file, form
        self._classes, self._target = classes, target
        self._is_begun = False

    def __call__(self, row: Row, answer: Prediction) -> None:
        """Writes the answer to a row.

        Raises:
            PredictError: The model's classes are no longer those of the columns.
        """
        text = self._json(row, answer) if self._form == JSON_LINES else ""
        if self._form == CSV:
            self._check_classes(answer)
            if not self._is_begun:
                text = _csv_line([*PREDICTION_COLUMNS, *self._classes])
            text += self._csv(row, answer)
        self._is_begun = True
        self._file.write(text)
        self._file.flush()

    def _check_classes(self, answer):
        there = tuple(answer.probabilities)
        self._classes = self._classes or there
        if there and there != self._classes:
            raise PredictError(
                "ABORTED",
                f"has another model now: its classes are {', '.join(there)} and were "
                f"{', '.join(self._classes)}. Ask for one --version, or write "
                "--format jsonl.",
                target=self._target,
                is_answer=False,
            )

    def _csv(self, row, answer):
        found = answer.probabilities
        return _csv_line(
            [
                row.id,
                LABEL_SEPARATOR.join(row.labels),
                answer.label,
                "" if math.isnan(answer.score) else f"{answer.score:.{_DIGITS}f}",
                full_status(row, answer),
                *(f"{found[c]:.{_DIGITS}f}" if found else "" for c in self._classes),
            ]
        )

    def _json(self, row, answer):
        found = {
            ID: row.id,
            LABEL: LABEL_SEPARATOR.join(row.labels),
            "predicted": answer.label,
            SCORE: _number(answer.score),
            STATUS: full_status(row, answer),
            PROBABILITIES: {
                name: _number(p) for name, p in answer.probabilities.items()
            },
            "version": answer.version,
            "problems": list(answer.problems),
        }
        return json.dumps(found, ensure_ascii=False) + "\n"


def full_status(row: Row, answer: Prediction) -> str:
    """Returns the status, with what is wrong in the row itself."""
    if not row.problem:
        return answer.status
    return f"{answer.status}{STATUS_SEPARATOR}row {UNREADABLE}: {row.problem}"


def _number(value: float) -> float | None:
    """Returns what JSON can hold: it has no NaN."""
    return round(value, _DIGITS) if math.isfinite(value) else None


def _csv_line(cells) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
