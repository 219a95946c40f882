"""Reading of media files, with one error for every file that cannot be used."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from unicodedata import normalize

from mmkeras.files import is_remote, join_path, read_remote


class Unreadable(ValueError):
    """A file that cannot be used; the message is a short reason, without its name."""


@contextmanager
def translate_errors(kind: str) -> Iterator[None]:
    """Turns any exception of a decoder into an Unreadable that names the format."""
    try:
        yield
    except Unreadable:
        raise
    # Broken data raises anything in a decoder, from OSError to ZeroDivisionError.
    except Exception as error:
        raise Unreadable(f"truncated or unreadable {kind}: {error}") from error


def find_file(folder: str | Path, cell: str) -> str:
    """Returns the path of the file that a cell of a table in `folder` names.

    Blanks at the ends are dropped. A name that does not exist is tried with "/" for the
    backslash of Windows, and in Unicode's forms NFC and NFD, of which macOS writes the
    latter. In a remote folder only blanks and backslashes are replaced.

    Example:
        find_file("data", "images\\1.jpg ")  # "data/images/1.jpg"
    """
    name = cell.strip()
    slashes = name.replace("\\", "/")
    path = join_path(folder, name)
    if is_remote(path):
        return join_path(folder, slashes)
    if os.path.exists(path):
        return path
    forms = (slashes, normalize("NFC", slashes), normalize("NFD", slashes), cell)
    paths = (join_path(folder, form) for form in forms)
    return next(filter(os.path.exists, paths), path)


def _similar_path(path: str) -> str:
    """Returns the existing path that differs in case or Unicode form only, or ""."""
    if os.path.exists(path):
        return path
    folder, name = os.path.split(path.rstrip("/"))
    parent = _similar_path(folder or ".") if name else ""
    if os.path.isdir(parent):
        names = _names(parent, os.stat(parent).st_mtime_ns)
        similar = os.path.join(parent, names.get(_fold(name), ""))
        if _fold(name) in names and os.path.exists(similar):
            return similar
    return ""


@lru_cache(maxsize=8)
def _names(folder: str, _: int) -> dict[str, str]:
    """Returns folded name -> name of what is in a folder at its time of change."""
    return {_fold(name): name for name in os.listdir(folder)}


def _fold(name: str) -> str:
    return normalize("NFC", name).casefold().strip()


def read_file(path: str | Path, max_mb: int) -> bytes:
    """Reads a local or remote file of at most `max_mb` MB (10^6 bytes).

    Raises:
        Unreadable: Missing, a folder, without permission, empty or too large.
    """
    try:
        data = read_remote(str(path)) if is_remote(path) else _read(Path(path), max_mb)
        _check_size(len(data), max_mb)
    except Unreadable:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise Unreadable(f"file not found{_hint(path)}") from None
    except PermissionError:
        raise Unreadable("no permission to read the file") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL, or what the file system cannot encode
        raise Unreadable(f"not a possible path: {error}") from error
    if not data:
        raise Unreadable("file is empty")
    return data


def _hint(path):
    if os.path.islink(path):
        return "; it is a link to a file that does not exist"
    with suppress(OSError):  # of a folder that cannot be listed
        path = str(path).replace("\\", "/")
        if not is_remote(path) and (similar := _similar_path(path)):
            folder = os.path.dirname(path.rstrip("/"))
            common = os.path.commonpath([folder, similar]) or "."
            return f"; did you mean '{os.path.relpath(similar, common)}'?"
    return ""


def _read(path, max_mb):
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise Unreadable("is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is a device or a pipe, not a file")
    _check_size(status.st_size, max_mb)
    return path.read_bytes()


def _check_size(size, max_mb):
    if size > max_mb * 1e6:
        raise Unreadable(f"{size / 1e6:.1f} MB, more than table.max_file_mb={max_mb}")
