"""JSON in TensorFlow Serving's layout and number format.

Source: RapidJSON 1.1.0's PrettyWriter (four spaces, optionally arrays on one line)
and the numbers of tensorflow_serving/util/json_tensor.cc.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

# Longer quotations would be truncated with their message.
_MAX_QUOTE = 1100
_ESCAPES = {code: f"\\u{code:04X}" for code in range(32)}
_ESCAPES |= str.maketrans({'"': r"\"", "\\": r"\\", "\b": r"\b", "\f": r"\f"})
_ESCAPES |= str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})
_MUST_ESCAPE = re.compile(r'[\x00-\x1f"\\]')
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_DIGITS = {np.dtype(np.float32): 9, np.dtype(np.float64): 17}
_FLOAT_MAX = float(np.finfo(np.float32).max)
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


def is_float(value: Any) -> bool:
    """Whether RapidJSON stores a number as a double, not as an integer of 64 bits."""
    if type(value) is int:
        return not _INT64_MIN <= value <= _UINT64_MAX
    return isinstance(value, float)


def quote(text: str) -> str:
    """Returns the text as a JSON string."""
    return f'"{text.translate(_ESCAPES) if _MUST_ESCAPE.search(text) else text}"'


def format_floats(values: np.ndarray) -> list[str]:
    """Formats floats (float32 or float64) with six digits if exact, else 9 or 17.

    It takes 1.1 microseconds per float32 and 1.4 per float64.
    """
    numbers = values.ravel().tolist()
    short = "%g " * len(numbers) % tuple(numbers)
    texts = short.split()
    read_json = np.fromstring(short, np.float64, sep=" ").astype(values.dtype)
    inexact = np.flatnonzero(read_json != values.ravel()).tolist()
    longer = f"%.{_DIGITS[values.dtype]}g " * len(inexact)
    longer %= tuple(numbers[i] for i in inexact)
    for i, text in zip(inexact, longer.split(), strict=True):
        texts[i] = text
    return [t if "." in t or "e" in t else _NOT_FINITE.get(t, f"{t}.0") for t in texts]


def format_array(
    texts: Sequence[str], shape: Sequence[int], level: int, one_line: bool
) -> str:
    """Formats values as nested arrays.

    Args:
        texts: Values in row-major order.
        shape: Shape of the arrays; (): one value.
        level: Number of enclosing arrays and objects.
        one_line: Whether to write one line.
    """
    parts = list(texts)
    for rank in reversed(range(len(shape))):
        size, count = shape[rank], int(np.prod(shape[:rank], dtype=np.int64))
        edge = "\n" + " " * 4 * (level + rank)
        between, start, end = ", ", "[", "]"
        if not one_line:
            between, start, end = f",{edge}    ", f"[{edge}    ", f"{edge}]"
        parts = [
            start + between.join(parts[i * size : (i + 1) * size]) + end
            if size
            else "[]"
            for i in range(count)
        ]
    return parts[0]


def format_object(values: dict[str, str], level: int) -> str:
    """Formats values as an object, within `level` arrays and objects."""
    if not values:
        return "{}"
    edge = "\n" + " " * 4 * level
    lines = [f"{edge}    {quote(name)}: {text}" for name, text in values.items()]
    return "{" + ",".join(lines) + edge + "}"


def quote_value(value: Any) -> str:
    """Formats a parsed JSON value for an error, truncated if it is long."""
    if is_float(value):
        kind = np.float32 if abs(value) <= _FLOAT_MAX else np.float64
        return format_floats(np.array([value], kind))[0]
    text = ""
    for piece in _pieces(value, 0):
        text += piece
        if len(text) > _MAX_QUOTE:
            return text[:_MAX_QUOTE]
    return text


def _pieces(value: Any, level: int) -> Iterator[str]:
    if isinstance(value, list | dict) and value:
        named = isinstance(value, dict)
        start, end = "{}" if named else "[]"
        edge = "\n" + " " * 4 * level
        for item in value:
            yield f"{start}{edge}    "
            if named:
                yield f"{quote(item)}: "
            yield from _pieces(value[item] if named else item, level + 1)
            start = ","
        yield edge + end
    elif isinstance(value, list | dict):
        yield "{}" if isinstance(value, dict) else "[]"
    elif isinstance(value, str):
        yield quote(value[:_MAX_QUOTE])
    elif is_float(value):
        yield _format_double(float(value))
    elif value is None:
        yield "null"
    else:
        yield str(value).lower()


def _format_double(value: float) -> str:
    """Formats a number of a document with the fewest digits that read back the same.

    Source: RapidJSON's Prettify, with an exponent above 1e21 and below 1e-6.
    """
    if value in (float("inf"), float("-inf")) or value != value:
        return _NOT_FINITE[f"{value:g}"]
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + exponent
    if value == 0:
        text, point = "0", 1
    if -6 < point <= 21:
        text = text.ljust(point, "0") if point > 0 else "0" * (1 - point) + text
        point = max(point, 1)
        text = f"{text[:point]}.{text[point:] or '0'}"
    else:
        fraction = f".{text[1:]}" if text[1:] else ""
        text = f"{text[0]}{fraction}e{point - 1}"
    return "-" * sign + text
