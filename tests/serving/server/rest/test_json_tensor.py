import base64

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from serving.server.errors import ServingError
from serving.server.rest.json_reader import read_json
from serving.server.rest.json_tensor import decode_base64, to_tensor
from tests.serving.server.assertions import serving_error

NUMBERS = "float double int8 int16 int32 int64 uint8 uint32 uint64".split()


def convert(text, name):
    document = read_json(f'{{"x": {text}}}'.encode())
    dtype = tf.as_dtype(name).as_datatype_enum
    return tf.make_ndarray(to_tensor(document["x"], dtype))


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_become_a_tensor_of_the_signatures_type(name):
    array = convert("[[1, 2, 3], [4, 5, 6]]", name)
    assert array.dtype == tf.as_dtype(name).as_numpy_dtype
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("[true, false]", "bool", [True, False]),
        ('["é", {"b64": "/w=="}, ""]', "string", ["é".encode(), b"\xff", b""]),
        ("7", "float", 7.0),
        ("[[], []]", "int32", [[], []]),
        ("[1, 1180591620717411303424]", "float", [1.0, 2.0**70]),
    ],
)
def test_other_values_become_a_tensor(text, name, values):
    assert convert(text, name).tolist() == values


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        *[
            (text, name, f"JSON Value: {quote} Type: {kind} is not of expected type")
            for text, name, quote, kind in (
                ('"a"', "float", '"a"', "String"),
                ("[1, true]", "float", "true", "True"),
                ("[1, null]", "double", "null", "Null"),
                ("1.5", "int64", "1.5", "Number"),
                ("[1, true]", "int32", "true", "True"),
                (f"[{2**63}]", "int64", f"{2**63}", "Number"),
                ("-1", "uint64", "-1", "Number"),
                ("[1, 300]", "uint8", "300", "Number"),
                ("1", "bool", "1", "Number"),
                ("[1]", "string", "1", "Number"),
                ('{"b64": "eA=="}', "float", '{\n    "b64": "eA=="\n}', "Object"),
            )
        ],
        *[
            (text, name, f"JSON value: {quote} to {name} without loss of precision.")
            for text, name, quote in (
                ("16777216", "float", "16777216"),
                ("[0.5, -16777217]", "float", "-16777217"),
                ("1e39", "float", "1e+39"),
                (f"{2**53}", "double", f"{2**53}"),
                (f"{10**50}", "float", "1e+50"),
            )
        ],
        ("[1, [2]]", "float", "Encountered list at unexpected level: 1 expected < 1"),
        ("[[1], 2]", "float", "found at incorrect level: 2 in the JSON DOM. Expected"),
        ("[[1, 2], [3]]", "float", "size: 1 at level: 1 expected size: 2"),
        ('{"b64": 1}', "string", '"b64": 1\n} not formatted correctly for base64 data'),
        ('{"b64": "*"}', "string", "Unable to base64 decode"),
    ],
)
def test_an_invalid_value_is_refused(text, name, message):
    assert message in serving_error(convert, text, name).message


def test_a_type_without_a_json_form_is_unimplemented():
    error = serving_error(convert, "[1.5]", "half")
    assert error.code.name == "UNIMPLEMENTED"
    assert error.message == "Conversion of JSON Value: 1.5 to type: half"


@pytest.mark.parametrize("text", ["1e999", "[0.5, -1e999]", "[1, 1" + "0" * 400 + "]"])
def test_a_number_that_no_double_holds_overflows(text):
    with pytest.raises(OverflowError):
        convert(text, "double")


def test_nan_and_infinity_are_numbers():
    array = convert("[NaN, Infinity, -Infinity, 1]", "float")
    expected = [float("nan"), float("inf"), float("-inf"), 1]
    assert np.array_equal(array, np.array(expected, np.float32), equal_nan=True)


@given(st.binary())
def test_any_bytes_survive_base64_with_and_without_padding(content):
    text = base64.b64encode(content).decode()
    assert decode_base64({"b64": text}) == content
    assert decode_base64({"b64": text.rstrip("=")}) == content
    assert decode_base64({"b64": "\n".join(text)}) == content


@pytest.mark.parametrize("text", ["e", "eA=", "eA===", "=", "é", "e=A=", "eA=x"])
def test_invalid_base64_is_refused(text):
    with pytest.raises(ServingError, match="Unable to base64 decode"):
        decode_base64({"b64": text})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.just("b64"), inner),
        max_leaves=8,
    ),
    st.sampled_from([*NUMBERS, "bool", "string"]),
)
def test_a_value_in_a_list_has_the_result_of_the_single_value(value, name):
    """Compares the fast path, which lists of one value take, with the slow one."""

    def outcome(value):
        try:
            tensor = to_tensor(value, tf.as_dtype(name).as_datatype_enum)
            return tensor.tensor_content, tensor.string_val
        except (ServingError, OverflowError) as error:
            return type(error), getattr(error, "code", None)

    assert outcome(value) == outcome([value])
