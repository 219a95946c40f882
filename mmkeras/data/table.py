"""Reader of the CSV table: its rows, and the checks that need no media."""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TextIO

from mmkeras.config import TableConfig
from mmkeras.data.file_kind import HEAD_BYTES, other_kind
from mmkeras.data.labels import parse_labels
from mmkeras.errors import UserError, format_names
from mmkeras.files import is_remote, read_remote
from mmkeras.names import clean_name
from mmkeras.schema import SPLITS, TEST, TRAIN, VAL

_SPLIT_NAMES = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST}
_SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), VAL)
# Settings of columns that are no inputs of the model.
_ROLES = ("label", "id_column", "split_column", "group_column")
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
        cells: Column -> its cell as written, "" if absent or blank.
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
        """Columns that have a cell."""
        return {name for name, cell in self.cells.items() if cell}


def read_sample(path: str | Path, rows: int) -> tuple[list[str], list[dict]]:
    """Returns the names of the columns, and the first rows as column -> cell.

    Raises:
        UserError: The file is missing, a folder, empty, not UTF-8 or without rows, or
            two columns have the same name.
    """
    records = _records(path)
    header = _header(path, records)
    sample = [record for _, record in islice(records, rows)]
    if not sample:
        raise UserError(f"{path} has a header and no rows. Add at least one row.")
    cells = [dict(zip(header, r, strict=True)) for r in sample if len(r) == len(header)]
    return header, cells


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
    header, _ = read_sample(path, 1)
    if missing := [name for name in columns if clean_name(name) not in header]:
        *first, last = map(repr, missing)
        names = f"columns {', '.join(first)} and {last}" if first else f"column {last}"
        lack = f"lacks the {names} that the model was trained on"
        raise no_column(path, header, missing, lack, remedy.format(missing[0]))


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
    """Reads a UTF-8 CSV row by row, in bounded memory; skips blank lines and a BOM.

    `columns` are those of the model, as `find_columns` finds them; one that the table
    lacks is absent in all rows. With `labeled`, a row without a label or any of the
    columns has a problem.

    Raises:
        UserError: As `read_sample`; a column is missing that must be there; or the
            quotes of a row do not match.
    """
    records = _records(path)
    header = _header(path, records)
    _check_roles(path, header, config, labeled)
    for number, (line, record) in enumerate(records):
        if len(record) == len(header):
            cells = dict(zip(header, record, strict=True))
            yield _row(str(number), line, cells, columns, config, labeled)
        else:
            problem = f"{len(record)} cells where the header has {len(header)}"
            cells = dict.fromkeys(columns, "")
            yield Row(line=line, id=str(number), cells=cells, problem=problem)


def read_rows(
    path: str | Path,
    config: TableConfig,
    columns: Sequence[str],
    *,
    labeled: bool = True,
) -> list[Row]:
    """Reads all rows and checks ids and splits; arguments as for `iter_rows`.

    Rows that repeat an id get a problem, and so do rows without split if others have
    one. With `config.folds` no row has a split.

    Raises:
        UserError: As `iter_rows`.
    """
    rows = list(iter_rows(path, config, columns, labeled=labeled))
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


def _check_roles(path, header, config, labeled):
    """Checks that the columns are there that a user named, and the label."""
    defaults = {field.name: field.default for field in fields(TableConfig)}
    names = ["label"] if labeled else []
    names += ["id_column", "split_column", "group_column"]
    for name in names:
        column = clean_name(getattr(config, name))
        is_required = name == "label" or getattr(config, name) != defaults[name]
        if is_required and column not in header:
            lack, remedy = f"has no column '{column}'", f"set table.{name}"
            raise no_column(path, header, [column], lack, remedy)


def no_column(
    path: str | Path,
    header: Sequence[str],
    names: Sequence[str],
    lack: str,
    remedy: str,
) -> UserError:
    """Returns the error of a table that lacks columns; suggests close names."""
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


def _is_broken(cell):
    return any("\ud800" <= character <= "\udfff" for character in cell)


def _row(number, line, cells, names, config, labeled) -> Row:
    columns = {role: clean_name(getattr(config, role)) for role in _ROLES}
    values, problems = {}, []
    for name, column in [*columns.items(), *((n, clean_name(n)) for n in names)]:
        value = cells.get(column, "")
        if not value.isascii() and _is_broken(value):
            fault = "a NUL byte" if _NUL in value else "bytes that are not UTF-8"
            problems.append(f"column '{column}' has {fault}")
            value = ""
        values[name, column] = value if value.strip() else ""
    roles = {role: values[role, column] for role, column in columns.items()}
    labels = parse_labels(roles["label"], config.join_labels)
    if config.folds:
        roles["split_column"] = ""
    split_cell = clean_name(roles["split_column"])
    split = _SPLIT_NAMES.get(split_cell.lower(), "")
    if labeled and split_cell and not split:
        allowed = ", ".join(SPLITS)
        problems.append(f"split is '{split_cell}' (allowed: {allowed})")
    if labeled and not labels:
        problems.append("label is missing")
    own = {name: values[name, clean_name(name)] for name in names}
    if labeled and not any(own.values()):
        problems.append("no modality present")
    if labeled and columns["id_column"] in cells and not clean_name(roles["id_column"]):
        problems.append("id is missing")
    return Row(
        line=line,
        id=roles["id_column"].strip() or number,
        cells=own,
        labels=labels,
        label_cell=roles["label"],
        split=split,
        group=clean_name(roles["group_column"]),
        problem="; ".join(problems),
    )
