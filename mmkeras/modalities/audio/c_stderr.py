"""The C library's stream to stderr."""

import ctypes
import functools
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock, _depth, _original = threading.Lock(), 0, None


@functools.cache
def _streams():
    """Returns glibc's variable `stderr` and a stream to nowhere; None elsewhere."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(libc, "stderr"), nowhere) if nowhere else None


@contextmanager
def no_c_stderr() -> Iterator[None]:
    """Drops what C code prints to `stderr`, as libmpg123 does of damaged files.

    The descriptor stays as it is: Python, other programs and C++ streams still print.
    """
    global _depth, _original
    if not (streams := _streams()):
        yield
        return
    stderr, nowhere = streams
    with _lock:
        if not _depth:
            _original, stderr.value = stderr.value, nowhere
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                stderr.value = _original
