import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.numeric import Numeric, parse_number

FILES = FileReader(folder=".", max_file_mb=1)
COLUMN = Numeric("price", TabularConfig())


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1.5", 1.5),
        ("1e3", 1000),
        (" 7 ", 7),
        ("-.5", -0.5),
        (b"+2.", 2),
        (3, 3),
        (np.float32(0.25), 0.25),
        ("true", 1),
        (False, 0),
        ("1,234.5", 1234.5),
        ("-1,234,567", -1234567),
        ("1.234,5", 1234.5),
        ("1.234.567", 1234567),
        ("1,5", 1.5),
        ("0,125", 0.125),
        ("1234,567", 1234.567),
        ("1 234", 1234),
        ("-12\u00a0345\u202f678,5", -12345678.5),
    ],
)
def test_a_number_is_read_however_it_is_written(cell, number):
    content = COLUMN.read(cell, FILES)
    assert content.data == np.float32(number)
    assert content.digest == COLUMN.read(number, FILES).digest


@pytest.mark.parametrize("cell", ["nan", "NA", "null", "None", "n/a", math.nan])
def test_words_for_absence_are_nan(cell):
    assert math.isnan(COLUMN.read(cell, FILES).data)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("12 kg", "not a number: '12 kg'"),
        ("1,234", "'1,234' is ambiguous: write it without the comma"),
        ("12,34,567", "not a number"),
        ("1_000", "not a number"),
        ("0x10", "not a number"),
        ("٣", "not a number"),
        ("1 2", "not a number"),
        ("1234 567", "not a number"),
        ("-inf", "not finite"),
        ("1e39", "not finite"),
    ],
)
def test_the_reason_names_why_a_number_is_unreadable(cell, reason):
    with pytest.raises(Unreadable, match=reason):
        COLUMN.read(cell, FILES)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_graph_gets_the_number_that_python_reads(number):
    data = COLUMN.read(repr(number), FILES).data
    assert COLUMN.numbers(tf.constant([data]))[0, 0] == number


@given(st.integers(10**3, 10**9), st.integers(0, 99))
def test_separators_do_not_change_a_number(units, cents):
    number = float(f"{units}.{cents:02}")
    english = f"{units:,}.{cents:02}"
    assert parse_number(english) == number
    assert parse_number(english.translate(str.maketrans(",.", ".,"))) == number


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["1.5", "2", "1.5"], "numbers"),
        ([str(i % 20) for i in range(60)], "numbers"),
        (["1.5", "NA", "2.5"], "numbers"),
        ([str(i % 9 + 1) for i in range(15)], "numbers"),  # few rows
        ([str(i % 9) for i in range(15)] + ["NA"], "numbers"),
        ([str(i) for i in range(100)], ""),  # ids
        ([str(i) for i in np.random.default_rng(0).permutation(100)], ""),
        ([str(10 * i) for i in range(100)], ""),
        ([str(i * i) for i in np.random.default_rng(0).permutation(100)], "numbers"),
        (["1.5", "red", "2"], ""),
        (["1.5", "1.5"], ""),
        ([], ""),
    ],
)
def test_columns_of_many_numbers_are_recognised(cells, reason):
    assert Numeric.recognise(cells, FILES) == reason
