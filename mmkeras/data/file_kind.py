"""Kinds of files that are given as a table by mistake, by their first bytes."""

import re

HEAD_BYTES = 4096  # enough for the names of the first members of an Excel workbook

_SAVE, _UNPACK = "Save it as CSV in UTF-8.", "Unpack it first."
# Start of the file -> what it is and what to do.
_KINDS = (
    (rb"PK\x03\x04.*(\[Content_Types\]|xl/)", "an Excel workbook", _SAVE),
    (rb"PK\x03\x04.*opendocument\.spreadsheet", "an OpenDocument spreadsheet", _SAVE),
    (rb"\xd0\xcf\x11\xe0", "an Excel workbook of an old version", _SAVE),
    (rb"PAR1[^ -~\r\n]", "a Parquet file", _SAVE),
    (rb"ARROW1\x00", "an Arrow (Feather) file", _SAVE),
    (rb"\x89HDF", "an HDF5 file", _SAVE),
    (rb"\x93NUMPY", "a NumPy array", _SAVE),
    (rb"\x80[\x02-\x05]", "a Python pickle", _SAVE),
    (rb"SQLite format 3\x00", "an SQLite database", _SAVE),
    (rb"PK\x03\x04", "a ZIP archive", _UNPACK),
    (rb"\x1f\x8b", "compressed by gzip", _UNPACK),
    (rb"BZh[1-9]1AY&SY", "compressed by bzip2", _UNPACK),
    (rb"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed by Zstandard", _UNPACK),
    (rb'(\xef\xbb\xbf)?\s*\{\s*".*\}\s*[\r\n]+\s*\{\s*"', "JSON Lines", _SAVE),
    (rb'(\xef\xbb\xbf)?\s*\[?\s*\{\s*"', "JSON", _SAVE),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "HTML or XML", _SAVE),
)


def other_kind(head: bytes) -> str:
    """Returns what a file with these first bytes is, if it is no CSV, else "".

    Example:
        >>> other_kind(b"PAR1\x15...")
        'a Parquet file, not a CSV. Save it as CSV in UTF-8.'
    """
    for start, kind, remedy in _KINDS:
        if re.match(start, head, re.DOTALL):
            return f"{kind}, not a CSV. {remedy}"
    return ""
