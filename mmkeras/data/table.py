"""Reader of the rows of a table, and the checks that need no media."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmkeras.config import TableConfig
from mmkeras.data.labels import parse_flags, parse_labels
from mmkeras.data.tables import BadCell, Cell, Embedded, Table, open_table
from mmkeras.data.tables.cells import text_fault
from mmkeras.errors import UserError, format_names
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.items import parse_list
from mmkeras.modalities.vector.npy import NPY, npy_numbers
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR, SPLIT_NAMES, SPLITS

# Settings of columns that are no inputs of the model.
_ROLES = ("label", "id_column", "split_column", "group_column")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        line: Line of the file where the row starts, from 1; or number of the row, from
            0, where `unit` is "row".
        id: Content of the id column, else the number of the row: "0", "1", ...
        cells: Column -> its cell as written, "" if absent or blank.
        labels: Labels without duplicates, in the order written; see `parse_labels`.
        label_cell: Label cell as written.
        has_label: Whether the label is given; an empty list is, a blank cell is not.
        split: train, val, test, or "".
        group: Rows of one group are in one split; "" is none.
        problem: Reason why the row cannot be used, or "".
        unit: What `line` counts: "line" or "row".
    """

    line: int
    id: str
    cells: dict[str, Cell]
    labels: tuple[str, ...] = ()
    label_cell: str = ""
    has_label: bool = False
    split: str = ""
    group: str = ""
    problem: str = ""
    unit: str = "line"

    @property
    def place(self) -> str:
        """Where the row is, such as "line 5"."""
        return f"{self.unit} {self.line}"

    @property
    def present(self) -> set[str]:
        """Columns that have a cell."""
        return {name for name, cell in self.cells.items() if cell}


def read_sample(table: Table, rows: int) -> list[dict[str, Cell]]:
    """Returns the first rows as column -> cell, without those that are no rows.

    Raises:
        UserError: The table has no rows, or cannot be read.
    """
    records = [record for _, record in table.sample(rows)]
    if not records:
        raise UserError(f"{table.name} has a header and no rows. Add at least one row.")
    return [record for record in records if isinstance(record, dict)]


def check_columns(
    path: str | Path, columns: Sequence[str], remedy: str = "add an empty one"
) -> None:
    """Checks that the table has the columns of a trained model.

    Args:
        columns: Names of the columns.
        remedy: What else the user can do than to rename the column; "{}" is replaced
            by its name.

    Raises:
        UserError: A column is missing, or the table cannot be read.
    """
    table = open_table(path)
    header = table.columns
    if missing := [name for name in columns if clean_name(name) not in header]:
        *first, last = map(repr, missing)
        names = f"columns {', '.join(first)} and {last}" if first else f"column {last}"
        lack = f"lacks the {names} that the model was trained on"
        raise no_column(table.name, header, missing, lack, remedy.format(missing[0]))


def warn_absent(columns: Iterable[str], present: Collection[str]) -> list[str]:
    """Returns a warning per column of the model that no row has."""
    return [
        f"Column '{name}' is empty in all rows that were read, so the model gets none."
        for name in columns
        if name not in present
    ]


def iter_rows(
    path: str | Path,
    config: TableConfig,
    columns: Sequence[str],
    *,
    labeled: bool = True,
) -> Iterator[Row]:
    """Reads a table row by row, in bounded memory; skips blank lines and a BOM.

    `columns` are those of the model, as `find_columns` finds them; one that the table
    lacks is absent in all rows. With `labeled`, a row without a label or any of the
    columns has a problem.

    Raises:
        UserError: A column is missing that must be there, or the table cannot be read.
    """
    table = open_table(path, cache_dir=config.cache_dir or None)
    _check_roles(table, config, labeled)
    roles = [clean_name(getattr(config, role)) for role in _ROLES]
    names = [*roles, *config.label_names, *map(clean_name, columns)]
    records = table.records(names)
    for number, (line, record) in enumerate(records):
        if isinstance(record, dict):
            row = _row(str(number), line, record, columns, config, labeled)
        else:
            cells = dict.fromkeys(columns, "")
            row = Row(line=line, id=str(number), cells=cells, problem=record)
        yield replace(row, unit=table.unit)


def read_rows(
    path: str | Path,
    config: TableConfig,
    columns: Sequence[str],
    *,
    labeled: bool = True,
    unique_ids: bool = True,
) -> list[Row]:
    """Reads all rows and checks ids and splits; arguments as for `iter_rows`.

    Rows that repeat an id get a problem with `unique_ids`, and so do rows without split
    if others have one. With `config.folds` no row has a split.

    Raises:
        UserError: As `iter_rows`.
    """
    rows = list(iter_rows(path, config, columns, labeled=labeled))
    has_split = labeled and any(row.split for row in rows)
    first_places: dict[str, str] = {}
    for i, row in enumerate(rows):
        first = first_places.setdefault(clean_name(row.id), row.place)
        problem = ""
        if unique_ids and first != row.place:
            problem = f"id '{row.id}' is already that of {first}"
        elif has_split and not row.split:
            problem = "split is missing, and other rows have one"
        if problem and not row.problem:
            rows[i] = replace(row, problem=problem)
    return rows


