"""Labels for each task: checks that they fit it, numbers, and references of texts."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmkeras.config import Config
from mmkeras.config.validation import AUTO
from mmkeras.data.table import Row, read_rows
from mmkeras.errors import UserError, format_names
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.preprocessing_state import (
    BINARY,
    GENERATE,
    MULTICLASS,
    REGRESSION,
)
from mmkeras.modalities.tabular.numeric import AmbiguousNumber, parse_number
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR

MAX_NUMBERS = 20  # different numbers that can be classes without a question
_MIN_SHARE = 0.9  # of numbers among the labels, so that there is a question
_STRATA, _ROWS_PER_STRATUM = 10, 5
# Task -> what its labels are, for errors; those of other tasks are classes.
LABEL_KINDS = {REGRESSION: "number", GENERATE: "text"}


def read_labeled_rows(
    table: str | Path, config: Config, columns: Sequence[str]
) -> list[Row]:
    """Reads the rows of a table, with the labels of the task, as `read_rows` does.

    A generator takes several rows with one id as one row with several references.
    """
    is_generator = config.task == GENERATE
    rows = read_rows(table, config.table, columns, unique_ids=not is_generator)
    rows = _join_references(rows) if is_generator else rows
    return with_targets(rows, config.task)


def _join_references(rows) -> list[Row]:
    """Returns one row per id, with the labels of all its rows.

    A row with an id and other inputs than the first one with this id has a problem.
    """
    first: dict[str, int] = {}
    result = []
    for row in rows:
        index = first.setdefault(clean_name(row.id), len(result))
        if index == len(result):
            result.append(row)
        elif fault := row.problem or _difference(result[index], row):
            result.append(replace(row, problem=fault))
        else:
            labels = (*result[index].labels, *row.labels)
            labels = tuple(dict.fromkeys(labels))
            result[index] = replace(result[index], labels=labels)
    return result


def _difference(first, row) -> str:
    """Returns why a row with the id of an earlier one has no reference for it."""
    names = [n for n in row.cells if row.cells[n] != first.cells[n]]
    names += [n for n in ("split", "group") if getattr(row, n) != getattr(first, n)]
    if not names:
        return ""
    return (
        f"id '{row.id}' is already that of {first.place}, whose {names[0]} is another"
    )


def with_targets(rows: Sequence[Row], task: str) -> list[Row]:
    """Returns the rows with the labels of the task.

    In regression the label is one number, as text, and a generator needs a text; a row
    without has a problem.
    """
    if task == GENERATE:
        missing = "label is missing"
        return [
            row if row.labels or row.problem else replace(row, problem=missing)
            for row in rows
        ]
    if task != REGRESSION:
        return list(rows)
    return [row if row.problem else _with_number(row) for row in rows]


def _with_number(row) -> Row:
    try:
        number = _parse_target(row.label_cell)
    except Unreadable as error:
        return replace(row, problem=f"label: {error}")
    return replace(row, labels=(f"{number:.15g}",))


def _parse_target(cell: str) -> float:
    """Returns the number of a label, written as a number of a column.

    Raises:
        Unreadable: It is none; also for words such as "NA".
    """
    number = parse_number(cell)
    if math.isnan(number):
        raise Unreadable(f"not a number: '{cell.strip()}'")
    return number


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
    numbers = _numbers(rows) if task == AUTO else {}
    if len(numbers) > MAX_NUMBERS and not all(numbers.values()):
        fraction = next(label for label in sorted(numbers) if not numbers[label])
        raise UserError(
            f"The labels are {len(numbers)} different numbers, such as {fraction}. "
            "Train on their values with --task regression, or on one class per number "
            "with --task multiclass."
        )


def _numbers(rows) -> dict[str, bool]:
    """Returns the labels that are numbers, and whether each is an integer.

    None of them if rows have several labels, or if over a tenth of the labels, such as
    "NA", are no numbers.
    """
    if any(len(row.labels) != 1 for row in rows):
        return {}
    labels = {label for row in rows for label in row.labels}
    numbers = {}
    for label in labels:
        with suppress(Unreadable):
            numbers[label] = _is_whole(label)
    return numbers if len(numbers) >= _MIN_SHARE * len(labels) else {}


def _is_whole(label: str) -> bool:
    """Whether a label is an integer.

    Raises:
        Unreadable: It is no number.
    """
    try:
        return _parse_target(label).is_integer()
    except AmbiguousNumber:
        return False


def stratify(rows: Sequence[Row], task: str) -> list[Row]:
    """Returns the rows with the classes that their division into splits balances.

    In regression these are ten bins of the target with about equal rows, or fewer; of
    texts all rows are one class.
    """
    if task == GENERATE:
        return [replace(row, labels=("",)) for row in rows]
    if task != REGRESSION or not rows:
        return list(rows)
    order = np.argsort([float(row.labels[0]) for row in rows], kind="stable")
    bins = min(_STRATA, math.ceil(len(rows) / _ROWS_PER_STRATUM))
    stratum = np.empty(len(rows), int)
    stratum[order] = np.arange(len(rows)) * bins // len(rows)
    return [
        replace(row, labels=(str(i),)) for row, i in zip(rows, stratum, strict=True)
    ]
