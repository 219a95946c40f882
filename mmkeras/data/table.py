"""Reader of the rows of a table, and the checks that need no media."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path

from mmkeras.config import TableConfig
from mmkeras.data.labels import parse_labels
from mmkeras.data.tables import open_table
from mmkeras.data.tables.cells import NUL as _NUL
from mmkeras.errors import UserError, format_names
from mmkeras.names import clean_name
from mmkeras.schema import MODALITIES, SPLIT_NAMES, SPLITS


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        line: Line of the file where the row starts; the header is line 1.
        id: Content of the id column, else the number of the row: "0", "1", ...
        cells: Modality -> its cell as written, "" if absent or blank.
        labels: Labels without duplicates, in the order written; see `parse_labels`.
        label_cell: Label cell as written.
        split: train, val, test, or "".
        group: Rows of one group are in one split; "" is none.
        problem: Reason why the row cannot be used, or "".
    """

    line: int
    id: str
    cells: dict[str, str]
    labels: tuple[str, ...] = ()
    label_cell: str = ""
    split: str = ""
    group: str = ""
    problem: str = ""

    @property
    def present(self) -> set[str]:
        """Modalities that have a cell."""
        return {modality for modality, cell in self.cells.items() if cell}


def table_modalities(
    path: str | Path, config: TableConfig, *, labeled: bool = True
) -> tuple[str, ...]:
    """Returns the configured modalities that the table has, in schema order.

    With `labeled` the label column is required.

    Raises:
        UserError: The file is missing, a folder, empty, not UTF-8, without rows, or
            lacks a required column; or two columns have the same name.
    """
    table = open_table(path)
    modalities = _modalities(table.name, table.columns, config, labeled)
    if next(table.records(()), None) is None:
        raise UserError(f"{table.name} has a header and no rows. Add at least one row.")
    return modalities


def model_columns(config: TableConfig, modalities: Sequence[str]) -> TableConfig:
    """Returns the columns that a model of these modalities reads."""
    return replace(config, modalities=",".join(modalities))


def check_columns(
    path: str | Path, config: TableConfig, remedy: str = "add an empty one"
) -> None:
    """Checks that the table has a column of each modality that a model has.

    Args:
        config: Columns of the model; see `model_columns`.
        remedy: What else the user can do than to rename the column; "{}" is replaced
            by the modality.

    Raises:
        UserError: A column is missing; or as `table_modalities`.
    """
    table, names = open_table(path), config.modality_names
    header = table.columns
    if missing := [m for m in names if _column(config, m) not in header]:
        columns = [_column(config, m) for m in missing]
        *first, last = map(repr, columns)
        names = f"columns {', '.join(first)} and {last}" if first else f"column {last}"
        lack = f"lacks the {names} that the model was trained on"
        remedy = remedy.format(missing[0])
        raise _no_column(table.name, header, columns, lack, remedy)


def warn_absent(config: TableConfig, present: Collection[str]) -> list[str]:
    """Returns a warning per modality of the model that no row has."""
    return [
        f"Column '{_column(config, name)}' is empty in all rows that were "
        f"read, so the model gets no {name}."
        for name in config.modality_names
        if name not in present
    ]


def iter_rows(
    path: str | Path, config: TableConfig, *, labeled: bool = True
) -> Iterator[Row]:
    """Reads a table row by row, in bounded memory; skips blank lines and a BOM.

    With `labeled`, a row without a label or any modality has a problem.

    Raises:
        UserError: As `table_modalities`, or the quotes of a row do not match.
    """
    table = open_table(path, cache_dir=config.cache_dir or None)
    modalities = _modalities(table.name, table.columns, config, labeled)
    kinds = (*modalities, "id", "group", "split", "label")
    records = table.records([_column(config, kind) for kind in kinds])
    for number, (line, record) in enumerate(records):
        if isinstance(record, dict):
            yield _row(str(number), line, record, modalities, config, labeled)
        else:
            cells = dict.fromkeys(modalities, "")
            yield Row(line=line, id=str(number), cells=cells, problem=record)