def _check_roles(table, config, labeled):
    """Checks that the columns are there that a user named, and the labels."""
    defaults = {field.name: field.default for field in fields(TableConfig)}
    names = {"label": label_columns(config, table.columns)} if labeled else {}
    for name in ("id_column", "split_column", "group_column"):
        if getattr(config, name) != defaults[name]:
            names[name] = [clean_name(getattr(config, name))]
    for name, columns in names.items():
        for column in columns:
            if column not in table.columns:
                lack, remedy = f"has no column '{column}'", f"set table.{name}"
                raise no_column(table.name, table.columns, [column], lack, remedy)


def no_column(
    table: str,
    header: Sequence[str],
    names: Sequence[str],
    lack: str,
    remedy: str,
) -> UserError:
    """Returns the error of a table that lacks columns; suggests close names."""
    return UserError(
        f"{table} {lack}; its columns are {format_names(header)}. "
        f"{close_columns(header, names)}Rename the column, or {remedy}."
    )


def close_columns(header: Sequence[str], names: Sequence[str]) -> str:
    """Returns "Did you mean 'Text'? " for columns with almost the names, or ""."""
    lowered = {column.lower(): column for column in header if column}
    close = [get_close_matches(name.lower(), lowered, n=1) for name in names]
    hints = " or ".join(f"'{lowered[match[0]]}'" for match in close if match)
    return f"Did you mean {hints}? " if hints else ""


def _check_cell(cell: Cell, is_input: bool) -> tuple[Cell, str]:
    """Returns the cell, "" if absent, and what is wrong with it, or "".

    Embedded inputs are read later, with the media files.
    """
    if isinstance(cell, Embedded) and not is_input:
        try:
            cell = cell.read()
        except Unreadable as error:
            cell = BadCell(reason=str(error))
    if isinstance(cell, BadCell):
        return "", cell.reason
    if fault := text_fault(cell):
        return "", f"has {fault}"
    return (cell if not isinstance(cell, str) or cell.strip() else ""), ""


def _as_text(content: Any) -> str:
    """Returns the text of a cell of a label, an id, a split or a group."""
    if isinstance(content, bytes) and content.startswith(NPY):  # a list of numbers
        content = tuple(map(_number_text, npy_numbers(content)))
    if isinstance(content, tuple):
        return LABEL_SEPARATOR.join(map(_as_text, content))
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else content


def _number_text(number: float) -> str:
    return f"{number:.0f}" if number.is_integer() else f"{number:.7g}"


def label_columns(config: TableConfig, header: Collection[str]) -> list[str]:
    """Returns the label column, or the columns of 0 and 1 that the setting names."""
    single, names = clean_name(config.label), config.label_names
    if single in header or len(names) < 2:
        return [single]
    if name := next((name for name in names if LABEL_SEPARATOR in name), ""):
        raise UserError(
            f"table.label names the column '{name}', whose name would be a class, and "
            f"'{LABEL_SEPARATOR}' separates classes. Rename it."
        )
    return list(names)


def _labels(cells, config) -> tuple[tuple[str, ...], str]:
    """Returns the labels of a row, and why they cannot be used, or "".

    `cells` are those of the label columns.
    """
    if len(cells) > 1:
        return parse_flags({name: _as_text(cell) for name, cell in cells.items()})
    (content,) = cells.values()
    cell = _as_text(content)
    labels = parse_labels(cell, config.join_labels)
    is_empty = content == () or parse_list(cell) == []
    is_known = labels or is_empty
    return labels, "" if is_known else "label is missing"


def _row(number, line, cells, names, config, labeled) -> Row:
    columns = {role: clean_name(getattr(config, role)) for role in _ROLES}
    label_names, inputs = label_columns(config, cells), list(map(clean_name, names))
    values, faults = {}, {}
    for column in dict.fromkeys([*columns.values(), *label_names, *inputs]):
        cell, fault = _check_cell(cells.get(column, ""), column in inputs)
        values[column] = cell
        if fault:
            faults[column] = f"column '{column}' {fault}"
    problems = list(faults.values())
    roles = {role: _as_text(values[column]) for role, column in columns.items()}
    labels, label_problem = _labels({n: values[n] for n in label_names}, config)
    if config.folds:
        roles["split_column"] = ""
    split_cell = clean_name(roles["split_column"])
    split = SPLIT_NAMES.get(split_cell.lower(), "")
    if labeled and split_cell and not split:
        allowed = ", ".join(SPLITS)
        problems.append(f"split is '{split_cell}' (allowed: {allowed})")
    if labeled and label_problem and faults.keys().isdisjoint(label_names):
        problems.append(label_problem)
    if labeled and not any(values[c] or c in faults for c in inputs):
        problems.append("no modality present")
    if labeled and columns["id_column"] in cells and not clean_name(roles["id_column"]):
        problems.append("id is missing")
    return Row(
        line=line,
        id=roles["id_column"].strip() or number,
        cells={name: values[clean_name(name)] or "" for name in names},
        labels=labels,
        label_cell=roles["label"],
        has_label=not label_problem,
        split=split,
        group=clean_name(roles["group_column"]),
        problem="; ".join(problems),
    )
