import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import model_pb2

from serving.server.errors import ServingError
from serving.server.rest.predict_request import predict_request
from tests.serving.server.tiny_data_plane import SmallCore, signature

SPEC = model_pb2.ModelSpec(name="half_plus_two")


def request_of(body):
    text = body if isinstance(body, str) else json.dumps(body)
    return predict_request(text.encode(), SPEC, SmallCore().signatures)


def arrays_of(body):
    request, _ = request_of(body)
    return {k: tf.make_ndarray(t).tolist() for k, t in request.inputs.items()}


def message_of(body):
    with pytest.raises(ServingError) as error:
        request_of(body)
    return error.value.message


def test_rows_and_columns_are_told_apart():
    assert request_of({"instances": [1, 2]})[1]
    assert not request_of({"inputs": [1, 2]})[1]


def test_the_model_stays_and_the_signature_is_taken_from_the_body():
    request, _ = request_of({"instances": [1], "signature_name": "echo_int64"})
    assert request.model_spec.name == "half_plus_two"
    assert request.model_spec.signature_name == "echo_int64"
    assert request.inputs["x"].dtype == types_pb2.DT_INT64


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, 4]]},
        {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]},
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"x": [[1, 2], [3, 4]]}},
    ],
)
def test_a_lone_input_may_be_named_or_not(body):
    assert arrays_of(body) == {"x": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"a": 1.5, "b": [2]}, {"b": [4], "a": 3}]},
        {"inputs": {"a": [1.5, 3], "b": [[2], [4]], "c": "not asked for"}},
    ],
)
def test_inputs_are_found_by_their_names(body):
    arrays = arrays_of({"signature_name": "two", **body})
    assert arrays == {"a": [1.5, 3], "b": [[2], [4]]}


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"b64": "YQ=="}, "b"]},
        {"instances": [{"x": {"b64": "YQ=="}}, {"x": "b"}]},
        {"inputs": [{"b64": "YQ=="}, "b"]},
        {"inputs": {"x": ["a", {"b64": "Yg=="}]}},
    ],
)
def test_base64_stands_wherever_a_string_may(body):
    assert arrays_of({"signature_name": "echo_string", **body}) == {"x": [b"a", b"b"]}


def test_a_lone_base64_is_a_column_without_a_rank():
    body = {"signature_name": "echo_string", "inputs": {"b64": "YQ=="}}
    assert arrays_of(body) == {"x": b"a"}


ELEMENT = "Failed to process element: 1"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"inputs": {}}, "Missing named input: x in 'inputs' object."),
        (
            {"signature_name": "no"},
            'Serving signature name: "no" not found in signature def',
        ),
        (
            {"signature_name": "none"},
            "Failed to get input map for signature: none",
        ),
        (
            {"signature_name": "two", "instances": [1]},
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map",
        ),
        (
            {"signature_name": "two", "inputs": [1]},
            "inputs is a plain value/list, but expecting an object as multiple input "
            "tensors required as per tensorinfo_map",
        ),
        (
            {"instances": [{"x": 1}, 2]},
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [1, {"x": 2}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            {"instances": [1, "a"]},
            f"{ELEMENT} of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: "
            '"a" Type: String is not of expected type: float',
        ),
        (
            {"instances": [{"x": 1}, {"x": "a"}]},
            f"{ELEMENT} key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            'Value: "a" Type: String is not of expected type: float',
        ),
        (
            {"instances": [{"x": 1}, {"z": 1}]},
            f"{ELEMENT} key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            "object: does not have named input: z",
        ),
        (
            {"instances": [[1, 2], [3]]},
            f"{ELEMENT} of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor "
            "size: 2 but got: 1",
        ),
        (
            {"instances": [[[1, 2]], [[1], [2]]]},
            f"{ELEMENT} of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape "
            "[1,2] but got: [2,1]",
        ),
        (
            {"signature_name": "two", "instances": [{"a": 1, "b": 1}, {"a": 1}]},
            f"{ELEMENT} of 'instances' list. JSON object: {{\n    \"a\": 1\n}} keys "
            "must be equal to: a,b",
        ),
        (
            {"signature_name": "half", "instances": [1]},
            "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
            "Conversion of JSON Value: 1 to type: half",
        ),
        (
            {"instances": []},
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            {"instances": 1},
            "JSON Value: {\n    \"instances\": 1\n} Excepting 'instances' to be an "
            "list/array",
        ),
        (
            {"instances": [1], "inputs": 1},
            'JSON Value: {\n    "instances": [\n        1\n    ],\n    "inputs": 1\n} '
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist ",
        ),
        (
            {"signature_name": 1},
            'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
    ],
)
def test_a_wrong_body_is_an_error_in_the_words_of_tf_serving(body, message):
    assert message_of(body) == message


def test_without_inputs_the_default_signature_is_named_so():
    with pytest.raises(ServingError, match="for signature: DEFAULT"):
        predict_request(b"{}", SPEC, lambda spec: {"serving_default": signature()})


def test_a_row_that_names_an_input_twice_is_an_error():
    message = message_of('{"instances": [{"x": 1, "x": 2}]}')
    assert message.endswith("keys must be equal to: x")


def test_a_number_that_is_too_big_is_an_error_with_its_place():
    assert message_of('{"instances": [0.5, 1e999]}') == (
        "JSON Parse error: Number too big to be stored in double. at offset: 20"
    )
    assert message_of(f'{{"inputs": 1{"0" * 400}.0}}').endswith("at offset: 11")
    assert message_of(f'{{"inputs": 1{"0" * 400}}}').endswith("at offset: 11")


@pytest.mark.parametrize("key", ["inputs", "instances", "signature_name", "other"])
def test_deep_nesting_is_an_error(key):
    for depth in (300, 600, 900, 5_000):
        text = f'{{"{key}": {"[" * depth}{"]" * depth}}}'
        with pytest.raises(ServingError):
            request_of(text)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("float", st.floats(width=32)),
        ("double", st.floats()),
        ("int64", st.integers(-(2**63), 2**63 - 1)),
        ("uint64", st.integers(0, 2**64 - 1)),
        ("string", st.text(st.characters(exclude_categories=["Cs"]))),
        ("bool", st.booleans()),
    ],
)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_any_values_arrive_to_the_last_bit(name, values, key):
    @given(st.lists(values, min_size=1))
    def arrive(given_values):
        request, _ = request_of({"signature_name": f"echo_{name}", key: given_values})
        array = tf.make_ndarray(request.inputs["x"])
        if name == "string":
            assert array.tolist() == [value.encode() for value in given_values]
        else:
            expected = np.array(given_values, array.dtype)
            assert np.array_equal(array, expected, equal_nan=True)

    arrive()
