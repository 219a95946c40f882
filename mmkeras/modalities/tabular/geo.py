"""Columns of places: latitude and longitude in degrees."""

import re
from collections.abc import Sequence
from math import pi
from typing import Any

from mmkeras.errors import shorten
from mmkeras.modalities.column import Content, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.column import TabularColumn, cell_text
from mmkeras.modalities.tabular.numeric import parse_numbers

_DEGREES = r"[+-]?[0-9]{1,3}(?:\.[0-9]+)?"
_PLACE = rf"({_DEGREES})\s*[,; ]\s*({_DEGREES})"
_LIMITS = (90, 180)  # of latitude and longitude


class Geo(TabularColumn):
    """Column of places, served as strings such as "52.52, 13.40".

    A place is three numbers: its point on the unit sphere, so that places on both sides
    of the date line are near to each other.
    """

    type, width = "geo", 3

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        """Returns "places" for pairs of degrees, most with a decimal point.

        Numbers with a decimal comma, such as "12,50", are none.
        """
        try:
            texts = [_normalise(cell) for cell in cells]
        except Unreadable:
            return ""
        are_fractions = sum("." in text for text in texts) > len(texts) / 2
        return "places" if are_fractions and not parse_numbers(cells) else ""

    def read(self, cell: Any, files: FileReader) -> Content:
        data = _normalise(cell).encode()
        return Content(data=data, digest=data)

    def numbers(self, values):
        import tensorflow as tf

        text = tf.strings.strip(values)
        is_place = tf.strings.regex_full_match(text, _PLACE)
        parts = [tf.strings.regex_replace(text, _PLACE, rf"\{i}") for i in (1, 2)]
        parts = tf.where(is_place[:, None], tf.stack(parts, axis=1), "nan")
        # In float64, so that the limits are those of `read`.
        degrees = tf.strings.to_number(parts, tf.float64)  # (B, 2)
        in_range = tf.reduce_all(tf.abs(degrees) <= _LIMITS, axis=1, keepdims=True)
        angles = tf.cast(degrees, tf.float32) * pi / 180
        latitude, longitude = tf.unstack(angles, axis=1)
        flat = tf.cos(latitude)
        point = [flat * tf.cos(longitude), flat * tf.sin(longitude), tf.sin(latitude)]
        return tf.where(in_range, tf.stack(point, axis=1), float("nan"))


def _normalise(cell):
    """Returns "latitude,longitude"."""
    text = cell_text(cell)
    match = re.fullmatch(_PLACE, text)
    if not match or any(
        abs(float(degrees)) > limit
        for degrees, limit in zip(match.groups(), _LIMITS, strict=True)
    ):
        raise Unreadable(
            f"not latitude and longitude in degrees: '{shorten(text, 40)}'"
        )
    return ",".join(match.groups())
