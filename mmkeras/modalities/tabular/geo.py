"""Columns of places: latitude and longitude in degrees."""

import re
from collections.abc import Sequence
from math import pi
from typing import Any

from mmkeras.errors import shorten
from mmkeras.modalities.column import Content, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.column import TabularColumn, cell_text

_DEGREES = r"[+-]?[0-9]{1,3}(?:\.[0-9]+)?"
_PLACE = rf"({_DEGREES})\s*[,; ]\s*({_DEGREES})"


class Geo(TabularColumn):
    """Column of places, served as strings such as "52.52, 13.40".

    A place is three numbers: its point on the unit sphere, so that places on both sides
    of the date line are near to each other.
    """

    type, width = "geo", 3

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        texts = map(cell_text, cells)
        return "places" if all(re.fullmatch(_PLACE, text) for text in texts) else ""

    def read(self, cell: Any, files: FileReader) -> Content:
        text = cell_text(cell)
        match = re.fullmatch(_PLACE, text)
        if not match or abs(float(match[1])) > 90 or abs(float(match[2])) > 180:
            raise Unreadable(
                f"not latitude and longitude in degrees: '{shorten(text, 40)}'"
            )
        data = f"{match[1]},{match[2]}".encode()
        return Content(data=data, digest=data)

    def numbers(self, values):
        import tensorflow as tf

        is_place = tf.strings.regex_full_match(tf.strings.strip(values), _PLACE)
        text = tf.where(is_place, tf.strings.strip(values), "nan,nan")
        parts = [tf.strings.regex_replace(text, _PLACE, rf"\{i}") for i in (1, 2)]
        parts = [tf.where(is_place, part, "nan") for part in parts]
        latitude, longitude = (tf.strings.to_number(x) * pi / 180 for x in parts)
        flat = tf.cos(latitude)
        point = [flat * tf.cos(longitude), flat * tf.sin(longitude), tf.sin(latitude)]
        return tf.stack(point, axis=1)
