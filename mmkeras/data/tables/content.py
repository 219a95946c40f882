"""Bytes of a table's file: local, behind a URI, compressed, or the standard input."""

import atexit
import hashlib
import io
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, TextIO

from mmkeras.errors import UserError
from mmkeras.files import is_remote, parent_path, read_remote

STDIN = "-"
# Start of a file -> module that unpacks it.
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
_HEAD_BYTES = 10  # b"BZh9" and the first block's mark


@dataclass(frozen=True, kw_only=True)
class Content:
    """A file that can be opened several times.

    Attributes:
        name: Path as the user gave it, or "-".
        raw: Path of a local file, or the bytes of a remote one.
        packer: Module that unpacks the file, or "".
        folder: Base of relative paths in the table.
        note: How the file is read, or "".
    """

    name: str
    raw: str | bytes = field(repr=False)
    packer: str
    folder: str
    note: str = ""

    def open(self) -> BinaryIO:
        """Opens the unpacked bytes; the file has `peek`."""
        if self.packer:
            raw = io.BytesIO(self.raw) if isinstance(self.raw, bytes) else self.raw
            return import_module(self.packer).open(raw, "rb")
        return _open(self.raw)

    def open_text(self) -> TextIO:
        """Opens the file as UTF-8; bytes that are not become surrogates."""
        settings = {"encoding": "utf-8-sig", "errors": "surrogateescape"}
        return io.TextIOWrapper(self.open(), newline="", **settings)

    def fingerprint(self) -> str:
        """Returns a hash of the bytes."""
        digest = hashlib.sha256()
        with _open(self.raw) as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()


def open_content(path: str) -> Content:
    """Returns the content of a file; reads a remote one into memory.

    Raises:
        OSError: It cannot be read.
        UserError: `path` is "-", and the standard input is a terminal; or the file is
            compressed twice.
    """
    folder, note = parent_path(path), ""
    if path == STDIN:
        folder, raw = ".", _spool(sys.stdin)
        note = "read from the standard input by way of a temporary file"
    else:
        raw = read_remote(path) if is_remote(path) else path
    with _open(raw) as file:
        packer = _packer(file)
    content = Content(name=path, raw=raw, packer=packer, folder=folder, note=note)
    if packer:
        with content.open() as file:
            if _packer(file):
                raise UserError(f"{path} is compressed twice. Unpack it once.")
    return content


def _packer(file):
    head = file.peek(_HEAD_BYTES)
    packers = (name for mark, name in _PACKERS.items() if head.startswith(mark))
    packer = next(packers, "")
    if packer == "bz2" and head[4:10] != b"1AY&SY":
        return ""  # a header that begins with these letters
    return packer


def _open(raw):
    if isinstance(raw, bytes):
        return io.BufferedReader(io.BytesIO(raw))
    return open(raw, "rb")


@lru_cache(maxsize=1)
def _spool(stream):
    """Copies a stream to a temporary file once, since tables are read twice."""
    if stream.isatty():
        raise UserError(
            "'-' is the standard input, which is a terminal here. Pipe a table into "
            "the program, or give the path of a file."
        )
    with tempfile.NamedTemporaryFile(prefix="mmkeras-stdin-", delete=False) as file:
        atexit.register(Path(file.name).unlink, missing_ok=True)
        shutil.copyfileobj(stream.buffer, file)
    return file.name
