"""Format of predictions.csv: its header, the cells of a row, and the row's status."""

import math
from collections.abc import Iterable, Sequence

from mmkeras.schema import ABSENT, PREDICTION_COLUMNS, STATUS_SEPARATOR, UNREADABLE

DIGITS = 6  # of scores and probabilities


def unreadable_status(modalities: Iterable[str]) -> str:
    """Returns the status of unreadable modalities, as of the served graph, or ""."""
    return STATUS_SEPARATOR.join(f"{m} {UNREADABLE}" for m in modalities)


def merge_status(status: str, unreadable: str, row_problem: str = "") -> str:
    """Returns the status column of predictions.csv.

    The model gets empty bytes for an unreadable file and reports it as absent, so its
    `status` is corrected by `unreadable_status` and extended by `Row.problem`.

    Example:
        >>> merge_status("text absent; image absent", "image unreadable")
        'text absent; image unreadable'
    """
    corrected = {
        f"{entry.removesuffix(UNREADABLE)}{ABSENT}": entry
        for entry in unreadable.split(STATUS_SEPARATOR)
    }
    entries = status.split(STATUS_SEPARATOR)
    status = STATUS_SEPARATOR.join(corrected.get(entry, entry) for entry in entries)
    if row_problem:
        status += f"{STATUS_SEPARATOR}row {UNREADABLE}: {row_problem}"
    return status


def predictions_header(classes: Sequence[str]) -> list[str]:
    """Returns the column names of predictions.csv."""
    return [*PREDICTION_COLUMNS, *classes]


def format_value(value: float) -> str:
    """Returns the number that a regression predicts, with the digits of float32."""
    return f"{value:.7g}"


def prediction_row(
    row_id: str,
    label: str,
    predicted: str,
    score: float,
    status: str,
    probabilities: Sequence[float],
) -> list[str]:
    """Returns a row's cells of predictions.csv; `probabilities` are (C,), or ().

    NaN, the score and probability of a row without a prediction, is an empty cell.
    """
    score, *numbers = (
        "" if math.isnan(x) else f"{x:.{DIGITS}f}" for x in (score, *probabilities)
    )
    return [row_id, label, predicted, score, status, *numbers]
