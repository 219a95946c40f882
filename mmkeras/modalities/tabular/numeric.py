"""Columns of numbers."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mmkeras.errors import shorten
from mmkeras.modalities.column import Content, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.column import TabularColumn, cell_text

_ABSENT = ("", "nan", "na", "n/a", "null", "none")
_BOOLEANS = {"true": 1.0, "false": 0.0}
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
# With separators of thousands or a decimal comma. "1,234" can be either.
_ENGLISH = re.compile(r"[+-]?[0-9]{1,3}((,[0-9]{3})+\.[0-9]*|(,[0-9]{3}){2,})")
_GERMAN = re.compile(
    r"[+-]?([0-9]{1,3}((\.[0-9]{3})+,[0-9]*|(\.[0-9]{3}){2,})"
    r"|[0-9]*,([0-9]{1,2}|[0-9]{4,})|(0|[0-9]{4,}),[0-9]{3})"
)
# With blanks between thousands, which may be protected.
_SPACED = re.compile(r"[+-]?[0-9]{1,3}([ \u00a0\u202f][0-9]{3})+([.,][0-9]*)?")
_BLANK = re.compile(r"[ \u00a0\u202f]")


class AmbiguousNumber(Unreadable):
    """A number whose comma separates thousands or decimals, such as "1,234"."""


def parse_number(cell: Any) -> float:
    """Returns the number that a cell has; NaN for words such as "NA" and "null".

    Raises:
        AmbiguousNumber: Its comma has two meanings.
        Unreadable: Not a number, or beyond float32.

    Example:
        parse_number("1,234.5")  # 1234.5
    """
    text = cell_text(cell)
    word = text.lower()
    if word in _ABSENT:
        return math.nan
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    if _SPACED.fullmatch(text):
        text = _BLANK.sub("", text)
    if _ENGLISH.fullmatch(text):
        text = text.replace(",", "")
    elif _GERMAN.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    if re.fullmatch(r"[+-]?[0-9]{1,3},[0-9]{3}", text):
        reason = f"'{text}' is ambiguous: write it without the comma, or with a point"
        raise AmbiguousNumber(reason)
    if not _NUMBER.fullmatch(text) and not _INFINITE.fullmatch(text):
        raise Unreadable(f"not a number: '{shorten(text, 40)}'")
    number = float(text)
    if math.isinf(_to_float32(number)):
        raise Unreadable(f"not finite in float32: '{shorten(text, 40)}'")
    return number


def _to_float32(number: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def parse_numbers(cells: Sequence[Any]) -> list[float]:
    """Returns the numbers of a column without NaN; none if it is not one of numbers.

    One of 20 cells may be no number: the row is reported when it is read.
    """
    numbers = []
    for cell in cells:
        with suppress(Unreadable):
            numbers.append(parse_number(cell))
    if len(cells) - len(numbers) > len(cells) // 20:
        return []
    return [number for number in numbers if not math.isnan(number)]


def has_words(cells: Sequence[Any]) -> bool:
    """Whether words, such as "XL", repeat among the cells; "?" is none."""
    words = []
    for cell in cells:
        try:
            parse_number(cell)
        except Unreadable:
            words.append(cell_text(cell))
    words = [word for word in words if any(map(str.isalpha, word))]
    return len(set(words)) < len(words)


class Numeric(TabularColumn):
    """Column of numbers, served as float32."""

    type, width, takes_strings = "numeric", 1, False
    rank = 1  # few integers that repeat are categories

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        numbers = parse_numbers(cells)
        values = set(numbers)
        if len(values) < 2:
            return ""
        if all(number.is_integer() for number in numbers):
            pairs = zip(numbers, numbers[1:], strict=False)
            counts_up = all(x < y for x, y in pairs)
            is_range = max(numbers) - min(numbers) == len(values) - 1
            if counts_up or (is_range and len(values) == len(numbers)):
                return ""  # ids
        return "numbers"

    def read(self, cell: Any, files: FileReader) -> Content:
        number = _to_float32(parse_number(cell))
        return Content(data=number, digest=str(number).encode())

    def numbers(self, values):
        return values[:, None]
