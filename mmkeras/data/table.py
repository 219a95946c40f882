"""Reader of the CSV table: its rows, and the checks that need no media."""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from mmkeras.config import TableConfig
from mmkeras.data.file_kind import HEAD_BYTES, other_kind
from mmkeras.data.labels import parse_flags, parse_labels, parse_list
from mmkeras.errors import UserError, format_names
from mmkeras.files import is_remote, read_remote
from mmkeras.names import clean_name
from mmkeras.schema import MODALITIES, SPLITS, TEST, TRAIN, VAL

_SPLIT_NAMES = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST}
_SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), VAL)
# Longest cell, in characters: limits what an unclosed quote can take in.
_MAX_CELL = 2**27
# Replaces a NUL, which Python 3.10's csv refuses. Never in decoded UTF-8, and none of
# the surrogates of undecodable bytes, U+DC80 to U+DCFF.
_NUL = "\udc00"


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
    records = _records(path)
    modalities = _modalities(path, _header(path, records), config, labeled)
    if next(records, None) is None:
        raise UserError(f"{path} has a header and no rows. Add at least one row.")
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
    header, names = _header(path, _records(path)), config.modality_names
    if missing := [m for m in names if _column(config, m) not in header]:
        columns = [_column(config, m) for m in missing]
        *first, last = map(repr, columns)
        names = f"columns {', '.join(first)} and {last}" if first else f"column {last}"
        lack = f"lacks the {names} that the model was trained on"
        raise _no_column(path, header, columns, lack, remedy.format(missing[0]))


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
    """Reads a UTF-8 CSV row by row, in bounded memory; skips blank lines and a BOM.

    With `labeled`, a row without a label or any modality has a problem.

    Raises:
        UserError: As `table_modalities`, or the quotes of a row do not match.
    """
    records = _records(path)
    header = _header(path, records)
    modalities = _modalities(path, header, config, labeled)
    for number, (line, record) in enumerate(records):
        if len(record) == len(header):
            cells = dict(zip(header, record, strict=True))
            yield _row(str(number), line, cells, modalities, config, labeled)
        else:
            problem = f"{len(record)} cells where the header has {len(header)}"
            cells = dict.fromkeys(modalities, "")
            yield Row(line=line, id=str(number), cells=cells, problem=problem)


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


def _records(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, cells) of the header and of each row; NUL becomes `_NUL`."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    line, columns = 1, 0
    try:
        # Bytes that are not UTF-8 become surrogates, reported with their row.
        with _open(path) as file:
            lines = (text.replace("\0", _NUL) for text in file)
            reader = csv.reader(lines, strict=True)
            for record in reader:
                is_short = len(record) < min(columns, 2)  # cannot be a row
                if record and not (is_short and not record[0].strip()):
                    columns = columns or len(record)
                    yield line, record
                line = reader.line_num + 1
    except FileNotFoundError:
        text = f"{path} does not exist. Check the path of the table."
        raise UserError(text) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder. Give the path of a CSV file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except csv.Error as error:
        raise UserError(
            f"{path}, row starting at line {line}: {error}. Close each quoted cell "
            'with a quote, and write a quote inside it twice: "".'
        ) from None


def _open(path: str | Path) -> TextIO:
    if is_remote(path):
        file = io.BufferedReader(io.BytesIO(read_remote(str(path))))
    else:
        file = open(path, "rb")
    if kind := other_kind(file.peek(HEAD_BYTES)):
        file.close()
        raise UserError(f"{path} is {kind}")
    settings = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    return io.TextIOWrapper(file, **settings)


def _header(path, records):
    _, header = next(records, (1, None))
    if header is None:
        raise UserError(f"{path} is empty. Its first line must name the columns.")
    start = "".join(header)
    if _is_broken(start):
        is_utf_16 = start.startswith(("\udcff\udcfe", "\udcfe\udcff"))
        fault = "is UTF-16" if is_utf_16 else "has a header that is not UTF-8"
        raise UserError(f"{path} {fault}. Save it as CSV in UTF-8.")
    # A tab remains, since it means that tabs separate the columns.
    header = ["\t".join(map(clean_name, name.split("\t"))) for name in header]
    repeated = [name for name, n in Counter(header).items() if name and n > 1]
    if repeated:
        raise UserError(
            f"{path} has several columns named {format_names(repeated)}. Rename or "
            "remove all but one."
        )
    return header


def _modalities(path, header, config, labeled):
    columns = {name: _column(config, name) for name in MODALITIES}
    configured = [name for name in MODALITIES if name in config.modality_names]
    present = tuple(name for name in configured if columns[name] in header)
    if not present:
        names = [columns[name] for name in configured]
        lack = f"has no column {' or '.join(map(repr, names))}"
        remedy = f"set table.{configured[0]}_column"
        raise _no_column(path, header, names, lack, remedy)
    missing = [name for name in label_columns(config, header) if name not in header]
    required = ["label"] if labeled and missing else []
    defaults = {field.name: field.default for field in fields(TableConfig)}
    for kind in (*configured, "id", "split", "group"):
        name = _column(config, kind)
        if name != defaults[f"{kind}_column"] and name not in header:
            required.append(kind)  # a column that the user named
    for kind in required:
        name, remedy = _column(config, kind), f"set table.{kind}_column"
        name = missing[0] if kind == "label" and missing else name
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


def label_columns(config: TableConfig, header: Collection[str]) -> list[str]:
    """Returns the label column, or the columns of 0 and 1 that the setting names."""
    single, names = _column(config, "label"), config.label_names
    return [single] if single in header or len(names) < 2 else list(names)


def _labels(cell, cells, config) -> tuple[tuple[str, ...], str]:
    """Returns the labels of a row, and why they cannot be used, or ""."""
    columns = label_columns(config, cells)
    if len(columns) > 1:
        return parse_flags({name: cells.get(name, "") for name in columns})
    labels = parse_labels(cell, config.join_labels)
    is_known = labels or parse_list(cell) == []
    return labels, "" if is_known else "label is missing"


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
    labels, label_problem = _labels(values["label"], cells, config)
    if config.folds:
        values["split"] = ""
    split_cell = clean_name(values["split"])
    split = _SPLIT_NAMES.get(split_cell.lower(), "")
    if labeled and split_cell and not split:
        allowed = ", ".join(SPLITS)
        problems.append(f"split is '{split_cell}' (allowed: {allowed})")
    if labeled and label_problem:
        problems.append(label_problem)
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
