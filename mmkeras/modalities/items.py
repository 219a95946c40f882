"""Several files in one cell: a list, or paths with semicolons between.

Their data are one value of the served input: a JSON list of base64 texts. Each is
decoded and encoded by itself, and the encodings are averaged.
"""

import ast
import base64
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmkeras.modalities.file import find_file
from mmkeras.modalities.vector.npy import npy_bytes

if TYPE_CHECKING:
    import tensorflow as tf

SEPARATOR = ";"  # between the paths of a cell
_START = b'["'


def split_cell(cell: Any, folder: Any) -> tuple[str | bytes, ...]:
    """Returns the items of a cell: paths or content.

    A list may be written as JSON or Python writes it; one of numbers is a .npy file. A
    path with a semicolon that exists is one item. Only an empty tuple has none.

    Example:
        split_cell("front.jpg; back.jpg", "data")  # ("front.jpg", "back.jpg")
    """
    if isinstance(cell, tuple):
        return tuple(item for item in cell if item)
    if not isinstance(cell, str):
        return (cell,)
    if parts := parse_list(cell):
        if not any(isinstance(part, str) for part in parts):
            return (npy_bytes(parts),)
        items = tuple(part for part in parts if part)
        is_text = all(isinstance(part, str) for part in parts)
        return items if items and is_text else (cell,)
    if SEPARATOR not in cell:
        return (cell,)
    if os.path.exists(find_file(folder, cell)):
        return (cell,)
    items = tuple(item.strip() for item in cell.split(SEPARATOR) if item.strip())
    return items or (cell,)


def parse_list(cell: str) -> list[str | float] | None:
    """Returns the parts of a list as JSON or Python writes it; None for another cell.

    Parts are texts, numbers and truth values.
    """
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            parts = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue  # TypeError: a dictionary as a key
        if all(isinstance(part, str | int | float) for part in parts):
            return parts
    return None


def pack_items(contents: Sequence[bytes]) -> bytes:
    """Returns the value of several files, or the content of the only one."""
    if len(contents) == 1:
        return contents[0]
    return json.dumps([base64.b64encode(x).decode() for x in contents]).encode()


def unpack_items(data: bytes) -> list[bytes]:
    """Returns the files of a value; the inverse of `pack_items`."""
    if not data.startswith(_START):
        return [data]
    return [base64.b64decode(text) for text in json.loads(data)]


def unpack_in_graph(data: "tf.Tensor") -> "tf.Tensor":
    """Returns the (n,) files of a () value; core ops only.

    Raises:
        tf.errors.InvalidArgumentError: The value is a list of other than base64.
    """
    import tensorflow as tf

    def split():
        # TensorFlow's base64 has - and _, and no padding.
        text = tf.strings.regex_replace(data, r"[\[\]\s=\"]", "")
        text = tf.strings.regex_replace(text, r"\+", "-")
        text = tf.strings.regex_replace(text, "/", "_")
        return tf.io.decode_base64(tf.strings.split(text, ","))

    is_list = tf.strings.substr(data, 0, tf.minimum(2, tf.strings.length(data)))
    return tf.cond(is_list == _START, split, lambda: data[None])
