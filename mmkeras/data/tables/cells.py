"""Conversion of Python values to the cells of a table."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from functools import wraps
from numbers import Number, Real

from mmkeras.errors import one_line
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.png import encode_png
from mmkeras.modalities.vector.npy import npy_bytes

# Replaces a NUL, which Python 3.10's csv refuses. Never in decoded UTF-8, and none of
# the surrogates of undecodable bytes, U+DC80 to U+DCFF.
NUL = "\udc00"
_MAX_WHOLE = 2**53  # above it not every integer is a float
_MAX_RATE_HZ = 10_000_000  # a header of WAV has 32 bits for the bytes per second
_ABSENT = ("NoneType", "NAType", "NaTType")  # pandas' types are not imported
_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = re.compile("[\udc80-\udcff]")  # one that is not UTF-8
_ALLOWED = "text, number, path, bytes, image, audio, vector, or a list of these"


@dataclass(frozen=True, kw_only=True, slots=True)
class BadCell:
    """A cell whose value cannot be used; false, as an absent cell is.

    Attributes:
        reason: What is wrong, as a sentence without its subject: "is of type set".
    """

    reason: str

    def __bool__(self) -> bool:
        return False


def text_fault(cell: object) -> str:
    """Returns what is wrong with the characters of a cell, or ""."""
    if isinstance(cell, tuple):
        return next(filter(None, map(text_fault, cell)), "")
    if not isinstance(cell, str) or cell.isascii() or not _SURROGATE.search(cell):
        return ""
    if NUL in cell:
        return "a NUL byte"
    if _BYTE.search(cell):
        return "bytes that are not UTF-8 (save the table as UTF-8)"
    return "half a character (a surrogate without its pair)"


def _any_error_is_unreadable(convert: Callable) -> Callable:
    """Returns a function of a value whose errors are all Unreadable."""

    @wraps(convert)
    def guarded(value):
        try:
            return convert(value)
        except Unreadable:
            raise
        # Values of foreign types raise anything, from OverflowError to RecursionError.
        except Exception as error:
            kind, reason = type(value).__name__, one_line(error, 200)
            raise Unreadable(f"is a {kind} that cannot be read: {reason}") from error

    return guarded


@_any_error_is_unreadable
def to_cell(value: object) -> str | bytes | tuple[str | bytes, ...]:
    """Returns a value as a cell; "" if it is absent.

    Text, numbers, times and paths become text, whole numbers without a point; images a
    PNG; `(samples, rate_hz)` and the dictionary `{"array", "sampling_rate"}` a WAV;
    vectors a .npy of float32; `{"bytes", "path"}` the bytes, or else the path; lists of
    these a tuple, which is empty for an empty list.

    Raises:
        Unreadable: Any other type.

    Example:
        to_cell(2.5)  # "2.5"
    """
    if isinstance(value, str):
        return value.replace("\0", NUL)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if type(value).__name__ in _ABSENT:
        return ""
    if getattr(value, "shape", None) == ():
        return to_cell(_scalar(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_WHOLE:
        # Integers of a column with a gap are floats in pandas and Arrow.
        return repr(int(value))
    if isinstance(value, int | float):
        return "" if value != value else repr(value)
    if isinstance(value, Decimal):
        return "" if value.is_nan() else str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _media_cell(value)


def _media_cell(value):
    if "PIL.Image" in sys.modules:
        from PIL import Image

        if isinstance(value, Image.Image):
            return encode_png(value)
    if isinstance(value, Mapping):
        return _mapping_cell(value)
    if isinstance(value, tuple) and len(value) == 2 and _is_rate(value[1]):
        if not isinstance(value[0], str | bytes | Number):
            return _wav(*value)
    if hasattr(value, "__array__"):
        return _array_cell(value)
    if isinstance(value, list | tuple):
        return _list_cell(value)
    raise Unreadable(f"is of type {type(value).__name__} (allowed: {_ALLOWED})")


def _scalar(value):
    """Returns a scalar of numpy, or an array without dimensions, as Python's type."""
    import numpy as np

    scalar = np.asarray(value)
    if scalar.dtype.kind == "M":  # nanoseconds have no type in Python
        scalar = scalar.astype("datetime64[us]")
    return scalar.item()


def _mapping_cell(value):
    if value.keys() & {"bytes", "path"}:
        data = value.get("bytes")
        return to_cell(value.get("path") if data is None else data)
    if value.keys() >= {"array", "sampling_rate"}:
        if value["array"] is None:
            return ""
        return _wav(value["array"], value["sampling_rate"])
    keys = ", ".join(sorted(map(str, value)))
    raise Unreadable(
        f"is a dictionary with the keys {keys} (allowed: a text, a number or a list; "
        "of files, a dictionary with bytes and path, or array and sampling_rate)"
    )


def _array_cell(value):
    import numpy as np

    array = np.asarray(value)
    if array.ndim == 1:
        is_vector = array.dtype.kind in "fiu"
        return npy_bytes(array) if is_vector and array.size else _list_cell(list(array))
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype == np.uint8 and array.ndim in (2, 3) and channels in (1, 3, 4):
        return encode_png(array)
    raise Unreadable(
        f"is an array of {array.dtype} of shape {array.shape} (allowed: a vector, or "
        "uint8 pixels of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4))"
    )


def _list_cell(values):
    if any(isinstance(v, list | tuple | Mapping) and not _is_media(v) for v in values):
        raise Unreadable(f"is a list of lists or dictionaries (allowed: {_ALLOWED})")
    present = [v for v in values if type(v).__name__ not in _ABSENT]
    if present and all(isinstance(v, Real | Decimal) for v in present):
        if not any(isinstance(v, bool) for v in present):
            return npy_bytes(values)
    cells = [to_cell(value) for value in present]
    cells = tuple(cell for cell in cells if cell != "")
    return cells if cells or not values else ""


def _is_media(value):
    """Whether an item of a list is one file."""
    if isinstance(value, Mapping):
        return bool(value.keys() & {"bytes", "path", "array"})
    return len(value) == 2 and hasattr(value[0], "__array__")  # (samples, rate_hz)


def _is_rate(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _wav(samples, rate_hz):
    import numpy as np

    from mmkeras.modalities.audio.wav import wav_bytes

    samples = np.asarray(samples)
    if samples.dtype.kind not in "fiu" or samples.ndim not in (1, 2):
        raise Unreadable(
            f"is audio of {samples.dtype} of shape {samples.shape} (allowed: numbers "
            "of shape (S,), (S, channels) or (channels, S))"
        )
    if not samples.size:
        raise Unreadable("is audio without samples")
    if not isinstance(rate_hz, Real) or not 1 <= rate_hz < _MAX_RATE_HZ:
        raise Unreadable(
            f"is audio with sampling_rate {rate_hz!r} (allowed: 1 to {_MAX_RATE_HZ:,})"
        )
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    samples = samples.reshape(len(samples), -1)
    if samples.dtype.kind == "u":
        raise Unreadable(
            "is audio of unsigned integers (allowed: int16, int32, floats)"
        )
    if samples.dtype == np.int16:
        return wav_bytes(samples, 16, int(rate_hz))
    if samples.dtype.kind == "i":  # of 32 bits
        samples = samples / 2**31
    return wav_bytes(samples.astype(np.float32), 32, int(rate_hz))
