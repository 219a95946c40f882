"""Checks of .npy vectors, and their conversion to little-endian float32."""

import io

import numpy as np
from numpy.lib import format as npy

from mmkeras.modalities.file import Unreadable, translate_errors


def prepare_vector(data: bytes) -> bytes:
    """Returns a .npy file of version 1.0 with one little-endian float32 vector.

    Accepts any .npy of floats or integers, of shape (D,) or (1, D).

    Raises:
        Unreadable: Empty, no .npy file, truncated, of another shape or type, or with
            numbers that are not finite.
    """
    shape, dtype, start = _npy_header(data)
    vector = np.frombuffer(data, dtype, shape[-1], start)
    with np.errstate(over="ignore"):
        vector = vector.astype("<f4")
    if not np.isfinite(vector).all():
        raise Unreadable("vector with numbers that are not finite")
    buffer = io.BytesIO()
    npy.write_array(buffer, vector, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def vector_width(data: bytes) -> int:
    """Returns the width D of a .npy file, or raises Unreadable; reads no numbers."""
    return _npy_header(data)[0][-1]


def _npy_header(data):
    if not data:
        raise Unreadable("file is empty")
    stream = io.BytesIO(data)
    with translate_errors(".npy file"):
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            text = f"unsupported .npy version {version} (supported: 1.0, 2.0)"
            raise Unreadable(text)
        shape, _, dtype = readers[version](stream)
    if dtype.kind not in "fiu":
        raise Unreadable(f".npy of type {dtype} (supported: floats and integers)")
    if len(shape) not in (1, 2) or shape[-1] < 1 or shape[:-1] not in ((), (1,)):
        text = f".npy of shape {shape} (supported: one vector, (D,) or (1, D))"
        raise Unreadable(text)
    rest = len(data) - stream.tell()
    if shape[-1] * dtype.itemsize > rest:
        raise Unreadable(f"truncated .npy: {rest} bytes of a vector of shape {shape}")
    return shape, dtype, stream.tell()