def read_rows(
    path: str | Path, config: TableConfig, *, labeled: bool = True
) -> list[Row]:
    """Reads all rows and checks ids and splits; `labeled` as in `iter_rows`.

    Rows that repeat an id get a problem, and so do rows without split if others have
    one. With `config.folds` no row has a split.

    Raises:
        UserError: As `iter_rows`.
    """
    rows = list(iter_rows(path, config, labeled=labeled))
    has_split = labeled and any(row.split for row in rows)
    first_lines: dict[str, int] = {}
    for i, row in enumerate(rows):
        first = first_lines.setdefault(clean_name(row.id), row.line)
        problem = ""
        if first != row.line:
            problem = f"id '{row.id}' is already that of line {first}"
        elif has_split and not row.split:
            problem = "split is missing, and other rows have one"
        if problem and not row.problem:
            rows[i] = replace(row, problem=problem)
    return rows


def _modalities(path, header, config, labeled):
    columns = {name: _column(config, name) for name in MODALITIES}
    configured = [name for name in MODALITIES if name in config.modality_names]
    present = tuple(name for name in configured if columns[name] in header)
    if not present:
        names = [columns[name] for name in configured]
        lack = f"has no column {' or '.join(map(repr, names))}"
        remedy = f"set table.{configured[0]}_column"
        raise _no_column(path, header, names, lack, remedy)
    required = ["label"] if labeled and _column(config, "label") not in header else []
    defaults = {field.name: field.default for field in fields(TableConfig)}
    for kind in (*configured, "id", "split", "group"):
        name = _column(config, kind)
        if name != defaults[f"{kind}_column"] and name not in header:
            required.append(kind)  # a column that the user named
    for kind in required:
        name, remedy = _column(config, kind), f"set table.{kind}_column"
        lack = f"has no column '{name}'"
        raise _no_column(path, header, [name], lack, remedy)
    return present


def _no_column(path, header, names, lack, remedy):
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            return UserError(
                f"{path} seems to have {word} between its columns. Save it with commas."
            )
    lowered = {column.lower(): column for column in header if column}
    close = [get_close_matches(name.lower(), lowered, n=1) for name in names]
    hints = " or ".join(f"'{lowered[match[0]]}'" for match in close if match)
    hint = f"Did you mean {hints}? " if hints else ""
    return UserError(
        f"{path} {lack}; its columns are {format_names(header)}. "
        f"{hint}Rename the column, or {remedy}."
    )


def _column(config, kind) -> str:
    """Returns the header of a column as `_header` cleans it."""
    return clean_name(getattr(config, f"{kind}_column"))


def _is_broken(cell):
    return any("\ud800" <= character <= "\udfff" for character in cell)


def _row(number, line, cells, modalities, config, labeled) -> Row:
    names = (*modalities, "id", "group", "split", "label")
    columns = {name: _column(config, name) for name in names}
    values, problems = {}, []
    for name, column in columns.items():
        value = cells.get(column, "")
        if not value.isascii() and _is_broken(value):
            fault = "a NUL byte" if _NUL in value else "bytes that are not UTF-8"
            problems.append(f"column '{column}' has {fault}")
            value = ""
        values[name] = value if value.strip() else ""
    labels = parse_labels(values["label"], config.join_labels)
    if config.folds:
        values["split"] = ""
    split_cell = clean_name(values["split"])
    split = SPLIT_NAMES.get(split_cell.lower(), "")
    if labeled and split_cell and not split:
        allowed = ", ".join(SPLITS)
        problems.append(f"split is '{split_cell}' (allowed: {allowed})")
    if labeled and not labels:
        problems.append("label is missing")
    if labeled and not any(values[name] for name in modalities):
        problems.append("no modality present")
    if labeled and columns["id"] in cells and not clean_name(values["id"]):
        problems.append("id is missing")
    return Row(
        line=line,
        id=values["id"].strip() or number,
        cells={name: values[name] for name in modalities},
        labels=labels,
        label_cell=values["label"],
        split=split,
        group=clean_name(values["group"]),
        problem="; ".join(problems),
    )
