"""Tables in memory with labels and validation rows that are given apart from them."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

from mmkeras.config import TableConfig
from mmkeras.data.table import label_columns
from mmkeras.data.tables import Cell, Embedded, Table, open_table
from mmkeras.data.tables.cells import to_cell
from mmkeras.data.tables.table import hash_records
from mmkeras.errors import UserError
from mmkeras.estimators.labels import LabelForm, row_labels
from mmkeras.modalities.file import Unreadable
from mmkeras.names import clean_name
from mmkeras.schema import TRAIN, VAL


def with_validation(
    table: Any, validation: Any, form: LabelForm, config: TableConfig
) -> Any:
    """Returns the table with the validation rows, if there are some.

    Args:
        table: Anything that `open_table` takes, with labels.
        validation: Another table, or a pair (table, labels), or None. Its rows get the
            split val, and those of `table` without a split get train.
        form: Form of the labels of `table`.

    Raises:
        UserError: The two tables cannot be one.
    """
    if validation is None:
        return table
    validation = _validation_table(validation, form, config)
    return _with_validation(open_table(table), validation, config)


def _validation_table(validation: Any, form: LabelForm, config: TableConfig) -> Table:
    """Returns the validation rows with their labels."""
    is_rows = isinstance(validation, list)
    is_rows = is_rows and all(isinstance(part, Mapping) for part in validation)
    if isinstance(validation, list | tuple) and not is_rows:
        if len(validation) != 2:
            raise UserError(
                f"validation_data is a {type(validation).__name__} of "
                f"{len(validation)}. Give a pair (table, labels), or a table."
            )
        table, labels = validation
        return with_labels(table, form.name_columns(labels), config)
    table = open_table(validation)
    for name in label_columns(config, table.columns):
        if name not in table.columns:
            raise UserError(
                f"validation_data has no label column '{name}'. Give it, or a pair "
                "(table, labels)."
            )
    return table


def with_labels(table: Any, labels: Any, config: TableConfig) -> Table:
    """Returns the table with one label per row in the label column of the settings.

    Raises:
        UserError: There are fewer or more labels than rows; or the table is in memory,
            and has other ones. Those of a file are replaced.
    """
    in_memory = not isinstance(table, str | os.PathLike)
    table, name = open_table(table), clean_name(config.label)
    cells = label_cells(labels)
    rows = sum(1 for _ in table.read(()))
    if rows != len(cells):
        raise UserError(
            f"{table.name} has {rows} rows, and there are {len(cells)} labels. Give "
            "one label per row."
        )
    if in_memory and name in table.columns:
        records = (record for _, record in table.read((name,)))
        before = [x[name] if isinstance(x, dict) else x for x in records]
        before = [x.read() if isinstance(x, Embedded) else x for x in before]
        if before != cells:
            raise UserError(
                f"{table.name} has a column '{name}' with other values than the labels "
                "that are given apart from it. Rename it, or leave out one of the two."
            )

    def read(used):
        others = [column for column in used if column != name]
        records = table.read(others or table.columns[:1])
        for (line, record), cell in zip(records, cells, strict=True):
            if isinstance(record, dict) and name in used:
                record = {**record, name: cell}
                record = {column: record[column] for column in used}
            yield line, record

    return _changed(table, tuple(dict.fromkeys([*table.columns, name])), read)


def open_in_memory(table: Any) -> Any:
    """Returns a table in memory as opened, so that it is hashed once; a path as it is.

    Raises:
        UserError: As `open_table`.
    """
    is_path = table is None or isinstance(table, str | os.PathLike)
    return table if is_path else open_table(table)


def label_cells(labels: Any) -> list[Cell]:
    """Returns labels as cells of a table; a list of labels is one cell.

    Raises:
        UserError: A label is of a type that no cell has.
    """
    try:
        return [to_cell(label) for label in row_labels(labels)]
    except Unreadable as error:
        raise UserError(f"A label {error}. Give text or numbers.") from None


def _with_validation(table: Table, validation: Table, config: TableConfig) -> Table:
    folders = [os.path.realpath(part.folder) for part in (table, validation)]
    if folders[0] != folders[1]:
        raise UserError(
            f"validation_data has its files in '{validation.folder}', and the training "
            f"rows in '{table.folder}'. Give both tables in one folder, or as one with "
            f"the column '{config.split_column}'."
        )
    split = clean_name(config.split_column)
    columns = tuple(dict.fromkeys([*table.columns, *validation.columns, split]))

    def read(used):
        end = 0
        for part, default in ((table, TRAIN), (validation, VAL)):
            names = [column for column in used if column in part.columns]
            line = 0
            for line, record in part.read(names or part.columns[:1]):
                if isinstance(record, dict):
                    record = {name: record.get(name, "") for name in used}
                    if split in used and (part is validation or not record[split]):
                        record[split] = default
                yield end + line, record
            end += line + 1

    return _changed(table, columns, read)


def _changed(table, columns, read) -> Table:
    @cache
    def hash_content():
        return hash_records(chain([(-1, repr(columns))], read(columns)))

    return replace(table, columns=columns, read=read, hash_content=hash_content)
