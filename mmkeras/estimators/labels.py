"""Labels as Python gives them: their type, and matrices of 0 and 1."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from numbers import Integral, Real
from typing import Any

import numpy as np

from mmkeras.data.tables import open_table
from mmkeras.errors import UserError
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR

_BOOLS = {"false": False, "true": True}
_CONVERTERS = {"str": str, "int": int, "float": float, "bool": _BOOLS.__getitem__}


@dataclass(frozen=True, kw_only=True)
class LabelForm:
    """What labels were before they became the text of a table; JSON in the manifest.

    Attributes:
        type: str, int, float or bool.
        indicators: Names of the columns if the labels were a matrix of 0 and 1.
        spellings: Class -> its label, where they differ in blanks or invisible
            characters and the class has one label only.
    """

    type: str = "str"
    indicators: Sequence[str] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)

    def convert(self, names: Iterable[str]) -> np.ndarray:
        """Returns class names as labels (C,) of the type; text if one is no such."""
        names = [self.spellings.get(name, name) for name in names]
        try:
            values = [_CONVERTERS[self.type](name) for name in names]
        except (ValueError, KeyError):  # a label of validation rows of another type
            values = names
        is_text = any(isinstance(value, str) for value in values)
        return np.array(values, object if is_text else None)

    def name_columns(self, labels: Any) -> Any:
        """Returns a matrix of 0 and 1 without headers as lists of labels.

        Its columns are in the order of those that were fitted. Other labels are as
        they were.
        """
        names = None if hasattr(labels, "columns") else _indicator_names(labels)
        if names is None or len(names) != len(self.indicators):
            return labels
        rows = _as_array(labels)
        return [
            [n for n, x in zip(self.indicators, row, strict=True) if x] for row in rows
        ]


def label_form(table: Any, column: str, labels: Any) -> LabelForm:
    """Returns the form of labels, or if they are None of those in a column of a table.

    Labels in a file are text.
    """
    names = None if labels is None else _indicator_names(labels)
    if names is None:
        if labels is None:
            rows = _column_values(table, clean_name(column))
        else:
            rows = row_labels(labels)
        values = list(chain.from_iterable(map(_as_list, rows)))
        return LabelForm(type=_type_of(values), spellings=_spellings(values))
    return LabelForm(type=_type_of(names), indicators=tuple(map(_class_name, names)))


def row_labels(labels: Any) -> list[Any]:
    """Returns a label, or a list of labels, per row of what scikit-learn takes as y.

    A matrix of 0 and 1 has a column per class, whose name is its header or number.

    Raises:
        UserError: It is another matrix of numbers, or no sequence.

    Example:
        row_labels(np.array([[0, 1], [1, 1]]))  # [["1"], ["0", "1"]]
    """
    if not isinstance(labels, Iterable):
        raise UserError(
            f"label cannot be of type {type(labels).__name__}. Give the name of a "
            "column, or one label per row."
        )
    shape = getattr(labels, "shape", ())
    if len(shape) != 2:
        return list(labels)
    names, values = _indicator_names(labels), _as_array(labels)
    if names is not None:
        names = list(map(_class_name, names))
        return [[n for n, x in zip(names, row, strict=True) if x] for row in values]
    if shape[1] == 1:
        return list(values[:, 0])
    if hasattr(labels, "columns") or values.dtype.kind not in "OUS":
        raise UserError(
            f"Labels of shape {tuple(shape)} have other values than 0 and 1. Give one "
            "label per row, a list of labels per row, or 0 or 1 per class."
        )
    return [list(row) for row in values]


def named_columns(table: Any, label: Any) -> str | None:
    """Returns the label columns that `label` names, with commas between; else None.

    It is the name of a column, or a list of names that are all columns of the table.
    """
    if isinstance(label, str):
        return label
    if not isinstance(label, list | tuple) or len(set(map(str, label))) < len(label):
        return None
    columns = open_table(table).columns
    is_named = all(isinstance(x, str) and clean_name(x) in columns for x in label)
    return ",".join(label) if label and is_named else None


def _as_array(labels: Any) -> np.ndarray:
    return labels.toarray() if hasattr(labels, "toarray") else np.asarray(labels)


def _indicator_names(labels: Any) -> list[Any] | None:
    """Returns the classes of a matrix of 0 and 1 with several columns; else None."""
    shape = getattr(labels, "shape", ())
    if len(shape) != 2 or shape[1] < 2:
        return None
    values = _as_array(labels)
    if values.dtype.kind not in "biufO" or not np.isin(values, (0, 1)).all():
        return None
    return list(getattr(labels, "columns", range(shape[1])))


def _class_name(column: Any) -> str:
    name = clean_name(str(column))
    if not name or LABEL_SEPARATOR in name:
        raise UserError(
            f"The labels have a column '{column}', whose name would be a class. Give "
            f"it a name without '{LABEL_SEPARATOR}'."
        )
    return name


def _column_values(table: Any, name: str) -> Iterable[Any]:
    """Returns the values of a column of a table in memory; none of a file."""
    if isinstance(table, list | tuple):
        rows = [row for row in table if isinstance(row, Mapping)]
        return [v for row in rows for k, v in row.items() if clean_name(str(k)) == name]
    if isinstance(table, Mapping):
        table = {clean_name(str(k)): values for k, values in table.items()}
        return table.get(name, ())
    if hasattr(table, "to_batches"):  # pyarrow
        columns = table.select(_named(table.column_names, name))
        return _column_values(columns.to_pydict(), name)
    if hasattr(table, "iloc"):  # pandas
        return table.iloc[:, _named(table.columns, name)].to_numpy().ravel()
    return ()


def _named(header: Iterable[Any], name: str) -> list[int]:
    return [i for i, column in enumerate(header) if clean_name(str(column)) == name]


def _as_list(label: Any) -> Sequence[Any]:
    """Returns the labels of a row."""
    is_list = isinstance(label, list | tuple) or getattr(label, "shape", ()) != ()
    return label if is_list else [label]


def _spellings(labels: Iterable[Any]) -> dict[str, str]:
    """Returns class -> label for classes with one label that is written otherwise."""
    spellings = defaultdict(set)
    for label in labels:
        if isinstance(label, str):
            spellings[clean_name(label)].add(label)
    return {
        name: min(texts)
        for name, texts in spellings.items()
        if len(texts) == 1 and name not in texts
    }


def _type_of(labels: Iterable[Any]) -> str:
    """Returns the type that all labels have that are there."""
    kinds = set(map(_kind, labels)) - {""}
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "str"


def _kind(value: Any) -> str:
    value = value.item() if getattr(value, "shape", None) == () else value
    if type(value).__name__ in ("NoneType", "NAType", "NaTType"):
        return ""
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Integral):
        return "int"
    return "float" if isinstance(value, Real) else "str"
