import json

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import classification_pb2, model_pb2, regression_pb2

from serving.server.errors import ServingError
from serving.server.rest.json_examples import examples_request

SPEC = model_pb2.ModelSpec(name="m")


def request_of(body, kind=classification_pb2.ClassificationRequest):
    text = body if isinstance(body, str) else json.dumps(body)
    return examples_request(text.encode(), SPEC, kind)


def message_of(body):
    with pytest.raises(ServingError) as error:
        request_of(body)
    assert error.value.code.name == "INVALID_ARGUMENT"
    return error.value.message


def feature_of(value):
    request = request_of({"examples": [{"f": value}]})
    return request.input.example_list.examples[0].features.feature["f"]


def test_a_feature_is_of_the_kind_of_its_values():
    assert feature_of([1.5, 2.5]).float_list.value == [1.5, 2.5]
    assert feature_of([1, -2]).int64_list.value == [1, -2]
    assert feature_of([True, 3, False]).int64_list.value == [1, 3, 0]
    assert feature_of(["é", {"b64": "/w=="}]).bytes_list.value == [
        "é".encode(),
        b"\xff",
    ]
    assert feature_of("x").bytes_list.value == [b"x"]
    assert feature_of([]).WhichOneof("kind") is None


def test_context_goes_with_all_examples():
    body = {"context": {"c": 1}, "examples": [{"f": 2.5}, {"f": 3.5}]}
    request = request_of(body, regression_pb2.RegressionRequest)
    assert request.model_spec == SPEC
    assert not request.input.HasField("example_list")
    given_context = request.input.example_list_with_context
    assert given_context.context.features.feature["c"].int64_list.value == [1]
    assert len(given_context.examples) == 2


def test_the_signature_is_taken_from_the_body():
    request = request_of({"signature_name": "s", "examples": [{}]})
    assert request.model_spec.signature_name == "s"
    assert text_format.MessageToString(request.input) == (
        "example_list {\n  examples {\n  }\n}\n"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected "),
        ('{"examples": 1}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"context": [], "examples": [{}]}', "must be JSON object but got JSON Array"),
    ],
)
def test_a_body_without_examples_is_an_error_in_the_words_of_tf_serving(body, message):
    assert message in message_of(body)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("null", "Feature: f has element with unexpected JSON type: Null"),
        ("[[1]]", "Feature: f has element with unexpected JSON type: Array"),
        ("{}", "Feature: f has element with unexpected JSON type: Object"),
        ("[1, 2.5]", "Unexpected element type in feature: f expecting type: int64"),
        ('[1.5, "a"]', "Unexpected element type in feature: f expecting type: float"),
        ('["a", 1]', "Unexpected element type in feature: f expecting type: bytes"),
        (
            "9223372036854775808",
            "Feature: f has uint64 element. Only int64 is supported.",
        ),
        (
            "1e39",
            "Cannot convert JSON value: 1e+39 to float without loss of precision.",
        ),
        ('{"b64": "*"}', "Unable to base64 decode"),
        (
            "1e999",
            "JSON Parse error: Number too big to be stored in double. at offset: 20",
        ),
        ('1, "f": 2', 'JSON Value: {\n    "f": 1\n} names a feature twice'),
    ],
)
def test_a_wrong_value_is_an_error_in_the_words_of_tf_serving(value, message):
    assert message_of(f'{{"examples": [{{"f": {value}}}]}}') == message


@given(st.lists(st.floats(width=32), min_size=1))
def test_any_floats_arrive_to_the_last_bit(values):
    read = list(feature_of(values).float_list.value)
    assert repr(read) == repr(values).replace("-nan", "nan")
