"""Tables as text: CSV with any separator, and TSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from threading import Lock

from mmkeras.data.tables.cells import NUL
from mmkeras.data.tables.content import Content
from mmkeras.data.tables.table import Record, Table, clean_columns
from mmkeras.errors import UserError

# Longest cell, in characters: limits what an unclosed quote can take in.
_MAX_CELL = 2**27
SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_CHARACTERS, _SAMPLE_ROWS = 2**16, 200


class _LongCells:
    """Block in which csv takes cells of `_MAX_CELL`, in all threads: it has one limit.

    Several threads may be in the block; the end of the last one restores the limit.
    """

    def __init__(self):
        self._limits, self._lock = [], Lock()

    def __enter__(self):
        with self._lock:
            self._limits.append(csv.field_size_limit())
            csv.field_size_limit(max(self._limits[-1], _MAX_CELL))

    def __exit__(self, *error):
        with self._lock:
            limit = self._limits.pop()
            if not self._limits:
                csv.field_size_limit(limit)


_LONG_CELLS = _LongCells()


def open_delimited_text(content: Content) -> Table:
    """Returns the table of a CSV or TSV, after its header is read.

    Raises:
        UserError: The file is empty or not UTF-8, or two columns have the same name.
    """
    name = content.name
    separator = _find_separator(content)
    _, header = next(_rows(content, separator), (1, None))
    if header is None:
        raise UserError(f"{name} is empty. Its first line must name the columns.")
    start = "".join(header)
    if any("\ud800" <= character <= "\udfff" for character in start):
        is_utf_16 = start.startswith(("\udcff\udcfe", "\udcfe\udcff"))
        fault = "is UTF-16" if is_utf_16 else "has a header that is not UTF-8"
        raise UserError(f"{name} {fault}. Save it as CSV in UTF-8.")
    columns = clean_columns(name, header)
    mark = "tabs" if separator == "\t" else f"'{separator}'"
    notes = [f"separated by {mark}"] if separator != "," else []
    return Table(
        name=name,
        folder=content.folder,
        columns=columns,
        unit="line",
        note="; ".join(filter(None, [*notes, content.note])),
        read=partial(_read, content, separator, columns),
        hash_content=content.fingerprint,
    )


def choose_separator(lines: Iterable[str], first: str = ",") -> str:
    """Returns the separator with which most rows are as wide as the header.

    A comma if no separator divides the header; `first` of those that are as good.

    Example:
        choose_separator(["price;text", "1,5;hi, you"])  # ";"
    """
    lines = list(lines)
    choices = []
    for separator in sorted(SEPARATORS, key=lambda separator: separator != first):
        header, *rows = _sample(lines, separator)
        fit = sum(len(row) == len(header) for row in rows) / max(len(rows), 1)
        if len(header) > 1 and (fit or not rows or separator == ","):
            choices.append((fit, separator))
    # `max` returns the first of equals.
    return max(choices, key=lambda choice: choice[0], default=(0, ","))[1]


def _sample(lines, separator):
    """Returns the first rows; the last is [] if its quotes do not match."""
    rows = csv.reader(lines, delimiter=separator, strict=True)
    sample = []
    try:
        for row in islice(filter(None, rows), _SAMPLE_ROWS):
            sample.append(row)
    except csv.Error:
        sample.append([])
    return sample or [[]]


def _find_separator(content):
    with content.open_text() as file:
        sample = file.read(_SAMPLE_CHARACTERS).replace("\0", NUL)
    lines = list(io.StringIO(sample, newline=""))
    if len(sample) == _SAMPLE_CHARACTERS and len(lines) > 1:
        del lines[-1]  # is cut
    is_tsv = content.name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))
    return choose_separator(lines, "\t" if is_tsv else ",")


def _read(content, separator, columns, used) -> Iterator[Record]:
    rows = _rows(content, separator)
    next(rows, None)
    for line, row in rows:
        if len(row) == len(columns):
            yield line, dict(zip(columns, row, strict=True))
        else:
            yield line, f"{len(row)} cells where the header has {len(columns)}"


def _rows(content, separator) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, cells) of the header and of each row; NUL becomes `NUL`."""
    line, columns = 1, 0
    try:
        # Bytes that are not UTF-8 become surrogates, reported with their row.
        with content.open_text() as file:
            lines = (text.replace("\0", NUL) for text in file)
            reader = csv.reader(lines, strict=True, delimiter=separator)

            def read_row():
                with _LONG_CELLS:  # not around a yield
                    return next(reader, None)

            for row in iter(read_row, None):
                is_short = len(row) < min(columns, 2)  # cannot be a row
                if row and not (is_short and not row[0].strip()):
                    columns = columns or len(row)
                    yield line, row
                line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{content.name}, row starting at line {line}: {error}. Close each quoted "
            'cell with a quote, and write a quote inside it twice: "".'
        ) from None
