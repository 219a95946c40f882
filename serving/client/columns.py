"""Columns of a served model: the objects of their types, with the client's limits."""

from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from mmkeras.config import Config
from mmkeras.modalities.column import Column, Content, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.types import TYPES
from serving.client.settings import Limits


class UnknownColumn(Text):
    """Column of a type of a later version, whose values are sent as they are."""

    type = "unknown"
    section = Text.type

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
    known = {f.name for f in fields(settings)}
    values = {f.name: getattr(limits, f.name) for f in fields(limits)}
    own = {key: value for key, value in values.items() if key in known}
    return kind(name, replace(settings, **own))


def holds_paths(column: Column, text_files: bool) -> bool:
    """Returns whether cells of a table name files; `text_files` is for texts."""
    return column.has_files or (text_files and column.has_encoder_of_vectors)
