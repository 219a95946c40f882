"""Tables as text: CSV with any separator, and TSV."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from threading import Lock

from mmkeras.data.tables.cells import NUL, text_fault
from mmkeras.data.tables.content import Content
from mmkeras.data.tables.table import Record, Table, clean_columns
from mmkeras.errors import UserError

# Longest cell, in characters: limits what an unclosed quote can take in.
_MAX_CELL = 2**27
SEPARATORS = (",", ";", "\t", "|")
_RARE_SEPARATORS = ("^", "~", ":", "\x1f", " ")  # if nothing else divides a row
_SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?\r?\n?$', re.IGNORECASE)  # Excel's
_NAMES = {"\t": "tabs", " ": "blanks"}
# Encoding -> its byte order marks, as they are read. Those of UTF-32 begin as UTF-16's.
_MARKS = {
    "UTF-32": (f"\udcff\udcfe{NUL}{NUL}", f"{NUL}{NUL}\udcfe\udcff"),
    "UTF-16": ("\udcff\udcfe", "\udcfe\udcff"),
}
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
    separator, skips_blanks = _find_separator(content)
    rows = partial(_rows, content, separator, skips_blanks)
    _, header = next(rows(), (1, None))
    if header is None:
        raise UserError(f"{name} is empty. Its first line must name the columns.")
    if fault := _header_fault("".join(header)):
        raise UserError(f"{name} {fault}. Save it in UTF-8.")
    columns = clean_columns(name, header)
    mark = _NAMES.get(separator, repr(separator))
    notes = [f"separated by {mark}"] if separator != "," else []
    return Table(
        name=name,
        folder=content.folder,
        columns=columns,
        unit="line",
        note="; ".join(filter(None, [*notes, content.note])),
        read=partial(_read, rows, columns),
        hash_content=content.fingerprint,
    )


def _header_fault(text):
    """Returns what is wrong with the characters of the header, or ""."""
    fault = text_fault(text)
    for encoding, marks in _MARKS.items():
        if text.startswith(marks):
            return f"is {encoding}"
    if NUL in text:
        return "has a header with NUL bytes, as in UTF-16"
    return "has a header that is not UTF-8" if fault else ""


def choose_separator(lines: Iterable[str], first: str = ",") -> str:
    """Returns the separator with which most rows are as wide as the header.

    A comma if no separator divides the header; `first` of those that are as good. A
    rare separator, as a caret or blanks, has to divide all rows alike.

    Example:
        choose_separator(["price;text", "1,5;hi, you"])  # ";"
    """
    lines = list(lines)
    choices = []
    for separator in sorted(SEPARATORS, key=lambda separator: separator != first):
        header, *rows = _sample(lines, separator)
        fit = sum(len(row) == len(header) for row in rows) / max(len(rows), 1)
        if len(header) > 1 and (fit or not any(rows) or separator == ","):
            choices.append((fit, separator))
    # `max` returns the first of equals.
    fit, best = max(choices, key=lambda choice: choice[0], default=(0, ","))
    rare = (separator for separator in _RARE_SEPARATORS if _divides(lines, separator))
    return best if fit else next(rare, best)


def _divides(lines, separator):
    """Whether all rows, and at least two below the header, have as many cells."""
    widths = [len(row) for row in _sample(lines, separator)]
    return len(widths) > 2 and len(set(widths)) == 1 and widths[0] > 1


def _sample(lines, separator):
    return _parse(lines, separator, _skips_blanks(lines, separator))


def _parse(lines, separator, skips_blanks):
    """Returns the first rows; one whose quotes do not match is []."""
    settings = {"delimiter": separator, "skipinitialspace": skips_blanks}
    rows = csv.reader(lines, strict=True, **settings)
    sample = []
    while len(sample) < _SAMPLE_ROWS:
        try:
            row = next(rows, None)
        except csv.Error:
            sample.append([])
        else:
            if row is None:
                break
            sample += [row] if row else []
    return sample or [[]]


def _skips_blanks(lines, separator):
    """Whether cells are quoted after a separator and blanks: `"hi", "a"`."""
    if separator == " ":
        return False
    plain, skipped = _parse(lines, separator, False), _parse(lines, separator, True)
    if skipped.count([]) > plain.count([]):
        return False  # a quote inside a cell that is not quoted
    for row, other in zip(plain, skipped, strict=False):
        cells = zip(row, other, strict=False)
        quoted = (a != b and a.lstrip(" ").startswith('"') for a, b in cells)
        if len(row) != len(other) or any(quoted):
            return True
    return False


def _find_separator(content) -> tuple[str, bool]:
    """Returns the separator, and whether blanks after it are no part of a cell."""
    with content.open_text() as file:
        sample = file.read(_SAMPLE_CHARACTERS).replace("\0", NUL)
    lines = list(io.StringIO(sample, newline=""))
    if len(sample) == _SAMPLE_CHARACTERS and len(lines) > 1:
        del lines[-1]  # is cut
    is_tsv = content.name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))
    match = _SEPARATOR_LINE.match(lines[0]) if lines else None
    lines = lines[1:] if match else lines
    first = "\t" if is_tsv else ","
    separator = match[1] if match else choose_separator(lines, first)
    return separator, _skips_blanks(lines, separator)


def _read(rows, columns, used) -> Iterator[Record]:
    for line, row in islice(rows(), 1, None):
        if len(row) == len(columns):
            yield line, dict(zip(columns, row, strict=True))
        else:
            yield line, f"{len(row)} cells where the header has {len(columns)}"


def _rows(content, separator, skips_blanks) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, cells) of the header and of each row; NUL becomes `NUL`."""
    line, columns = 1, 0
    settings = {"delimiter": separator, "skipinitialspace": skips_blanks}
    try:
        # Bytes that are not UTF-8 become surrogates, reported with their row.
        with content.open_text() as file:
            first = next(file, "")
            skipped = 1 if _SEPARATOR_LINE.match(first) else 0
            lines = chain([] if skipped else [first], file)
            lines = (text.replace("\0", NUL) for text in lines)
            reader = csv.reader(lines, strict=True, **settings)
            line += skipped

            def read_row():
                with _LONG_CELLS:  # not around a yield
                    return next(reader, None)

            for row in iter(read_row, None):
                is_short = len(row) < min(columns, 2)  # cannot be a row
                if row and not (is_short and not row[0].strip()):
                    columns = columns or len(row)
                    yield line, row
                line = reader.line_num + skipped + 1
    except csv.Error as error:
        raise UserError(
            f"{content.name}, row starting at line {line}: {error}. Close each quoted "
            'cell with a quote, and write a quote inside it twice: "".'
        ) from None
