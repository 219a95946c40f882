"""Conversion of the JSON of :predict requests, rows or columns, to arrays.

Source: tensorflow_serving/util/json_tensor.cc of TensorFlow Serving 2.16.1, for the
forms and the first words of errors. Difference: a row or a request may leave out an
input of strings, which is then empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.server.errors import ServingError, invalid_argument
from serving.server.rest.json_document import is_base64, malformed_value
from serving.server.rest.json_rows import NUMBER_BYTES, Document
from serving.server.rest.json_tensors import to_array

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class InputType:
    """TensorFlow's name of an input's type, and whether a request may leave it out."""

    name: str
    optional: bool = False


def parse_inputs(
    document: Document, types: Mapping[str, InputType]
) -> tuple[Arrays, bool]:
    """Converts the "instances" or the "inputs" of a body.

    Returns:
        {input: array}, strings as bytes in arrays of dtype object; and whether the body
        has rows ("instances") instead of columns.

    Raises:
        ServingError: The body does not fit the types.
    """
    members = document.members
    by_row = "instances" in members
    if by_row and "inputs" in members:
        raise invalid_argument(
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if by_row:
        return _parse_rows(document, types), True
    if "inputs" in members:
        return _parse_columns(members["inputs"], types), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _parse_columns(value: Any, types: Mapping[str, InputType]) -> Arrays:
    if not _is_named(value):
        _check_single(types, "inputs is a plain value/list, but expecting an object")
        return {name: to_array(value, kind.name) for name, kind in types.items()}
    arrays = {
        name: to_array(value[name], kind.name)
        for name, kind in types.items()
        if name in value
    }
    rows = {len(array) for array in arrays.values() if array.ndim}
    for name, kind in types.items():
        if name not in arrays:
            if not kind.optional or len(rows) != 1:
                raise invalid_argument(
                    f"Missing named input: {name} in 'inputs' object."
                )
            arrays[name] = np.full([*rows], b"", object)
    return arrays


def _check_single(types: Mapping[str, InputType], message: str) -> None:
    if len(types) > 1:
        raise invalid_argument(
            f"{message} as multiple input tensors required as per tensorinfo_map"
        )


def _parse_rows(document: Document, types: Mapping[str, InputType]) -> Arrays:
    rows = document.members["instances"]
    if not isinstance(rows, list):
        raise malformed_value(rows, "Excepting 'instances' to be an list/array")
    if not document.row_count:
        raise malformed_value(rows, "No values in 'instances' array")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in types}
    is_named, shapes = True, {}
    numbers = all(kind.name != "string" for kind in types.values())
    for index, rows in document.groups(*[NUMBER_BYTES] * numbers):
        if not index:
            is_named = _is_named(rows[0])
            if not is_named:
                message = "instances is a plain list, but expecting list of objects"
                _check_single(types, message)
        try:
            arrays = _stack(rows, types, is_named, shapes)
        except ServingError:
            _raise_row_error(index, rows, types, is_named, shapes)
            raise
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        for name, array in arrays.items():
            parts[name].append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _stack(rows: list, types, is_named: bool, shapes: Mapping) -> Arrays:
    """Returns one array per input, whose first dimension is the rows."""
    columns = {name: rows for name in types}
    if is_named:
        for row in rows:
            required = {name for name, kind in types.items() if not kind.optional}
            if not (_is_named(row) and required <= row.keys() <= types.keys()):
                keys = ",".join(types)
                raise malformed_value(row, f"keys must be equal to: {keys}")
        columns = {name: [row.get(name, "") for row in rows] for name in types}
    arrays = {}
    for name, kind in types.items():
        try:
            arrays[name] = array = to_array(columns[name], kind.name)
        except ServingError as error:
            raise ServingError(error.code, f"{name}: {error.message}") from None
        if array.shape[1:] != shapes.get(name, array.shape[1:]):
            raise invalid_argument(
                f"{name}: Expecting shape {list(shapes[name])} but got: "
                f"{list(array.shape[1:])}"
            )
    return arrays


def _raise_row_error(index: int, rows: list, types, is_named: bool, shapes) -> None:
    """Raises the error of the first row that is invalid or differs from the first."""
    for i, row in enumerate(rows, start=index):
        if _is_named(row) != is_named:
            expected, got = ("object", "list") if is_named else ("value/list", "object")
            raise invalid_argument(
                f"Expecting {expected} but got {got} at item {i} of input list"
            )
        try:
            arrays = _stack([row], types, is_named, shapes)
        except ServingError as error:
            raise ServingError(
                error.code,
                f"Failed to process element: {i} of 'instances' list. Error: "
                f"{error.code.name}: {error.message}",
            ) from None
        shapes = {name: array.shape[1:] for name, array in arrays.items()}


def _is_named(value: Any) -> bool:
    """Whether the value is an object of inputs by name."""
    return isinstance(value, dict) and not is_base64(value)
