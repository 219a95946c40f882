"""Columns of a served model: the objects of their types, with the client's limits."""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmkeras.config import Config
from mmkeras.modalities.column import Column, Content, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.types import TYPES
from serving.client.settings import Limits


class UnknownColumn(Text):
    """Column of a type of a later version, whose values are sent as they are."""

    section, has_encoder_of_vectors = Text.type, False

    def read(self, cell: Any, files: FileReader) -> Content:
        """Reads a number."""
        try:
            return Content(data=float(cell), digest=b"")
        except ValueError:
            raise Unreadable("not a number") from None


@lru_cache(maxsize=256)
def build_column(name: str, column_type: str, limits: Limits) -> Column:
    """Returns the object of a column; `limits` replace settings of the same name."""
    kind = TYPES.get(column_type, UnknownColumn)
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
    kind = TYPES.get(column_type, UnknownColumn)
    if kind.has_files:
        return find(cell)
    return Path(find(cell)) if text_files and kind.has_encoder_of_vectors else cell
