import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example.feature_pb2 import Feature

from serving.server.deadline import Deadline
from serving.server.rest import json_rows
from serving.server.rest.json_examples import parse_examples
from tests.serving.server.assertions import serving_error


def parse(body):
    data = json.dumps(body).encode()
    document = json_rows.read_document(data, "examples", lambda size: None, Deadline())
    return parse_examples(document)


def feature(value):
    data = parse({"examples": [{"f": value}]})
    return data.example_list.examples[0].features.feature["f"]


def test_a_feature_has_the_kind_of_its_values():
    for value, kind, values in (
        ([1, -2, True], "int64_list", [1, -2, 1]),
        (["é", {"b64": "/w=="}], "bytes_list", ["é".encode(), b"\xff"]),
        ("x", "bytes_list", [b"x"]),
    ):
        assert feature(value) == Feature(**{kind: {"value": values}})
    assert feature([]) == Feature()


@given(st.lists(st.floats(width=32), min_size=1))
def test_floats_are_parsed_exactly(values):
    result = list(feature(values).float_list.value)
    assert repr(result) == repr(values).replace("-nan", "nan")


def test_the_context_applies_to_all_examples_read_at_once_or_in_groups(monkeypatch):
    rows = [{"f": i / 2} for i in range(9)]
    data = parse({"context": {"c": 1}, "examples": rows})
    context = data.example_list_with_context
    assert context.context.features.feature["c"] == feature(1)
    assert len(context.examples) == 9
    monkeypatch.setattr(json_rows, "_SMALL", 0)
    monkeypatch.setattr(json_rows, "_GROUP", 1)
    assert parse({"context": {"c": 1}, "examples": rows}) == data


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "JSON Value: [] When method is classify, key 'examples' is expected "),
        ({"examples": 1}, "JSON Value: 1 Expecting 'examples' value to be an list"),
        ({"examples": []}, "JSON Value: [] 'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": 1, "examples": [{}]}, "Example must be JSON object but got JSON"),
        ({"examples": [{"f": None}]}, "Feature: f has element with unexpected JSON"),
        ({"examples": [{"f": [[1]]}]}, "Feature: f has element with unexpected JSON"),
        ({"examples": [{"f": {}}]}, "Feature: f has element with unexpected JSON type"),
        ({"examples": [{"f": [1, 2.5]}]}, "Unexpected element type in feature: f"),
        ({"examples": [{"f": [1.5, "a"]}]}, "Unexpected element type in feature: f"),
        ({"examples": [{"f": ["a", 1]}]}, "Unexpected element type in feature: f"),
        ({"examples": [{"f": 2**63}]}, "Feature: f has uint64 element. Only int64 is"),
        ({"examples": [{"f": 1e39}]}, "Cannot convert JSON value: 1e+39 to float"),
    ],
)
def test_an_invalid_body_is_refused(body, message):
    error = serving_error(parse, body)
    assert error.code.name == "INVALID_ARGUMENT" and error.message.startswith(message)
