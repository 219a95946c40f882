"""Preparation of rows: reads and transcodes files to bytes that the model decodes.

`mmkeras.modalities` prepares the same file alike for training. A format that the model
decodes is sent unchanged.
"""

import io
import os
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from mmkeras.errors import UserError, shorten
from serving.client.model_info import ModelInfo, column_error
from serving.client.requests import Cell, PreparedRow
from serving.client.settings import Limits, Settings

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from mmkeras.modalities.column import Column

# A str is a path or a URI for columns of files, else the value itself.
Value: TypeAlias = "str | bytes | os.PathLike | float | np.ndarray | Image.Image | None"
Row: TypeAlias = Mapping[str, Value]
_NPY_PREFIX = b"\x93NUMPY"
# Names of limits in errors of `mmkeras.modalities`; here they are fields of `Limits`.
_SETTING = re.compile(r"\b\w+\.(max_file_mb|max_megapixels|clip_s)\b")
_SHOWN_CHARACTERS = 80  # of a value in an error


def list_columns(rows: Iterable[Row]) -> set[str]:
    """Returns the columns that at least one row has."""
    return {name for row in rows for name in row if not is_absent(row[name])}


def is_absent(value: Value) -> bool:
    """Returns whether a value is None, "", b"" or NaN."""
    if isinstance(value, Real):
        return bool(value != value)
    return value is None or (isinstance(value, str | bytes) and not value)


def prepare_row(
    row: Row, model: ModelInfo, settings: Settings, *, strict: bool
) -> PreparedRow:
    """Reads and transcodes the files of a row.

    Unless `strict`, an unreadable value is sent as absent, as by `mmkeras.predict`,
    with the reason in `problems`.

    Raises:
        UserError: The model lacks a column, a value has a wrong type, or `strict` and a
            value is unreadable.
    """
    from mmkeras.modalities.file import Unreadable
    from serving.client.columns import build_column

    data, problems, notes = {}, {}, []
    for name, value in row.items():
        if is_absent(value):
            continue
        if name not in model.columns:
            raise column_error(name, model.columns, settings.model)
        is_number = isinstance(model.absent[name], float)
        kind, limits = model.columns[name], settings.limits
        column = build_column(name, kind, is_number, limits)
        try:
            cell, faults = _prepare(value, column, is_number, limits)
        except Unreadable as error:
            reason = _SETTING.sub(r"\1", str(error))
            problems[name] = f"{name} {_shorten(value)}: {reason}"
            if strict:
                raise UserError(f"Cannot use {problems[name]}.") from None
        else:
            notes += [f"{name} {_shorten(value)}: {fault}" for fault in faults]
            if not column.is_absent(cell):  # a number may be written as "NA"
                data[name] = cell
    return PreparedRow(data=data, problems=problems, notes=tuple(notes))


def _prepare(
    value: Value, column: "Column", is_number: bool, limits: Limits
) -> tuple[Cell, tuple[str, ...]]:
    """Returns what is sent for a value, and notes on faults of its file."""
    from mmkeras.modalities.column import FileReader
    from mmkeras.modalities.vector.reading import prepare_vector

    if is_number:
        _check(isinstance(value, str | Real), value, column, "a number")
        return column.read(value, FileReader(".")).data, ()
    content = _content(value, column, limits)
    if content.startswith(_NPY_PREFIX):
        return prepare_vector(content), ()
    return column.prepare(content)


def _content(value: Value, column: "Column", limits: Limits) -> bytes:
    from mmkeras.modalities.file import Unreadable, read_file
    from mmkeras.modalities.image.png import encode_png

    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, os.PathLike) or (isinstance(value, str) and column.has_files):
        return read_file(os.fspath(value), limits.max_file_mb)
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Unreadable("characters that UTF-8 cannot encode") from None
    if column.has_files and _is_picture(value):
        return encode_png(value)
    allowed = "a path, bytes, an image" if column.has_files else "text, bytes, a path"
    _check(type(value).__name__ == "ndarray", value, column, f"{allowed} or a vector")
    import numpy as np

    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()


def _check(is_allowed: bool, value: Value, column: "Column", allowed: str) -> None:
    if not is_allowed:
        kind = type(value).__name__
        raise UserError(f"{column.name} must be {allowed}; received {kind}.")


def _is_picture(value: Any) -> bool:
    """Whether a value is a PIL image, or pixels (H, W) or (H, W, C) of uint8."""
    is_pixels = getattr(value, "dtype", "") == "uint8" and value.ndim > 1
    return is_pixels or type(value).__module__.startswith("PIL.")


def _shorten(value: Value) -> str:
    if not isinstance(value, str | os.PathLike):
        return f"({type(value).__name__})"
    return f"'{shorten(os.fspath(value), _SHOWN_CHARACTERS)}'"
