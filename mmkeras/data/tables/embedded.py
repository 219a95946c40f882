"""Cells that stay in an Arrow file until they are read."""

import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from mmkeras.data.tables.cells import to_cell
from mmkeras.errors import one_line
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.vector.npy import npy_bytes

_MAX_FILES = 256  # each has a descriptor; many systems allow 1,024


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedded:
    """A cell with bytes, a vector or several of them, in a file of the disk.

    Attributes:
        file: Path of an Arrow IPC stream.
        column: Column as the file names it.
        row: Row in the file, from 0.
    """

    file: str
    column: str
    row: int

    def read(self) -> str | bytes | tuple[str | bytes, ...]:
        """Reads the cell by a memory map; from any thread, in any order.

        Raises:
            Unreadable: The value is of a type that is not supported, or the file is
                gone.

        Example:
            Embedded(file="data-00000.arrow", column="image", row=7).read()
        """
        try:
            status = os.stat(self.file)
        except OSError as error:
            reason = f"{self.file} cannot be read: {error.strerror}"
            raise Unreadable(reason) from None
        # Another file of the same path is opened anew.
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        starts, chunks = _chunks(self.file, self.column, version)
        index = bisect_right(starts, self.row) - 1
        return to_cell(scalar_value(chunks[index][self.row - starts[index]]))


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is a list, of any or of a fixed size."""
    import pyarrow.types as types

    return any(
        is_kind(kind)
        for is_kind in (types.is_list, types.is_large_list, types.is_fixed_size_list)
    )


def is_number_list(kind: Any) -> bool:
    """Whether an Arrow type is a list of numbers."""
    import pyarrow.types as types

    if not is_list(kind):
        return False
    return types.is_integer(kind.value_type) or types.is_floating(kind.value_type)


def scalar_value(scalar: Any) -> Any:
    """Returns Arrow's scalar as a value of Python.

    Raises:
        Unreadable: Python has no such value, as of text that is not UTF-8.
    """
    try:
        if is_number_list(scalar.type) and scalar.is_valid:
            # Without one Python object per number.
            return npy_bytes(scalar.values.to_numpy(zero_copy_only=False))
        return scalar.as_py()
    # Times out of range, unknown zones, and text raise different errors.
    except Exception as error:
        reason = one_line(error, 200)
        raise Unreadable(f"is a {scalar.type} that cannot be read: {reason}") from error


@lru_cache(maxsize=4 * _MAX_FILES)
def _chunks(file, column, version):
    """Returns the first row of each chunk of a column, and the chunks."""
    chunks = _open(file, version).column(column).chunks
    return [0, *accumulate(map(len, chunks))][:-1], chunks


@lru_cache(maxsize=_MAX_FILES)
def _open(file, version):
    import pyarrow as pa

    with pa.ipc.open_stream(pa.memory_map(file)) as reader:
        return reader.read_all()  # maps the buffers and reads none
