"""Tables in memory: data frames, lists of dictionaries, dictionaries of columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

from mmkeras.data.tables.table import (
    Record,
    Table,
    clean_columns,
    convert_row,
    hash_records,
)
from mmkeras.errors import UserError


def open_frame(frame: Any) -> Table:
    """Returns the table of a pandas DataFrame."""
    rows = partial(frame.itertuples, index=False, name=None)
    return _open_tuples(list(frame.columns), rows, type(frame).__name__)


def open_columns(
    columns: Mapping[str, Sequence], name: str = "dict", **settings: Any
) -> Table:
    """Returns the table of column -> its values; `settings` are fields of Table.

    Raises:
        UserError: Columns are of different lengths, or no sequences.
    """
    lengths = {}
    for column, values in columns.items():
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
            raise UserError(
                f"{name}: column '{column}' is a {type(values).__name__}. Give a list "
                "with one value per row."
            )
        lengths[column] = len(values)
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"'{column}' {n}" for column, n in lengths.items())
        raise UserError(
            f"{name} has columns of different lengths: {counts}. Give one value "
            "per row."
        )
    rows = partial(zip, *columns.values(), strict=True)
    return _open_tuples(list(columns), rows, name, **settings)


def open_mappings(rows: Sequence, name: str = "list", **settings: Any) -> Table:
    """Returns the table of one mapping per row; absent keys are absent cells.

    Raises:
        UserError: No row is a mapping; `settings` are fields of Table.
    """
    mappings = [row for row in rows if isinstance(row, Mapping)]
    keys = list(dict.fromkeys(key for row in mappings for key in row))
    if not keys:
        raise UserError(
            f"{name} has no dictionary with a key. Give one per row, such as "
            '{"text": "hi", "label": "a"}.'
        )
    raw = dict(zip(keys, clean_columns(name, keys), strict=True))

    def read(used) -> Iterator[Record]:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                yield number, f"is of type {type(row).__name__}, not a dictionary"
                continue
            values = {raw[k]: row.get(k, "") for k in keys if raw[k] in used}
            yield number, convert_row(values)

    return _table(name, tuple(raw.values()), read, **settings)


def _open_tuples(
    header: list, rows: Callable[[], Iterable[tuple]], name: str, **settings
) -> Table:
    columns = clean_columns(name, header)

    def read(used) -> Iterator[Record]:
        for number, row in enumerate(rows()):
            values = zip(columns, row, strict=True)
            yield number, convert_row({c: v for c, v in values if c in used})

    return _table(name, columns, read, **settings)


def _table(name, columns, read, **settings):
    # Once: all cells are converted for it.
    hash_content = cache(lambda: hash_records(read(columns)))
    defaults = {"folder": ".", "hash_content": hash_content}
    return Table(name=name, columns=columns, read=read, **(defaults | settings))
