"""Return of free memory to the system."""

import ctypes
from functools import cache

LARGE_BYTES = 2**24  # messages after which memory is returned


def trim_memory() -> None:
    """Returns free memory to the system.

    glibc keeps it otherwise, since gRPC allocates a message in many small parts.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim():
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # None: no glibc
