"""Rows of Arrow's batches."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from mmkeras.data.tables.cells import BadCell
from mmkeras.data.tables.embedded import (
    Embedded,
    is_list,
    is_number_list,
    scalar_value,
)
from mmkeras.data.tables.table import (
    Cell,
    Record,
    Table,
    clean_columns,
    convert_row,
    convert_value,
    hash_records,
)
from mmkeras.errors import UserError, one_line
from mmkeras.modalities.file import Unreadable

_BATCH_ROWS = 256


def open_arrow(table: Any) -> Table:
    """Returns the table of a pyarrow.Table in memory."""
    names = table.schema.names
    raw = dict(zip(names, clean_columns("Table", names), strict=True))

    def read(used) -> Iterator[Record]:
        columns = {key: column for key, column in raw.items() if column in used}
        batches = table.to_batches(_BATCH_ROWS)
        yield from iter_batches(batches, columns, class_names(schema=table.schema))

    return Table(
        name="Table",
        folder=".",
        columns=tuple(raw.values()),
        read=read,
        hash_content=cache(lambda: hash_records(read(tuple(raw.values())))),
    )


def iter_batches(
    batches: Iterable,
    columns: Mapping[str, str],
    classes: Mapping[str, list[str]],
    file: str = "",
) -> Iterator[Record]:
    """Yields rows of batches, numbered from 0.

    Args:
        columns: Name in the batches -> name of the column, of those to read.
        classes: Name in the batches -> class names of its integers.
        file: Arrow IPC stream with these batches: bytes and vectors stay in it.
    """
    start = 0
    for batch in batches:
        values = {}
        for key, column in columns.items():
            array = batch.column(batch.schema.get_field_index(key))
            if key in classes:
                values[column] = _class_values(array, classes[key])
            elif file and is_embedded(array.type):
                make = partial(Embedded, file=file, column=key)
                values[column] = _embedded_values(array, make, start)
            else:
                values[column] = plain_values(array)
        for i in range(batch.num_rows):
            yield start + i, convert_row({c: v[i] for c, v in values.items()})
        start += batch.num_rows


def is_embedded(kind: Any) -> bool:
    """Whether cells of an Arrow type are large: bytes, vectors, audio, lists of bytes.

    Lists of strings are not, and what no cell can hold is not either.
    """
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if is_list(kind):
        item = kind.value_type
        is_one = types.is_struct(item) or not types.is_nested(item)
        return is_number_list(kind) or (is_one and is_embedded(item))
    if types.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return "bytes" in names or names >= {"array", "sampling_rate"}
    is_view = getattr(types, "is_binary_view", lambda kind: False)
    is_fixed = types.is_fixed_size_binary(kind) and not types.is_decimal(kind)
    return is_fixed or any(
        is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, is_view)
    )


def class_names(features: Any = None, schema: Any = None) -> dict[str, list[str]]:
    """Returns column -> class names, of Hugging Face's features or a schema with them.

    Example:
        class_names({"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}})
    """
    if features is None:
        info = (schema.metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(info).get("info", {}).get("features") or {}
    names = {}
    for column, feature in features.items():
        feature = feature[0] if isinstance(feature, list) and feature else feature
        feature = feature if isinstance(feature, dict) else {}
        item = feature.get("feature", feature)
        if isinstance(item, dict) and item.get("_type") == "ClassLabel":
            names[column] = item.get("names") or []
    return names


@contextmanager
def arrow_errors(name: str, kind: str) -> Iterator[None]:
    """Turns errors of Arrow into a UserError; `kind` is what the file should be."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = one_line(error, 300)
        raise UserError(
            f"{name} cannot be read as {kind}: {reason}. Copy or save it anew."
        ) from None


def _embedded_values(array, make: Callable, start: int) -> list:
    """Returns a value per row: a reference, a path, or None if absent."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_present = array.is_valid().to_pylist()
    others = [None] * len(array)
    if pa.types.is_struct(array.type):
        names = [array.type.field(i).name for i in range(array.type.num_fields)]
        fields = dict(zip(names, array.flatten(), strict=True))
        is_present = fields["bytes" if "bytes" in fields else "array"].is_valid()
        is_present = is_present.to_pylist()
        others = plain_values(fields["path"]) if "path" in fields else others
    elif pa.types.is_nested(array.type):
        lengths = pc.list_value_length(array).to_pylist()
        others = [[] if length == 0 else None for length in lengths]
        is_present = [bool(length) for length in lengths]
    return [
        make(row=start + i) if is_present[i] else others[i] for i in range(len(array))
    ]


def _class_values(array, names):
    def name(index):
        if isinstance(index, list):
            return [name(i) for i in index]
        if index is None or index == -1:  # "unknown" of Hugging Face
            return None
        if not isinstance(index, int) or 0 <= index < len(names):
            return names[index] if isinstance(index, int) else index
        raise Unreadable(f"is class number {index} of {len(names)} classes")

    return [_bad_if_unreadable(name, index) for index in plain_values(array)]


def plain_values(array: Any) -> list:
    """Returns the values of an array; one that Python does not have is a BadCell."""
    import pyarrow as pa

    try:
        if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
            # Python has no nanoseconds, and pandas may not be installed.
            array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
        return array.to_pylist()
    except Exception:  # of any type: one bad value; which it is, is found here
        return [_bad_if_unreadable(scalar_value, scalar) for scalar in array]


def scalar_cell(scalar: Any) -> Cell:
    """Returns a scalar as a cell, with the content of bytes and vectors."""
    return convert_value(_bad_if_unreadable(scalar_value, scalar))


def _bad_if_unreadable(convert, value):
    try:
        return convert(value)
    except Unreadable as error:
        return BadCell(reason=str(error))
