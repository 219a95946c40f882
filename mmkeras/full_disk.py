"""Full disk: its error, whichever library reports it, with the path if known."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmkeras.errors import UserError

# Errors of a disk, a quota or a limit of the size of files, and their texts, which
# libraries put into exceptions of their own.
_FULL = {n: os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
_SQLITE_FULL = "database or disk is full"
_SQLITE_IO = "disk I/O error"  # at a limit of the size of files, but not only then


def find_full_disk(error: BaseException | None) -> OSError | None:
    """Returns the error of a full disk that an exception is, or follows from.

    It has the path if one is known. The text of a UserError may quote anything, so only
    what it follows from counts.

    Example:
        >>> find_full_disk(RuntimeError("a.h5: No space left on device")).strerror
        'No space left on device'
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return OSError(error.errno, _FULL[error.errno], error.filename)
        if not isinstance(error, UserError) and (full := _find_in_text(str(error))):
            return full
        error = error.__cause__ or error.__context__
    return None


def _find_in_text(text):
    for number, message in _FULL.items():
        if message in text:
            return OSError(number, message)
    if _SQLITE_FULL in text:
        return OSError(errno.ENOSPC, _FULL[errno.ENOSPC])
    if _SQLITE_IO in text:
        return OSError(errno.EIO, f"A database cannot be written ({_SQLITE_IO})")
    return None


@contextmanager
def full_disk_at(path: Path) -> Iterator[None]:
    """Names the path in the error of a full disk."""
    try:
        yield
    except Exception as error:
        if full := find_full_disk(error):
            raise OSError(full.errno, full.strerror, str(path)) from error
        raise
