from datetime import date, datetime
from math import cos, pi, sin

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.date import Date

FILES = FileReader(folder=".", max_file_mb=1)
COLUMN = Date("sold", TabularConfig())
FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%S.%f+02:00",
    "%d.%m.%Y %H:%M:%S",
)
# Python's strftime writes years below 1000 with fewer than four digits.
TIMES = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59))


def numbers_of(time):
    """Returns the eight numbers by Python's calendar."""
    fraction = (time.month - 1 + (time.day - 1) / 31) / 12
    phases = (
        (time.month - 1) / 12,
        time.weekday() / 7,
        (time.hour + time.minute / 60) / 24,
    )
    circles = [f(2 * pi * phase) for phase in phases for f in (sin, cos)]
    return [time.year + fraction, time.day, *circles]


def in_graph(*values):
    return COLUMN.numbers(tf.constant(values)).numpy()


@given(TIMES, st.sampled_from(FORMATS))
def test_ingest_and_graph_equal_the_calendar_of_python(time, format):
    cell = time.strftime(format)
    if "%H" not in format:
        time = datetime(time.year, time.month, time.day)
    expected = np.float32(numbers_of(time))
    for value in (COLUMN.read(cell, FILES).data, f" {cell} "):
        np.testing.assert_allclose(in_graph(value)[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("cell", "iso"),
    [
        ("2024-05-01", b"2024-05-01"),
        (" 1.5.2024 ", b"2024-05-01"),
        ("2024/5/1 13:00", b"2024-05-01T13:00"),
        ("2024-05-01 7:30", b"2024-05-01T07:30"),
        ("1.5.2024 0:05:59", b"2024-05-01T00:05"),
        ("2024-05-01T13:00:59.5Z", b"2024-05-01T13:00"),
        ("2024-05-01 13:00 +0200", b"2024-05-01T13:00"),
        (date(2024, 5, 1), b"2024-05-01"),
        (np.datetime64("2024-05-01T13:00:00.000000001"), b"2024-05-01T13:00"),
    ],
)
def test_a_date_becomes_iso_8601(cell, iso):
    assert COLUMN.read(cell, FILES).data == iso
    value = cell if isinstance(cell, str) else iso
    np.testing.assert_array_equal(in_graph(value), in_graph(iso))


REFUSED = (
    "05/01/2024",
    "2024",
    "20240501",
    "2024-13-01",
    "2024-05-00",
    "2024-05-01T24:00",
    "2024-05-01 7",
    "2024-05-01 7:5",
    "2024-05-01T13:60",
    "2023-02-29",
    "1900-02-29",
    "2024-04-31",
    "0000-01-01",
    "2024-05-01 noon",
    "٢٠٢٤-05-01",
    "yesterday",
)


@pytest.mark.parametrize("cell", REFUSED)
def test_anything_else_is_unreadable_at_ingest_and_in_the_graph(cell):
    with pytest.raises(Unreadable, match="2024-05-01T13:00|no day of the calendar"):
        COLUMN.read(cell, FILES)
    assert np.isnan(in_graph(cell)).all()


def test_a_broken_or_absent_date_does_not_change_the_others():
    good = in_graph("2024-02-29")
    rows = in_graph("", "2024-02-29", "\xff", "x" * 99)
    np.testing.assert_array_equal(rows[1:2], good)
    assert np.isnan(rows[[0, 2, 3]]).all()


def test_weekend_and_night_are_near_each_other():
    saturday, sunday, tuesday = in_graph("2024-05-04", "2024-05-05", "2024-05-07")
    week = slice(4, 6)
    distance = np.linalg.norm(saturday[week] - sunday[week])
    assert distance < np.linalg.norm(sunday[week] - tuesday[week])
    late, midnight = in_graph("2024-05-04T23:59", "2024-05-04")
    np.testing.assert_allclose(late[6:], midnight[6:], atol=0.01)


def test_columns_of_dates_are_recognised():
    assert Date.recognise(["2024-05-01", "1.5.2024"], FILES) == "dates"
    assert not Date.recognise(["2024-05-01", "soon"], FILES)
    assert not Date.recognise([], FILES)
