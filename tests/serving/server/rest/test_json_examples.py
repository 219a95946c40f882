import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.deadline import Deadline
from serving.server.rest import json_rows
from serving.server.rest.json_examples import parse_examples
from tests.serving.server.assertions import serving_error


def parse(body):
    text = body if isinstance(body, str) else json.dumps(body)
    document = json_rows.read_document(
        text.encode(), "examples", lambda size: None, Deadline()
    )
    return parse_examples(document)


def feature_of(value):
    data = parse({"examples": [{"f": value}]})
    return data.example_list.examples[0].features.feature["f"]


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
    data = parse({"context": {"c": 1}, "examples": [{"f": 2.5}, {"f": 3.5}]})
    assert not data.HasField("example_list")
    examples = data.example_list_with_context
    assert examples.context.features.feature["c"].int64_list.value == [1]
    assert len(examples.examples) == 2


def test_examples_in_groups_equal_those_at_once(monkeypatch):
    body = {"examples": [{"f": i / 2} for i in range(9)]}
    at_once = parse(body)
    monkeypatch.setattr(json_rows, "_SMALL", 0)
    monkeypatch.setattr(json_rows, "_GROUP", 1)
    assert parse(body) == at_once


ONE = '{"examples": [{"f": %s}]}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "When method is classify, key 'examples' is expected "),
        ('{"examples": 1}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"context": [], "examples": [{}]}', "must be JSON object but got JSON Array"),
        (ONE % "null", "Feature: f has element with unexpected JSON type: Null"),
        (ONE % "[[1]]", "Feature: f has element with unexpected JSON type: Array"),
        (ONE % "{}", "Feature: f has element with unexpected JSON type: Object"),
        (ONE % "[1, 2.5]", "type in feature: f expecting type: int64"),
        (ONE % '[1.5, "a"]', "type in feature: f expecting type: float"),
        (ONE % '["a", 1]', "type in feature: f expecting type: bytes"),
        (ONE % 2**63, "Feature: f has uint64 element. Only int64 is supported."),
        (ONE % "1e39", "1e+39 to float without loss of precision."),
        (ONE % '{"b64": "*"}', "Unable to base64 decode"),
    ],
)
def test_an_invalid_body_is_refused(body, message):
    error = serving_error(parse, body)
    assert error.code.name == "INVALID_ARGUMENT" and message in error.message


@given(st.lists(st.floats(width=32), min_size=1))
def test_floats_are_parsed_exactly(values):
    result = list(feature_of(values).float_list.value)
    assert repr(result) == repr(values).replace("-nan", "nan")
