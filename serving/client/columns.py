"""Columns of a served model: the objects of their types, with the client's limits."""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import lru_cache
from pathlib import Path

from mmkeras.config import Config
from mmkeras.modalities.column import Column
from mmkeras.modalities.tabular.numeric import Numeric
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.types import TYPES
from serving.client.settings import Limits


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
    cell: str, column_type: str, text_files: bool, find: Callable[[str], str] = str
) -> str | Path:
    """Returns the value of a table's cell; `find` returns the path that a cell names.

    With `text_files`, cells of texts are paths as well.
    """
    kind = TYPES.get(column_type, Text)
    if kind.has_files:
        return find(cell)
    return Path(find(cell)) if text_files and kind.has_encoder_of_vectors else cell
