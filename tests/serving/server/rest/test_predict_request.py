import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import model_pb2

from serving.server.errors import ServingError
from serving.server.rest.predict_request import parse_predict_request
from tests.serving.server.assertions import serving_error

SPEC = model_pb2.ModelSpec(name="m")


def signature(**inputs):
    """Returns a signature with inputs of these types."""
    result = SignatureDef()
    for name, dtype in inputs.items():
        result.inputs[name].dtype = tf.as_dtype(dtype).as_datatype_enum
    return result


ECHOES = {f"echo_{name}": signature(x=name) for name in "float double int64".split()}
ECHOES |= {f"echo_{name}": signature(x=name) for name in "uint64 string bool".split()}
SIGNATURES = {
    "serving_default": signature(x="float"),
    "two": signature(a="float", b="int64"),
    "none": signature(),
    "half": signature(x="half"),
    **ECHOES,
}


def parse(body, signature="", signatures=SIGNATURES):
    if signature:
        body = {"signature_name": signature, **body}
    text = body if isinstance(body, str) else json.dumps(body)
    return parse_predict_request(text.encode(), SPEC, lambda spec: signatures)


def arrays_of(*args):
    request, _ = parse(*args)
    return {k: tf.make_ndarray(t).tolist() for k, t in request.inputs.items()}


def test_rows_and_columns_are_distinguished():
    assert parse({"instances": [1, 2]})[1]
    assert not parse({"inputs": [1, 2]})[1]


def test_the_path_names_the_model_and_the_body_the_signature():
    request, _ = parse({"instances": [1]}, "echo_int64")
    assert request.model_spec.name == "m"
    assert request.model_spec.signature_name == "echo_int64"
    assert request.inputs["x"].dtype == types_pb2.DT_INT64


ONE = {"x": [[1, 2], [3, 4]]}
TWO = {"a": [1.5, 3], "b": [[2], [4]]}
STRINGS = {"x": [b"a", b"b"]}


@pytest.mark.parametrize(
    ("signature", "body", "arrays"),
    [
        # The name of a single input is optional.
        ("", {"instances": [[1, 2], [3, 4]]}, ONE),
        ("", {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, ONE),
        ("", {"inputs": [[1, 2], [3, 4]]}, ONE),
        ("", {"inputs": {"x": [[1, 2], [3, 4]]}}, ONE),
        # Several inputs have names.
        ("two", {"instances": [{"a": 1.5, "b": [2]}, {"b": [4], "a": 3}]}, TWO),
        ("two", {"inputs": {**TWO, "c": "ignored"}}, TWO),
        # Base64 can replace any string.
        ("echo_string", {"instances": [{"b64": "YQ=="}, "b"]}, STRINGS),
        ("echo_string", {"instances": [{"x": {"b64": "YQ=="}}, {"x": "b"}]}, STRINGS),
        ("echo_string", {"inputs": [{"b64": "YQ=="}, "b"]}, STRINGS),
        ("echo_string", {"inputs": {"x": ["a", {"b64": "Yg=="}]}}, STRINGS),
        ("echo_string", {"inputs": {"b64": "YQ=="}}, {"x": b"a"}),
    ],
)
def test_a_body_becomes_named_arrays(signature, body, arrays):
    assert arrays_of(body, signature) == arrays


@pytest.mark.parametrize(
    ("signature", "body", "message"),
    [
        ("", {}, "Missing 'inputs' or 'instances' key"),
        ("", {"inputs": {}}, "Missing named input: x in 'inputs' object."),
        ("no", {}, 'signature name: "no" not found'),
        ("none", {}, "Failed to get input map for signature: none"),
        ("two", {"instances": [1]}, "instances is a plain list, but expecting"),
        ("two", {"inputs": [1]}, "inputs is a plain value/list, but expecting"),
        ("", {"instances": [{"x": 1}, 2]}, "Expecting object but got list at item 1"),
        ("", {"instances": [1, {"x": 2}]}, "Expecting value/list but got object at i"),
        ("", {"instances": [1, "a"]}, 'element: 1 of .*"a" Type: String'),
        ("", {"instances": [{"x": 1}, {"x": "a"}]}, "element: 1 key: x .*String is n"),
        ("", {"instances": [{"x": 1}, {"z": 1}]}, "element: 1 key: z .* input: z"),
        ("", {"instances": [[1, 2], [3]]}, "element: 1 .* size: 2 but got: 1"),
        ("", {"instances": [[[1, 2]], [[1], [2]]]}, r"shape \[1,2\] but got: \[2,1\]"),
        ("two", {"instances": [{"a": 1}]}, "(?s)element: 0 .* must be equal to: a,b"),
        ("half", {"instances": [1]}, "element: 0 .* UNIMPLEMENTED: .* 1 to type: half"),
        ("", {"instances": []}, '(?s)"instances": .* No values in'),
        ("", {"instances": 1}, '(?s)"instances": 1.* to be an list/array'),
        ("", {"instances": [1], "inputs": 1}, "only one of 'inputs' or 'instances'"),
        ("", {"signature_name": 1}, "'signature_name' key must be a string value"),
        ("", '{"instances": [{"x": 1, "x": 2}]}', "keys must be equal to: x$"),
        ("", '{"instances": [0.5, 1e999]}', "too big .* at offset: 20$"),
        ("", f'{{"inputs": 1{"0" * 400}.0}}', "at offset: 11$"),
        ("", f'{{"inputs": 1{"0" * 400}}}', "at offset: 11$"),
    ],
)
def test_an_invalid_body_is_refused(signature, body, message):
    with pytest.raises(ServingError, match=message):
        parse(body, signature)


def test_the_default_signature_without_inputs_is_refused():
    error = serving_error(parse, {}, signatures={"serving_default": signature()})
    assert error.message.endswith("for signature: DEFAULT")


@pytest.mark.parametrize("key", ["inputs", "instances", "signature_name", "other"])
def test_deep_nesting_is_refused(key):
    for depth in (300, 600, 900, 5_000):
        serving_error(parse, f'{{"{key}": {"[" * depth}{"]" * depth}}}')


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
def test_values_are_parsed_exactly(name, values, key):
    @given(st.lists(values, min_size=1))
    def check(items):
        request, _ = parse({key: items}, f"echo_{name}")
        array = tf.make_ndarray(request.inputs["x"])
        if name == "string":
            assert array.tolist() == [value.encode() for value in items]
        else:
            expected = np.array(items, array.dtype)
            assert np.array_equal(array, expected, equal_nan=True)

    check()
