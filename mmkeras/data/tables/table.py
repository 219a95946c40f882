"""A table as a stream of rows, whatever its format."""

import hashlib
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from mmkeras.data.tables.cells import BadCell, text_fault, to_cell
from mmkeras.data.tables.embedded import Embedded
from mmkeras.errors import UserError, format_names, one_line
from mmkeras.modalities.file import Unreadable
from mmkeras.names import clean_name

Cell: TypeAlias = (
    str | bytes | tuple[str | bytes, ...] | Embedded | BadCell
)  # "", () and BadCell are absent
Record: TypeAlias = tuple[int, dict[str, Cell] | str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """An opened source of rows, which can be iterated several times.

    Attributes:
        name: Name in messages: a path, "-", "DataFrame", ...
        folder: Base of relative paths in cells; local or a URI.
        columns: Names of the columns, without invisible differences.
        unit: What the numbers of the rows count: "line", or "row" from 0.
        note: What a user may want to know of how it is read, or "".
        read: Function of the columns to read; yields as `records`.
        hash_content: Function behind `fingerprint`.
        has_content_hash: Whether that is a hash of all content, not of times of files.
        read_sample: Function of a number of rows, which `sample` returns, if the first
            rows can be read at less cost than by `read`.
    """

    name: str
    folder: str
    columns: tuple[str, ...]
    unit: str = "row"
    note: str = ""
    read: Callable[[Collection[str]], Iterator[Record]] = field(repr=False)
    hash_content: Callable[[], str] = field(repr=False)
    has_content_hash: bool = True
    read_sample: Callable[[int], Iterator[Record]] | None = field(
        default=None, repr=False
    )

    def records(self, columns: Collection[str] | None = None) -> Iterator[Record]:
        """Yields (line, cells by column) or (line, problem of the row).

        Args:
            columns: Columns that are used, so that a value of an unknown type in
                another one is no problem; None is all.

        Raises:
            UserError: The source cannot be read.
        """
        used = self.columns if columns is None else columns
        with table_errors(self.name):
            yield from self.read([name for name in self.columns if name in used])

    def sample(self, rows: int) -> list[Record]:
        """Returns the first records with all columns; no cell is Embedded in a copy.

        Of columns with bytes or vectors only the first cells are there, and the others
        are absent. So is a column that was added to those of `read_sample`.

        Raises:
            UserError: The source cannot be read.
        """
        with table_errors(self.name):
            if self.read_sample is None:
                return list(islice(self.read(self.columns), rows))
            return [
                (number, {name: record.get(name, "") for name in self.columns})
                for number, record in self.read_sample(rows)
            ]

    def fingerprint(self) -> str:
        """Returns a hash of the content: of bytes, or of a folder's sizes and times.

        That of a table in memory is computed once.

        Raises:
            UserError: The source cannot be read.
        """
        with table_errors(self.name):
            return self.hash_content()


def convert_row(values: Mapping[str, object]) -> dict[str, Cell]:
    """Returns column -> cell; a value that cannot be one is a BadCell."""
    return {column: convert_value(value) for column, value in values.items()}


def convert_value(value: object) -> Cell:
    """Returns a value as a cell: a BadCell if it cannot be one."""
    if isinstance(value, Embedded | BadCell):
        return value
    try:
        return to_cell(value)
    except Unreadable as error:
        return BadCell(reason=str(error))


def clean_columns(name: str, header: Iterable[object]) -> tuple[str, ...]:
    """Returns the names of the columns without invisible differences.

    Raises:
        UserError: Two are the same, or one is no text; `name` is that of the table.
    """
    # A tab remains, since it means that tabs separate the columns.
    parts = (str(column).split("\t") for column in header)
    columns = tuple("\t".join(map(clean_name, names)) for names in parts)
    for column in columns:
        if fault := text_fault(column):
            shown = column.encode("utf-8", "replace").decode()
            raise UserError(f"{name}: column '{shown}' has {fault}. Rename it.")
    repeated = [name for name, n in Counter(columns).items() if name and n > 1]
    if repeated:
        raise UserError(
            f"{name} has several columns named {format_names(repeated)}. Rename or "
            "remove all but one."
        )
    return columns


def hash_records(records: Iterable[Record]) -> str:
    """Returns a hash of converted rows."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def hash_files(paths: Iterable[str], folder: str = "") -> str:
    """Returns a hash of the paths in `folder`, sizes and times of files."""
    digest = hashlib.sha256()
    for path in paths:
        status = os.stat(os.path.join(folder, path))
        digest.update(repr((path, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


@contextmanager
def table_errors(name: str) -> Iterator[None]:
    """Turns errors of the file system, and of archives, into a UserError."""
    try:
        yield
    except FileNotFoundError as error:
        missing = error.filename
        path = name if missing is None else os.fspath(missing)
        text = f"{path} does not exist. Check the path of the table."
        raise UserError(text) from None
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UserError(f"{name} cannot be read: {reason}.") from None
    except (EOFError, zlib.error, _lzma_error()) as error:
        raise UserError(
            f"{name} cannot be unpacked: {one_line(error)}. Copy it anew, or give the "
            "unpacked file."
        ) from None


def _lzma_error():
    """Returns the error of broken .xz; some builds of Python lack the module."""
    return getattr(sys.modules.get("lzma"), "LZMAError", EOFError)
