import json

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import classification_pb2, model_pb2, regression_pb2

from serving.server.rest.json_examples import parse_examples_request
from tests.serving.server.assertions import serving_error

SPEC = model_pb2.ModelSpec(name="m")


def parse(body, kind=classification_pb2.ClassificationRequest):
    text = body if isinstance(body, str) else json.dumps(body)
    return parse_examples_request(text.encode(), SPEC, kind)


def feature_of(value):
    request = parse({"examples": [{"f": value}]})
    return request.input.example_list.examples[0].features.feature["f"]


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        ([1.5, 2.5], "float_list", [1.5, 2.5]),
        ([1, -2], "int64_list", [1, -2]),
        ([True, 3, False], "int64_list", [1, 3, 0]),
        (["é", {"b64": "/w=="}], "bytes_list", ["é".encode(), b"\xff"]),
        ("x", "bytes_list", [b"x"]),
    ],
)
def test_a_feature_has_the_kind_of_its_values(value, kind, values):
    feature = feature_of(value)
    assert feature.WhichOneof("kind") == kind
    assert getattr(feature, kind).value == values


def test_an_empty_feature_has_no_kind():
    assert feature_of([]).WhichOneof("kind") is None


def test_the_context_applies_to_all_examples():
    body = {"context": {"c": 1}, "examples": [{"f": 2.5}, {"f": 3.5}]}
    request = parse(body, regression_pb2.RegressionRequest)
    assert request.model_spec == SPEC
    assert not request.input.HasField("example_list")
    examples = request.input.example_list_with_context
    assert examples.context.features.feature["c"].int64_list.value == [1]
    assert len(examples.examples) == 2


def test_the_body_names_the_signature():
    request = parse({"signature_name": "s", "examples": [{}]})
    assert request.model_spec.signature_name == "s"
    assert text_format.MessageToString(request.input) == (
        "example_list {\n  examples {\n  }\n}\n"
    )


ONE = '{"examples": [{"f": %s}]}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected "),
        ('{"examples": 1}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"context": [], "examples": [{}]}', "must be JSON object but got JSON Array"),
        ('{"examples": [{}], "signature_name": 1}', "must be a string value."),
        (ONE % "null", "Feature: f has element with unexpected JSON type: Null"),
        (ONE % "[[1]]", "Feature: f has element with unexpected JSON type: Array"),
        (ONE % "{}", "Feature: f has element with unexpected JSON type: Object"),
        (ONE % "[1, 2.5]", "type in feature: f expecting type: int64"),
        (ONE % '[1.5, "a"]', "type in feature: f expecting type: float"),
        (ONE % '["a", 1]', "type in feature: f expecting type: bytes"),
        (ONE % 2**63, "Feature: f has uint64 element. Only int64 is supported."),
        (ONE % "1e39", "1e+39 to float without loss of precision."),
        (ONE % '{"b64": "*"}', "Unable to base64 decode"),
        (ONE % "1e999", "Number too big to be stored in double. at offset: 20"),
        (ONE % '1, "f": 2', '"f": 1\n} names a feature twice'),
    ],
)
def test_an_invalid_body_is_refused(body, message):
    error = serving_error(parse, body)
    assert error.code.name == "INVALID_ARGUMENT" and message in error.message


@given(st.lists(st.floats(width=32), min_size=1))
def test_floats_are_parsed_exactly(values):
    result = list(feature_of(values).float_list.value)
    assert repr(result) == repr(values).replace("-nan", "nan")
