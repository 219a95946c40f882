"""Reading of media files, with one error for every file that cannot be used."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmkeras.files import is_remote, read_remote


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
        raise Unreadable("file not found") from None
    except PermissionError:
        raise Unreadable("no permission to read the file") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL, or what the file system cannot encode
        raise Unreadable(f"not a possible path: {error}") from error
    if not data:
        raise Unreadable("file is empty")
    return data


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
