"""Conversion of the JSON of :predict requests, rows or columns, to arrays.

Source: tensorflow_serving/util/json_tensor.cc of TensorFlow Serving 2.16.1, for the
forms and the first words of errors. Difference: a row or a request may leave out an
input of strings, which is then empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from serving.server.errors import ServingError, invalid_argument
from serving.server.rest.json_document import is_base64, malformed_value, quote
from serving.server.rest.json_rows import NUMBER_BYTES, Document
from serving.server.rest.json_tensors import to_array


@dataclass(frozen=True)
class InputType:
    """Type of a signature's input.

    Attributes:
        name: TensorFlow's name: "float", "int64", "string".
        optional: Whether a request may leave it out; it is then empty strings.
    """

    name: str
    optional: bool = False


InputTypes = Mapping[str, InputType]


def parse_inputs(
    document: Document, types: InputTypes
) -> tuple[dict[str, np.ndarray], bool]:
    """Converts the "instances" or the "inputs" of a body.

    Args:
        document: JSON of the body.
        types: {input: type}, in the order of the names.

    Returns:
        {input: array [...]}, strings as bytes in arrays of dtype object; and whether
        the body has rows ("instances") instead of columns.

    Raises:
        ServingError: The body does not fit the types.
    """
    members = document.members
    by_row = "instances" in members
    if by_row and "inputs" in members:
        raise malformed_value(
            members,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist ",
        )
    if by_row:
        return _parse_rows(document, types), True
    if "inputs" in members:
        return _parse_columns(members["inputs"], types), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _parse_columns(value: Any, types: InputTypes) -> dict[str, np.ndarray]:
    if not _is_named(value):
        _check_single(types, "inputs is a plain value/list, but expecting an object")
        return {name: to_array(value, kind.name) for name, kind in types.items()}
    arrays = {}
    for name, kind in types.items():
        if name in value:
            arrays[name] = to_array(value[name], kind.name)
        elif not kind.optional:
            raise _missing(name)
    rows = {len(array) for array in arrays.values() if array.ndim}
    for name in types:
        if name not in arrays:
            if len(rows) != 1:
                raise _missing(name)
            arrays[name] = np.full([*rows], b"", object)
    return arrays


def _missing(name: str) -> ServingError:
    return invalid_argument(f"Missing named input: {name} in 'inputs' object.")


def _check_single(types: InputTypes, message: str) -> None:
    if len(types) > 1:
        raise invalid_argument(
            f"{message} as multiple input tensors required as per tensorinfo_map"
        )


def _parse_rows(document: Document, types: InputTypes) -> dict[str, np.ndarray]:
    members = document.members
    if not isinstance(members["instances"], list):
        raise malformed_value(members, "Excepting 'instances' to be an list/array")
    if not document.count_rows():
        raise malformed_value(members, "No values in 'instances' array")
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
            arrays = _stack_rows(rows, types, is_named)
            for name, array in arrays.items():
                if array.shape[1:] != shapes.setdefault(name, array.shape[1:]):
                    raise invalid_argument("Rows differ")
                parts[name].append(array)
        except ServingError:
            _raise_row_error(index, rows, types, is_named, shapes)
            raise
    return {
        name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for name, arrays in parts.items()
    }


def _stack_rows(rows: list, types: InputTypes, is_named: bool) -> dict[str, np.ndarray]:
    """Returns one array per input, whose first dimension is the rows."""
    if not is_named:
        return {name: to_array(rows, kind.name) for name, kind in types.items()}
    if not all(_is_named(row) and row.keys() <= types.keys() for row in rows):
        raise invalid_argument("Rows differ")
    arrays = {}
    for name, kind in types.items():
        if kind.optional:
            column = [row.get(name, "") for row in rows]
        else:
            column = [row[name] for row in rows if name in row]
        if len(column) < len(rows):
            raise invalid_argument("Rows differ")
        arrays[name] = to_array(column, kind.name)
    return arrays


def _raise_row_error(
    index: int,
    rows: list,
    types: InputTypes,
    is_named: bool,
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Raises the error of the first row that is invalid or differs from the first.

    Args:
        index: Index of the first of the rows.
        rows: Rows.
        types: {input: type}.
        is_named: Whether the first row of all is an object.
        shapes: {input: shape per row} of the first row of all, as far as it is known.
    """
    shapes = dict(shapes) if index else {}
    for i, row in enumerate(rows, start=index):
        if _is_named(row) != is_named:
            expected, got = ("object", "list") if is_named else ("value/list", "object")
            raise invalid_argument(
                f"Expecting {expected} but got {got} at item {i} of input list"
            )
        for name, item in row.items() if is_named else ((next(iter(types)), row),):
            try:
                _check_item(name, item, types, shapes)
            except ServingError as error:
                key = f" key: {name}" if is_named else ""
                raise ServingError(
                    error.code,
                    f"Failed to process element: {i}{key} of 'instances' list. Error: "
                    f"{error.code.name}: {error.message}",
                ) from None
        if is_named and not all(k.optional or name in row for name, k in types.items()):
            raise invalid_argument(
                f"Failed to process element: {i} of 'instances' list. JSON object: "
                f"{quote(row)} keys must be equal to: {','.join(types)}"
            )


def _check_item(
    name: str, item: Any, types: InputTypes, shapes: dict[str, tuple[int, ...]]
) -> None:
    """Checks an input of a row against its type and the shape of earlier rows."""
    if name not in types:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape = to_array(item, types[name].name).shape
    expected = shapes.setdefault(name, shape)
    if prod(shape) != prod(expected):
        raise invalid_argument(
            f"Expecting tensor size: {prod(expected)} but got: {prod(shape)}"
        )
    if shape != expected:
        one, other = (f"[{','.join(map(str, s))}]" for s in (expected, shape))
        raise invalid_argument(f"Expecting shape {one} but got: {other}")


def _is_named(value: Any) -> bool:
    """Whether the value is an object of inputs by name."""
    return isinstance(value, dict) and not is_base64(value)
