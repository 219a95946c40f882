import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from serving.server.errors import ServingError
from serving.server.rest.json_tensors import format_outputs, to_array
from tests.serving.server.assertions import serving_error

NUMBERS = "float double int8 int16 int32 int64 uint8 uint32 uint64".split()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
B64 = st.just("b64")
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(B64, v)
)


@pytest.mark.parametrize("name", NUMBERS)
def test_any_numbers_are_read_and_written_exactly(name):
    dtype = np.dtype("float32" if name == "float" else name)

    @given(arrays(dtype, array_shapes(max_dims=3, max_side=3)))
    def check(array):
        result, two = to_array(array.tolist(), name), {"y": array, "z": array}
        rows = json.loads(format_outputs(two, True))["predictions"]
        one = json.loads(format_outputs({"y": array}, True))["predictions"]
        column = json.loads(format_outputs(two, False))["outputs"]["z"]
        for values in (result, [row["z"] for row in rows], one, column):
            np.testing.assert_array_equal(np.array(values, dtype), array)
        assert result.dtype == dtype

    check()


def test_other_values_become_an_array():
    for value, name, values in (
        ([True, False], "bool", [True, False]),
        (["é", {"b64": "/w=="}, b"\0"], "string", ["é".encode(), b"\xff", b"\0"]),
        ("x", "string", b"x"),
        (7, "float", 7.0),
        ([[], []], "int32", [[], []]),
        ([1, 2.0**70], "float", [1.0, 2.0**70]),
    ):
        assert to_array(value, name).tolist() == values


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        ("a", "float", 'JSON Value: "a" Type: String is not of expected type: float'),
        ([1, True], "float", "JSON Value: true Type: True is not of expected type"),
        ([1, None], "double", "JSON Value: null Type: Null is not of expected type"),
        (1.5, "int64", "JSON Value: 1.5 Type: Number is not of expected type"),
        ([2**63], "int64", f"JSON Value: {2**63} Type: Number is not of expected"),
        ([1, 300], "uint8", "JSON Value: 300 Type: Number is not of expected type"),
        (1, "bool", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ([1], "string", "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"b64": "="}, "float", 'JSON Value: {"b64": "="} Type: Object is not of'),
        (2**24, "float", f"Cannot convert JSON value: {2**24} to float without loss"),
        ([0.5, 1e39], "float", "Cannot convert JSON value: 1e+39 to float without"),
        (2**53, "double", f"Cannot convert JSON value: {2**53} to double without loss"),
        ([1, 10**400], "double", "JSON Parse error: Number too big"),
        ([1, [2]], "float", "Encountered list at unexpected level: 1"),
        (json.loads("[" * 33 + "]" * 33), "int8", "Encountered list at unexpected l"),
        ([[1], 2], "int8", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM"),
        ([[1, 2], [3]], "int8", "Encountered list at unexpected size: 1 at level: 1"),
        ([1.5], "half", "Conversion of JSON Value: 1.5 to type: half"),
    ],
)
def test_an_invalid_value_is_refused(value, name, message):
    error = serving_error(to_array, value, name)
    assert error.message.startswith(message)
    assert error.code.name == (
        "UNIMPLEMENTED" if name == "half" else "INVALID_ARGUMENT"
    )


@given(VALUES, st.sampled_from([*NUMBERS, "bool", "string", "half"]))
def test_any_value_is_an_array_or_an_error(value, name):
    try:
        assert to_array([value], name).shape[0] == 1
    except ServingError as error:
        assert error.code.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


def test_outputs_are_written_by_row_or_by_column():
    for outputs, by_row, text in (
        ({"y": [[1, 2], [3, 4]]}, True, '{"predictions":[[1,2],[3,4]]}'),
        ({"b": [1], "a": [3]}, True, '{"predictions":[{"a":3,"b":1}]}'),
        ({"b": [1], "a": [[2]]}, False, '{"outputs":{"a":[[2]],"b":[1]}}'),
        ({"y": True}, False, '{"outputs":true}'),
        ({"y": np.zeros([2, 0])}, True, '{"predictions":[[],[]]}'),
        ({"y": np.float32([2, 0.1])}, True, '{"predictions":[2.0,0.1]}'),
    ):
        outputs = {name: np.asarray(value) for name, value in outputs.items()}
        assert format_outputs(outputs, by_row).decode() == text


@given(st.lists(st.binary(), min_size=1), st.sampled_from(["y", "y_bytes"]))
def test_strings_are_base64_in_bytes_outputs_or_where_one_is_not_utf8(values, name):
    outputs = {name: np.array([*values, None], object)[:-1]}
    (items,) = json.loads(format_outputs(outputs, True)).values()
    assert to_array(items, "string").tolist() == values
    assert len(set(map(type, items))) == 1 and (name == "y" or type(items[0]) is dict)


def test_outputs_without_a_json_form_are_refused():
    for outputs, message in (
        (
            {"a": [1, 2], "b": [1]},
            "Tensor name: b has inconsistent batch size: 1 expec",
        ),
        ({"y": 1}, "Tensor name: y has no shape information"),
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float16([1])}, "Failed to write JSON value for tensor type: half"),
    ):
        outputs = {name: np.asarray(value) for name, value in outputs.items()}
        error = serving_error(format_outputs, outputs, True, match=f"^{message}")
        assert error.code.name == "INVALID_ARGUMENT"
