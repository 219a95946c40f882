"""Kinds of files that are given as a table, by their first bytes."""

import re

HEAD_BYTES = 4096  # enough for the names of the first members of an Excel workbook
SUPPORTED = (
    "CSV, TSV, JSON Lines or JSON (also compressed by gzip, bzip2 or xz), Parquet, "
    "a folder with one subfolder per class, or a saved Hugging Face dataset"
)

_SAVE, _UNPACK = "Save it as CSV in UTF-8.", "Unpack it first."
# Start of the file -> what it is and what to do.
_KINDS = (
    (rb"PK\x03\x04.*(\[Content_Types\]|xl/)", "an Excel workbook", _SAVE),
    (rb"PK\x03\x04.*opendocument\.spreadsheet", "an OpenDocument spreadsheet", _SAVE),
    (rb"\xd0\xcf\x11\xe0", "an Excel workbook of an old version", _SAVE),
    (rb"ARROW1\x00", "an Arrow (Feather) file", _SAVE),
    (rb"\x89HDF", "an HDF5 file", _SAVE),
    (rb"\x93NUMPY", "a NumPy array", _SAVE),
    (rb"\x80[\x02-\x05]", "a Python pickle", _SAVE),
    (rb"SQLite format 3\x00", "an SQLite database", _SAVE),
    (rb"PK\x03\x04", "a ZIP archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed by Zstandard", _UNPACK),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "HTML or XML", _SAVE),
)
_JSON = rb'(\xef\xbb\xbf)?\s*\[?\s*\{\s*["}]'
_PARQUET = rb"PAR1[^ -~\r\n]"


def other_kind(head: bytes) -> str:
    """Returns what a file with these first bytes is, if it cannot be read, else "".

    Example:
        >>> other_kind(b"\\x89HDF...")
        'an HDF5 file, which is not supported (supported: CSV, ...). Save it as CSV ...'
    """
    for start, kind, remedy in _KINDS:
        if re.match(start, head, re.DOTALL):
            text = f"{kind}, which is not supported (supported: {SUPPORTED})"
            return f"{text}. {remedy}"
    return ""


def is_json(head: bytes) -> bool:
    """Whether a file is JSON or JSON Lines."""
    return bool(re.match(_JSON, head))


def is_parquet(head: bytes) -> bool:
    """Whether a file is Parquet."""
    return bool(re.match(_PARQUET, head))
