"""Full disk: its error, whichever library reports it, with the path if known."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from mmkeras.errors import UserError

# Errors of a disk, a quota or a limit of the size of files, and their texts, which
# libraries put into exceptions of their own.
_FULL = {n: os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
_SQLITE_FULL = "database or disk is full"
_SQLITE_IO = "disk I/O error"  # at a limit of the size of files, but not only then
_LIBRARIES = {"tensorflow", "sqlite3", "sqlalchemy", "ml_metadata"}


def find_full_disk(error: BaseException | None) -> OSError | None:
    """Returns the error of a full disk that an exception is, or follows from.

    It has the path if one is known. Texts count if they are of an OSError, a
    RuntimeError or a library's error; others may quote anything. Of errors that were
    raised while another was handled, others than these and a UserError are mistakes.

    Example:
        >>> find_full_disk(RuntimeError("a.h5: No space left on device")).strerror
        'No space left on device'
    """
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            if error.errno in _FULL or _SQLITE_IO in error.strerror:
                text = _FULL.get(error.errno, error.strerror)
                return OSError(error.errno, text, error.filename)
        is_known = _is_of_library(error)
        if is_known and (full := _find_in_text(str(error))):
            return full
        context = None if error.__suppress_context__ else error.__context__
        is_known |= isinstance(error, UserError)
        error = error.__cause__ or (context if is_known else None)
    return None


def _is_of_library(error):
    if isinstance(error, OSError | RuntimeError):
        return True
    modules = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return bool(modules & _LIBRARIES)


def _find_in_text(text):
    for number, message in _FULL.items():
        if message in text:
            return OSError(number, message)
    if _SQLITE_FULL in text:
        return OSError(errno.ENOSPC, _FULL[errno.ENOSPC])
    if _SQLITE_IO in text:
        reason = f"{_SQLITE_IO}: the disk is full or faulty"
        return OSError(errno.EIO, f"A database cannot be written ({reason})")
    return None


def silence_finalizers() -> None:
    """Hides errors of finalizers on a full disk, of which HDF5 prints dozens of lines.

    Those of h5py are hidden in any case: an interrupt in one of its objects leaves
    others that fail. The error that they follow is raised as any other.
    """
    print_error, print_ignored = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda *args: _is_silent(args[1]) or print_error(*args)
    sys.unraisablehook = lambda args: _is_silent(args.exc_value) or print_ignored(args)


def _is_silent(error: BaseException | None) -> bool:
    frames = walk_tb(error.__traceback__) if error else ()
    places = [(f.f_code.co_filename, f.f_code.co_name) for f, _ in frames]
    file, function = places[-1] if places else ("", "")
    in_finalizer = "h5py" in file and function.endswith("__dealloc__")
    return in_finalizer or find_full_disk(error) is not None


@contextmanager
def full_disk_at(path: Path) -> Iterator[None]:
    """Names the path in the error of a full disk."""
    try:
        yield
    except Exception as error:
        if full := find_full_disk(error):
            raise OSError(full.errno, full.strerror, str(path)) from error
        raise
