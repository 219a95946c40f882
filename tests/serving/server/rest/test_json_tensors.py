import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.errors import ServingError
from serving.server.rest.json_tensors import format_outputs, to_array
from tests.serving.server.assertions import serving_error

NUMBERS = {"float": np.float32, "double": np.float64} | {
    name: getattr(np, name)
    for name in "int8 int16 int32 int64 uint8 uint32 uint64".split()
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_become_an_array_of_the_type(name):
    array = to_array([[1, 2, 3], [4, 5, 6]], name)
    assert array.dtype == NUMBERS[name]
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("value", "name", "values"),
    [
        ([True, False], "bool", [True, False]),
        (["é", {"b64": "/w=="}, b"\0"], "string", ["é".encode(), b"\xff", b"\0"]),
        ("x", "string", b"x"),
        (7, "float", 7.0),
        ([[], []], "int32", [[], []]),
        ([1, 2.0**70], "float", [1.0, 2.0**70]),
    ],
)
def test_other_values_become_an_array(value, name, values):
    assert to_array(value, name).tolist() == values


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("float", st.floats(width=32)),
        ("double", st.floats()),
        ("int64", st.integers(-(2**63), 2**63 - 1)),
        ("uint64", st.integers(0, 2**64 - 1)),
    ],
)
def test_numbers_are_converted_exactly(name, values):
    @given(st.lists(values))
    def check(items):
        expected = np.array(items, NUMBERS[name])
        assert np.array_equal(to_array(items, name), expected, equal_nan=True)

    check()


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        *[
            (value, name, f"JSON Value: {quote} Type: {kind} is not of expected type")
            for value, name, quote, kind in (
                ("a", "float", '"a"', "String"),
                ([1, True], "float", "true", "True"),
                ([1, None], "double", "null", "Null"),
                (1.5, "int64", "1.5", "Number"),
                ([2**63], "int64", f"{2**63}", "Number"),
                ([1, 300], "uint8", "300", "Number"),
                (1, "bool", "1", "Number"),
                ([1], "string", "1", "Number"),
                ({"b64": "eA=="}, "float", '{"b64": "eA=="}', "Object"),
            )
        ],
        (16777216, "float", "JSON value: 16777216 to float without loss of precision"),
        ([0.5, 1e39], "float", "JSON value: 1e+39 to float without loss"),
        (2**53, "double", f"JSON value: {2**53} to double without loss"),
        ([1, 10**400], "double", "Number too big"),
        ([1, [2]], "float", "Encountered list at unexpected level: 1"),
        ([[1], 2], "float", "found at incorrect level: 2 in the JSON DOM."),
        ([[1, 2], [3]], "float", "size: 1 at level: 1 expected size: 2"),
        ([1.5], "half", "Conversion of JSON Value: 1.5 to type: half"),
    ],
)
def test_an_invalid_value_is_refused(value, name, message):
    assert message in serving_error(to_array, value, name).message


def test_more_levels_than_an_array_can_have_are_refused():
    value = 1.0
    for _ in range(33):
        value = [value]
    assert "unexpected level: 33" in serving_error(to_array, value, "float").message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.just("b64"), inner),
        max_leaves=8,
    ),
    st.sampled_from([*NUMBERS, "bool", "string", "half"]),
)
def test_any_value_is_an_array_or_an_error(value, name):
    try:
        assert to_array([value], name).shape[0] == 1
    except ServingError as error:
        assert error.code.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


@pytest.mark.parametrize(
    ("by_row", "outputs", "values"),
    [
        (True, {"y": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]]),
        (True, {"b": [1, 2], "a": [3, 4]}, [{"a": 3, "b": 1}, {"a": 4, "b": 2}]),
        (False, {"a": [[1, 2]], "b": [b"x"]}, {"a": [[1, 2]], "b": ["x"]}),
        (False, {"y": True}, True),
        (True, {"y": np.zeros([2, 0])}, [[], []]),
        # Base64 for *_bytes, and where a string is not UTF-8.
        (True, {"y_bytes": [b"\xff", b"a"]}, [{"b64": "/w=="}, {"b64": "YQ=="}]),
        (False, {"y_bytes": b"a"}, {"b64": "YQ=="}),
        (True, {"y": [b"\xff", b"a"]}, [{"b64": "/w=="}, {"b64": "YQ=="}]),
    ],
)
def test_outputs_are_written_by_row_or_by_column(by_row, outputs, values):
    key = "predictions" if by_row else "outputs"
    assert json.loads(write(by_row, **outputs)) == {key: values}


def write(by_row=True, **outputs):
    arrays = {name: np.array(value) for name, value in outputs.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            arrays[name] = np.array(outputs[name], object)
    return format_outputs(arrays, by_row)


def test_floats_have_a_decimal_point_and_the_fewest_digits():
    assert write(y=np.float32([2, 0.1])) == b'{"predictions":[2.0,0.1]}'


@given(st.lists(st.binary(), min_size=1), st.sampled_from(["y", "y_bytes"]))
def test_any_bytes_can_be_read_back(values, name):
    array = np.empty(len(values), object)
    array[:] = values
    items = json.loads(format_outputs({name: array}, True))["predictions"]
    assert values == [
        base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() for v in items
    ]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint64, np.int8])
@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_any_numbers_can_be_read_back_exactly(kind, by_row, count):
    bits = np.random.default_rng(0).bytes(np.dtype(kind).itemsize * 2 * 300)
    values = np.frombuffer(bits, kind).reshape(100, 2, 3)  # also NaN and infinity
    (result,) = json.loads(
        write(by_row, **dict.fromkeys("yz"[:count], values))
    ).values()
    if count == 2:
        result = [row["y"] for row in result] if by_row else result["y"]
    is_float = kind in (np.float32, np.float64)
    assert np.array_equal(np.array(result, kind), values, equal_nan=is_float)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"a": [1, 2], "b": [1, 2, 3]}, "b has inconsistent batch size: 3 expecting"),
        ({"y": 1}, "Tensor name: y has no shape information"),
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float16([1])}, "tensor type: half"),
    ],
)
def test_outputs_without_a_json_form_are_refused(outputs, text):
    with pytest.raises(ServingError, match=text):
        write(**outputs)
