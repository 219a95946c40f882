"""Columns of dates, with or without the time of the day."""

import re
from collections.abc import Sequence
from datetime import datetime
from math import pi
from typing import Any

from mmkeras.errors import shorten
from mmkeras.modalities.column import Content, FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.column import TabularColumn, cell_text

# What is rewritten to ISO 8601, in this order, by Python and by the graph alike.
_REWRITES = (
    (r"^([0-9]{4})/([0-9]{1,2})/([0-9]{1,2})", r"\1-\2-\3"),
    (r"^([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})", r"\3-\2-\1"),
    (r"^([0-9]{4})-([0-9])-", r"\1-0\2-"),
    (r"^([0-9]{4}-[0-9]{2})-([0-9])([T ]|$)", r"\1-0\2\3"),
    (r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]:)", r"\1T0\2"),
)
_DAY = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?"
_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
_ISO = rf"{_DAY}(?:[T ]{_TIME} ?{_ZONE})?"
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH_SHIFTS = (0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4)  # of the days of the week


def normalise_date(cell: Any) -> str:
    """Returns a date in ISO 8601, to the minute if the cell has a time.

    The time is that on the clock: a time zone is dropped.

    Raises:
        Unreadable: Not a date, or a day that does not exist.

    Example:
        normalise_date("1.5.2024 13:00")  # "2024-05-01T13:00"
    """
    text = cell_text(cell)
    for pattern, rewrite in _REWRITES:
        text = re.sub(pattern, rewrite, text)
    if not re.fullmatch(_ISO, text):
        shown = shorten(cell_text(cell), 40)
        raise Unreadable(
            f"not a date such as 2024-05-01 or 2024-05-01T13:00: '{shown}'"
        )
    try:
        datetime(int(text[:4]), int(text[5:7]), int(text[8:10]))
    except ValueError:
        raise Unreadable(f"no day of the calendar: '{text}'") from None
    return text[:10] + "T" * (len(text) > 10) + text[11:16]


class Date(TabularColumn):
    """Column of dates, served as strings in the formats of the table.

    A date is eight numbers: the year with its fraction, so that trends inside a year
    show; the day of the month; and sine and cosine of month, day of the week and hour,
    so that December is next to January, and the weekend a half plane. Without a time
    it is midnight.
    """

    type, width = "date", 8

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        try:
            return "dates" if [normalise_date(cell) for cell in cells] else ""
        except Unreadable:
            return ""

    def read(self, cell: Any, files: FileReader) -> Content:
        data = normalise_date(cell).encode()
        return Content(data=data, digest=data)

    def numbers(self, values):
        import tensorflow as tf

        text, is_iso = _to_iso(values)
        year, month, day, hour, minute = (
            tf.strings.to_number(tf.strings.substr(text, start, count), tf.int32)
            for start, count in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2))
        )
        is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        days = tf.gather(_MONTH_DAYS, month - 1)
        days += tf.cast(is_leap & (month == 2), tf.int32)
        exists = is_iso & (day <= days) & (year > 0)
        weekday = _weekday(year, month, day)
        y, m, d, w, h, minutes = (
            tf.cast(x, tf.float32) for x in (year, month, day, weekday, hour, minute)
        )
        numbers = [y + (m - 1 + (d - 1) / 31) / 12, d]
        for phase in ((m - 1) / 12, w / 7, (h + minutes / 60) / 24):
            numbers += [tf.sin(2 * pi * phase), tf.cos(2 * pi * phase)]
        return tf.where(exists[:, None], tf.stack(numbers, axis=1), float("nan"))


def _to_iso(values):
    """Returns (B,) strings with day and time, and (B,) bool: whether that succeeds."""
    import tensorflow as tf

    text = tf.strings.strip(values)
    for pattern, rewrite in _REWRITES:
        text = tf.strings.regex_replace(text, pattern, rewrite)
    is_iso = tf.strings.regex_full_match(text, _ISO)
    text = tf.where(is_iso, text, "0001-01-01")
    # Of a time in the text, the midnight after it is not read.
    return tf.strings.join([text, "T00:00"]), is_iso


def _weekday(year, month, day):
    """Returns the day of the week, 0 to 6 for Monday to Sunday.

    Source: Sakamoto, 1993, https://www.faqs.org/faqs/calendars/faq/part1.
    """
    import tensorflow as tf

    y = year - tf.cast(month < 3, tf.int32)
    shift = tf.gather(_MONTH_SHIFTS, month - 1)
    return (y + y // 4 - y // 100 + y // 400 + shift + day - 1) % 7
