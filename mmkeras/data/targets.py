"""Labels for each task: checks that they fit it, and numbers for a regression."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmkeras.config.validation import AUTO
from mmkeras.data.table import Row
from mmkeras.errors import UserError, format_names, shorten
from mmkeras.modalities.preprocessing_state import BINARY, MULTICLASS, REGRESSION
from mmkeras.schema import LABEL_SEPARATOR

MAX_NUMBERS = 20  # different numbers that can be classes without a question
_STRATA, _ROWS_PER_STRATUM = 10, 5
_LARGEST = float(np.finfo("float32").max)


def parse_number(cell: str) -> float | None:
    """Returns the number of a cell; None if it is none that float32 can have."""
    try:
        number = float(cell.strip())
    except ValueError:
        return None
    return number if abs(number) <= _LARGEST and "_" not in cell else None


def with_targets(rows: Sequence[Row], task: str) -> list[Row]:
    """Returns the rows with the labels of the task.

    In regression the label is one number, as text; a row with another has a problem.
    """
    if task != REGRESSION:
        return list(rows)
    return [row if row.problem else _with_number(row) for row in rows]


def _with_number(row) -> Row:
    number = parse_number(row.label_cell)
    if number is None:
        cell = shorten(row.label_cell.strip(), 40)
        return replace(row, problem=f"label '{cell}' is not a number")
    return replace(row, labels=(f"{number:.15g}",))


def check_task(rows: Sequence[Row], task: str) -> None:
    """Checks that the labels of usable rows fit the task.

    Raises:
        UserError: They do not; or the task is auto, and the labels are so many numbers
            that it may be regression.
    """
    labels = {label for row in rows for label in row.labels}
    if task in (BINARY, MULTICLASS):
        for row in rows:
            if len(row.labels) != 1:
                raise UserError(
                    f"task={task} takes one label per row, and {row.place} has "
                    f"{LABEL_SEPARATOR.join(row.labels) or 'none'!r}. Correct the "
                    "labels, or train with --task multilabel."
                )
    if task == BINARY and len(labels) != 2:
        raise UserError(
            f"task=binary takes two classes, and the rows have {len(labels)}: "
            f"{format_names(sorted(labels))}. Correct the labels, or train with --task "
            "multiclass."
        )
    if task == AUTO and _may_be_numbers(rows):
        fraction = next(x for x in sorted(labels) if not float(x).is_integer())
        raise UserError(
            f"The labels are {len(labels)} different numbers, such as {fraction}. "
            "Train on their values with --task regression, or on one class per number "
            "with --task multiclass."
        )


def _may_be_numbers(rows) -> bool:
    """Whether labels are more than `MAX_NUMBERS` numbers, and not all are integers."""
    if any(len(row.labels) != 1 for row in rows):
        return False
    numbers = {label: parse_number(label) for row in rows for label in row.labels}
    if len(numbers) <= MAX_NUMBERS or None in numbers.values():
        return False
    return not all(number.is_integer() for number in numbers.values())


def stratify(rows: Sequence[Row], task: str) -> list[Row]:
    """Returns the rows with the classes that their division into splits balances.

    In regression these are ten bins of the target with about equal rows, or fewer.
    """
    if task != REGRESSION or not rows:
        return list(rows)
    order = np.argsort([float(row.labels[0]) for row in rows], kind="stable")
    bins = min(_STRATA, math.ceil(len(rows) / _ROWS_PER_STRATUM))
    stratum = np.empty(len(rows), int)
    stratum[order] = np.arange(len(rows)) * bins // len(rows)
    return [
        replace(row, labels=(str(i),)) for row, i in zip(rows, stratum, strict=True)
    ]
