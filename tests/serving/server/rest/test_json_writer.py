import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.rest import json_writer as writer


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.5"),
        (3, "3.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e6, "1e+06"),
        (100000, "100000.0"),
        (1234567, "1234567.0"),
        (3e-5, "3e-05"),
        (0.123456789, "0.123456791"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_a_float_has_six_or_nine_digits(value, text):
    assert writer.format_floats(np.array([value], np.float32)) == [text]


def test_a_double_has_six_or_seventeen_digits():
    values = np.array([0.1, 1 / 3, 9007199254740993, 1e22])
    texts = ["0.1", "0.33333333333333331", "9007199254740992.0", "1e+22"]
    assert writer.format_floats(values) == texts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_float_is_read_back_exactly(dtype):
    @given(st.lists(st.floats(width=np.finfo(dtype).bits)))
    def check(values):
        numbers = np.array(values, dtype)
        result = np.array(
            [float(text) for text in writer.format_floats(numbers)], dtype
        )
        assert np.array_equal(result, numbers, equal_nan=True)
        real = ~np.isnan(numbers)
        assert np.array_equal(np.signbit(result[real]), np.signbit(numbers[real]))

    check()


@given(st.text())
def test_any_text_is_read_back(text):
    assert json.loads(writer.quote(text)) == text


def test_control_characters_are_escaped_as_rapidjson_does():
    assert writer.quote('\b\f\n\r\t\x0b\x1f"\\/é') == r'"\b\f\n\r\t\u000B\u001F\"\\/é"'


def test_arrays_are_on_one_line_or_on_many():
    texts = list("123456")
    assert writer.format_array(texts, [2, 3], 1, True) == "[[1, 2, 3], [4, 5, 6]]"
    assert writer.format_array(texts[:2], [1, 2], 1, False) == (
        "[\n        [\n            1,\n            2\n        ]\n    ]"
    )
    assert writer.format_array([], [2, 0], 1, True) == "[[], []]"
    assert writer.format_array([], [0, 2], 1, True) == "[]"
    assert writer.format_array(["7"], [], 1, False) == "7"


def test_an_object_has_one_line_per_member():
    text = '{\n        "a": 1,\n        "b": 2\n    }'
    assert writer.format_object({"a": "1", "b": "2"}, 1) == text
    assert writer.format_object({}, 1) == "{}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**64, "1.84467441e+19"),
        (2**64 - 1, "18446744073709551615"),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_a_quoted_value_is_the_value(value, text):
    assert writer.quote_value(value) == text


def test_numbers_in_a_document_are_quoted_as_rapidjson_writes_them():
    document = {"a": [1.0, True, None, "x"], "b": {}, "c": []}
    assert json.loads(writer.quote_value(document)) == document
    values = [1e21, 1e20, 1e-6, 1e-7, 1.25e30, 0.0, -2.5]
    texts = "1e21 100000000000000000000.0 0.000001 1e-7 1.25e30 0.0 -2.5".split()
    assert writer.quote_value(values) == "[\n    " + ",\n    ".join(texts) + "\n]"


def test_a_long_value_is_truncated():
    assert len(writer.quote_value({"a": ["x" * 10_000] * 1000})) == 1100
