"""Columns of a served model: the objects of their types, with the client's limits."""

from dataclasses import asdict, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmkeras.config import Config
from mmkeras.modalities.column import Column, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.items import split_cell
from mmkeras.modalities.tabular.numeric import Numeric
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.types import TYPES
from serving.client.requests import Value
from serving.client.settings import Limits

if TYPE_CHECKING:
    from mmkeras.data.tables import Cell


@lru_cache(maxsize=256)
def build_column(
    name: str, column_type: str, is_number: bool, limits: Limits
) -> Column:
    """Returns the object of a column; `limits` replace settings of the same name.

    A type of a later version is that of numbers, or of texts.
    """
    kind = TYPES.get(column_type, Numeric if is_number else Text)
    settings = getattr(Config(), kind.section or kind.type)
    known = {field.name for field in fields(settings)}
    values = {n: value for n, value in asdict(limits).items() if n in known}
    return kind(name, replace(settings, **values))


def cell_value(
    cell: "Cell", column_type: str, text_files: bool, files: FileReader
) -> Value:
    """Returns the value of a table's cell; paths are relative to the folder of `files`.

    Of a column of files it is a tuple of paths and contents, and of a cell that cannot
    be read the error. With `text_files`, cells of texts are paths as well.
    """
    from mmkeras.data.tables import Embedded

    kind = TYPES.get(column_type, Text)
    try:
        cell = cell.read() if isinstance(cell, Embedded) else cell
    except Unreadable as error:
        return error
    is_text_file = text_files and kind.has_encoder_of_vectors
    if not kind.has_files and not is_text_file:
        return cell
    items = split_cell(cell, files.folder)
    paths = (item if isinstance(item, bytes) else files.find(item) for item in items)
    if kind.has_files:
        return tuple(paths)
    return tuple(path if isinstance(path, bytes) else Path(path) for path in paths)
