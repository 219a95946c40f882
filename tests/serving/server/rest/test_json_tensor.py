import base64

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2

from serving.server.errors import ServingError
from serving.server.rest.json_reader import read
from serving.server.rest.json_tensor import decoded, tensor
from tests.serving.server.tiny_data_plane import DTYPES


def converted(text, dtype):
    return tf.make_ndarray(tensor(read(f'{{"x": {text}}}'.encode())["x"], dtype))


def message_of(text, dtype):
    with pytest.raises(ServingError) as error:
        converted(text, dtype)
    return error.value.message


@pytest.mark.parametrize("name", sorted(set(DTYPES) - {"string", "bool"}))
def test_numbers_become_a_tensor_of_the_signatures_type(name):
    dtype = DTYPES[name]
    array = converted("[[1, 2, 3], [4, 5, 6]]", dtype)
    assert array.dtype == tf.as_dtype(dtype).as_numpy_dtype
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_booleans_and_strings_too():
    assert converted("[true, false]", types_pb2.DT_BOOL).tolist() == [True, False]
    strings = converted('["é", {"b64": "/w=="}, ""]', types_pb2.DT_STRING)
    assert strings.tolist() == ["é".encode(), b"\xff", b""]


def test_a_lone_value_has_no_rank_and_an_empty_list_no_values():
    assert converted("7", types_pb2.DT_FLOAT).shape == ()
    assert converted("[[], []]", types_pb2.DT_INT32).shape == (2, 0)


@pytest.mark.parametrize(
    ("text", "name", "quoted", "kind"),
    [
        ('"a"', "float", '"a"', "String"),
        ("[1, true]", "float", "true", "True"),
        ("[1, null]", "double", "null", "Null"),
        ("1.5", "int64", "1.5", "Number"),
        ("[1, true]", "int32", "true", "True"),
        ("[9223372036854775808]", "int64", "9223372036854775808", "Number"),
        ("-1", "uint64", "-1", "Number"),
        ("[1, 300]", "uint8", "300", "Number"),
        ("1", "bool", "1", "Number"),
        ("[1]", "string", "1", "Number"),
        ('{"b64": "eA=="}', "float", '{\n    "b64": "eA=="\n}', "Object"),
    ],
)
def test_a_value_of_another_type_is_an_error(text, name, quoted, kind):
    message = f"JSON Value: {quoted} Type: {kind} is not of expected type: {name}"
    assert message_of(text, DTYPES[name]) == message


@pytest.mark.parametrize(
    ("text", "name", "quoted"),
    [
        ("16777216", "float", "16777216"),
        ("[0.5, -16777217]", "float", "-16777217"),
        ("1e39", "float", "1e+39"),
        ("9007199254740992", "double", "9007199254740992"),
    ],
)
def test_a_number_that_would_lose_precision_is_an_error(text, name, quoted):
    assert message_of(text, DTYPES[name]) == (
        f"Cannot convert JSON value: {quoted} to {name} without loss of precision."
    )


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("[1, [2]]", "float", "Encountered list at unexpected level: 1 expected < 1"),
        (
            "[[1], 2]",
            "float",
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at "
            "level: 2",
        ),
        (
            "[[1, 2], [3]]",
            "float",
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            '{"b64": 1}',
            "string",
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        ('{"b64": "*"}', "string", "Unable to base64 decode"),
    ],
)
def test_a_wrong_shape_or_base64_is_an_error(text, name, message):
    assert message_of(text, DTYPES[name]) == message


def test_a_type_that_json_has_not_is_not_implemented():
    with pytest.raises(ServingError) as error:
        converted("[1.5]", types_pb2.DT_HALF)
    assert error.value.code.name == "UNIMPLEMENTED"
    assert error.value.message == "Conversion of JSON Value: 1.5 to type: half"


def test_integers_beyond_64_bits_are_decimals():
    assert converted("[1, 1180591620717411303424]", types_pb2.DT_FLOAT)[1] == 2.0**70
    assert "to float without loss" in message_of(str(10**50), types_pb2.DT_FLOAT)


@pytest.mark.parametrize("text", ["1e999", "[0.5, -1e999]", "[1, 1" + "0" * 400 + "]"])
def test_a_number_that_no_double_holds_overflows(text):
    with pytest.raises(OverflowError):
        converted(text, types_pb2.DT_DOUBLE)


def test_nan_and_infinity_are_numbers():
    array = converted("[NaN, Infinity, -Infinity, 1]", types_pb2.DT_FLOAT)
    expected = [float("nan"), float("inf"), float("-inf"), 1]
    assert np.array_equal(array, np.array(expected, np.float32), equal_nan=True)


@given(st.binary())
def test_any_bytes_survive_base64_with_padding_and_without(content):
    text = base64.b64encode(content).decode()
    assert decoded({"b64": text}) == content
    assert decoded({"b64": text.rstrip("=")}) == content
    assert decoded({"b64": "\n".join(text)}) == content


@pytest.mark.parametrize("text", ["e", "eA=", "eA===", "=", "é", "e=A=", "eA=x"])
def test_what_is_no_base64_is_an_error(text):
    with pytest.raises(ServingError, match="Unable to base64 decode"):
        decoded({"b64": text})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.just("b64"), inner),
        max_leaves=8,
    ),
    st.sampled_from(sorted(DTYPES.values())),
)
def test_a_value_in_a_list_is_judged_as_it_is_alone(value, dtype):
    """Holds the fast way, which lists of one value take, against the slow one."""

    def outcome(value):
        try:
            return tensor(value, dtype).tensor_content, tensor(value, dtype).string_val
        except (ServingError, OverflowError) as error:
            return type(error), getattr(error, "code", None)

    assert outcome(value) == outcome([value])
